package command

// topics are the texts of `scagent help TOPIC`.
var topics = map[string]string{
	"targets": `
Which workers get a task

  (nothing)          any one worker, whichever has room first
  -on NAME,…         these, by name or id
  -all               every available worker
  -where EXPR        every worker that matches, see: scagent help query
  -one, -n N         only so many of those; alone, -n 3 is any three
  -prefer EXPR       among them, sooner where EXPR is true or larger
  -except NAME,…     never these
  -expect N          fewer workers than N is an error, and nothing is started
  -force             with -on: also a worker that was set unavailable
  -wait-workers D    how long to wait for a first match
  -dry-run           only say who would get it, and why the others not

The set of workers is fixed when the task is submitted. Whether a submit is for several workers is
decided by these flags (-all, -where without -one, -n above 1, -on with several names), never by how
many matched: scripts see one form of output.`,

	"query": `
Expressions of -where and -prefer

  data.gpu == "a100" and facts.cpus >= 8 and not ("tracker" in role)

Names: name, role (a list), data (what the user says of a node), facts (what its agent found out),
slots, free. Operators: == != < <= > >= in, contains, startsWith, endsWith, matches, and or not,
? :, ??, + - * / %. Functions: has len min max abs lower upper trim int float any all filter map.

A comparison with a field that a node does not have is neither true nor false, and does not match:
neither data.gpu == "x" nor data.gpu != "x" picks a node without data.gpu. has(data.gpu) asks for
the field, and data.gpu ?? "none" gives a missing one a value.

"scagent members -where EXPR" tries an expression out; "scagent submit -where EXPR -dry-run true"
says why a worker does not match.`,

	"events": `
Events on the bus

"scagent event NAME DATA" sends an event to members of the pool, whatever their role: to all, or with
-on, -where and -except to some, as submit has them, see: scagent help targets. Programs, hooks
(scagent agent -on-event) and "scagent monitor" receive them; with -request, those that answer are
waited for, and their replies printed.

Names are parts of letters, digits, _ and -, with dots between them, such as build.linux.done. In a
pattern for names, * stands for any one part, and ** at the end for one or more:

  build.*     build.done, not build.linux.done and not build
  build.**    both of the former, and still not build
  *.done      build.done
  **          all names

These are the names of an agent's own events, which it tells programs on its host in the same way;
they cannot be sent:

  workerAvailable, workerUnavailable, masterAvailable, masterUnavailable, trackerAvailable,
  trackerUnavailable, update           members that come, go and change
  task                                 a task that was submitted here changed its state
  taskReceived                         a worker here began an attempt
  workerTaskComplete                   a task that was submitted here has ended
  missed                               events are missing here, as they were read too slowly or
                                       after too long; whatever the pattern

An event carries at most 1 MiB of data, which is any JSON.`,

	"output": `
What submit prints

For one target, the task's standard output and error are passed on byte for byte, and the result of
-js or -func is one line of JSON. For several, each line is preceded by the worker's name, and lines
are never mixed; the last line gets an end if it has none, and one above 1 MiB is broken.
-fold prints equal outputs once, under the names that gave them; -no-prefix leaves the names out.
At the end there is a line on standard error for each worker where the task did not end with 0.

A task that starts anew after it had printed says so on standard error, and prints again. With
several targets and -retry, each task's output is kept back until it ends, and only that of its last
attempt is printed.

map prints what a task wrote when it ends, whole; of tasks that were run again, what the last attempt
wrote. -k keeps the order of the inputs (of more than 1000 results, the tasks wait for the one whose
turn it is, unless -j says more); -lb prints line by line as it is written.

logs prints the same of a task or run that was submitted before, as far as it was kept: of each stream
the first 64 KiB and the last 960 KiB.

-json prints one line per task as it ends; -json-stream one per event as it happens.
-out GLOB brings files back into -out-dir, for several targets into a directory per worker.`,

	"exit": `
Exit statuses

submit, one target     the task's own status; 128+n when signal n killed it; 124 timed out;
                       126 not executable; 127 no such command; 1 when -js or -func returned
                       an error
submit, several; map   0 when all ended with 0; else how many did not, at most 100, and 101
                       for more
wait                   as submit for what it waited for: one task, or several; a run for several
                       workers counts as several
submit, map, wait      125 for errors of scagent's own: called wrongly, no worker, refused, lost;
                       130 when ended by ^C or cancel; 141 when standard output was closed
every other command    0 done, 1 failed, 2 called wrongly; event also 130 and 141, as above`,

	"environment": `
Environment variables

  SCAGENT_ADDR       the agent that commands talk to, as -addr
  SCAGENT_TOKEN_FILE the file with the token for an agent at http://127.0.0.1:PORT, where it is not
                     an agent of this user
  SCAGENT_A_B        the flag -a-b of "scagent agent"; lists have commas, but SCAGENT_ON_EVENT is one hook
  NO_COLOR           no colours

In a task's environment: SCAGENT_TASK_ID, SCAGENT_RUN_ID, SCAGENT_ATTEMPT, SCAGENT_NODE,
SCAGENT_INDEX, SCAGENT_SLOTS, SCAGENT_WORKDIR; HOME and TMPDIR inside the work directory; PATH, LANG
and TZ of the agent; nothing else of the agent's.`,

	"hooks": `
Commands that run when something happens

  scagent agent -on-event 'NAME=COMMAND' …

The shell runs COMMAND on the agent's host, as the agent's user, in the directory where the agent was
started, for each event whose name matches: workerAvailable, workerUnavailable, masterAvailable,
masterUnavailable, trackerAvailable, trackerUnavailable, update, task, or the name of one that a node
has sent. In NAME, * stands for one part of a name and ** for the rest: build.*, build.**, **.

The command reads the event as one line of JSON on standard input. Its environment is the agent's,
without what begins with SCAGENT_, and with:

  SCAGENT_EVENT, SCAGENT_EVENT_SEQ, SCAGENT_EVENT_TIME    its name, number here, and time
  SCAGENT_EVENT_FROM, _FROM_ID, _LAMPORT                  who sent it; only of what nodes send
  SCAGENT_EVENT_DATA                                      its data as JSON, up to 4 KiB
  SCAGENT_EVENT_REQUEST=1                                 standard output is the reply
  SCAGENT_MEMBER_NAME, _ID, _ADDR, _STATUS, _ROLES        of a member's event
  SCAGENT_TASK_ID, _RUN_ID, _STATE, _WORKER, _KIND        of a task's
  SCAGENT_NODE, SCAGENT_NODE_ID, SCAGENT_ADDR             this agent; commands of scagent talk to it

Other nodes choose the values: quote them ("$SCAGENT_MEMBER_NAME"), and never give them to eval.

A hook runs for one event after the other; when it is too slow it loses the oldest. After
-hook-timeout it is stopped, with all that it has started, and so is what it leaves running when it
ends. What it writes goes to the agent's log, 64 KiB of each run. That it fails is said there once,
until it succeeds again. A request is answered by the first hook whose NAME matches.`,

	"config": `
The configuration file of an agent

"scagent agent -config FILE" reads a JSON object whose keys are the names of the agent's flags:

  {"name": "n1", "role": ["worker"], "slots": 4, "join": ["10.0.0.5"], "drain-timeout": "30s",
   "data": {"gpu": "a100"}}

For -config DIR, the files *.json in it are read in the order of their names. What a later file says
of a key replaces what an earlier one said. Flags beat the environment, which beats files, which beat
defaults. SIGHUP reads everything again and applies data and log-level; the rest needs a restart.`,

	"trust": `
Who may do what

Without a secret, an agent serves its own LAN: every host on it can run commands on the workers, as
the user that the agent says when it starts (nobody, if the agent is root). With a secret, only those
who have it are let in, wherever they are, see: scagent help secret. What a worker does for those it
lets in is bounded by its own policy, see: scagent help policy. A task that runs may do whatever its
user may.

Commands here talk to the agent by a unix socket, which its own user and root can open, and with
"agent -api-group GROUP" the members of that group too. Who can open it can run anything on every
worker. "scagent info" shows the socket and its mode.

"agent -http 127.0.0.1:PORT" serves the same API over TCP, on this host alone, to who has the token:

  curl -H "Authorization: Bearer $(cat FILE)" http://127.0.0.1:PORT/v1/members
  scagent members -addr http://127.0.0.1:PORT

The agent and "scagent info" say which FILE that is. It is api-token in the state directory, readable
by the agent's user alone, and is kept when the agent ends, so that scripts go on: remove it and
restart the agent for another. Commands find it by themselves where the agent is this user's, else
SCAGENT_TOKEN_FILE names it; it is never an argument nor part of a URL. From another host:
ssh -L PORT:127.0.0.1:PORT HOST.`,

	"secret": `
A pool with a secret

  scagent secret new                 on one host; the secret is then in the file that this names
  copy the file to the other hosts, with mode 0600, and start their agents again
  scagent secret token               prints the worker token: who has that can run tasks, not submit any
  scagent secret rotate              replaces it; the agents tell each other, nothing need be restarted

An agent finds it in -secret-file, in the file that SCAGENT_SECRET_FILE names, or in
/etc/scagent/secret (root) or ~/.config/scagent/secret. It is never given on a command line. Every
node has the same, or one that replaced it. All TCP is then TLS 1.3 with both sides verified, gossip
and multicast are sealed, and nodes may be anywhere.

-tls-ca, -tls-cert and -tls-key put certificates of your own in place of those that the secret gives
(the secret is still needed, for gossip). One with the OU "scagent-worker" may not submit tasks.

A tracker is asked with curl like this, where ca.pem is what "scagent secret ca" printed:

  url=https://tracker:44201/hostsAvailable
  curl --cacert ca.pem -H "$(scagent secret header GET $url)" $url`,

	"policy": `
What a worker lets tasks do

"scagent agent -policy FILE" reads a JSON object, of which everything may be left out. It wins over
whatever is asked for; a task that it does not allow is refused, and is tried elsewhere.

  {"kinds": ["command", "js"],        kinds of tasks that are run; default: all; also -allow
   "run_as": "builder",               user as whom they run; also -run-as
   "limits": {
     "wall_seconds": 3600,            an attempt's run; then it ends as with -timeout
     "memory_bytes": 1073741824,      data of one process
     "processes": 512,                of the user in all; root has no such limit
     "open_files": 1024,              of one process
     "file_bytes": 1073741824,        of a file that a process writes
     "output_bytes": 67108864},       of each of stdout and stderr; with more the task has failed
   "git": {
     "schemes": ["https", "ssh"],     default: all; file needs the kind command too
     "hosts": ["github.com", "*.example.org"]},
   "env": {
     "allow": ["CI", "APP_*"],        variables that a task may set; default: all
     "refuse": ["LD_*"]},             variables that it may not
   "dirs": ["/srv/work"]}             where -dir may point, and below; default: anywhere

-allow and -run-as beat what the file says. "scagent info" shows the policy in force. A file and a
repository can hold any program: kinds keep order, and only run_as and limits keep a program in
bounds. Registered functions run inside the agent, with none.`,
}
