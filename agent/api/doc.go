// Package api is the agent's local HTTP API: what commands and scripts talk to.
//
// NewHandler makes an http.Handler of a Backend, which is the agent. All bodies
// are JSON, but for output and blobs; the types in types.go are what travels, in
// both directions. Package client speaks it from Go; from a shell it is
//
//	curl --unix-socket /run/scagent/1.sock http://scagent/v1/members
//	curl -H "Authorization: Bearer $(cat FILE)" http://127.0.0.1:PORT/v1/members
//
// the latter with `agent -http 127.0.0.1:PORT`, and FILE as `scagent info` says.
//
// # Routes
//
//	GET  /v1/info                 Info
//	GET  /v1/members              [Member, …]
//	POST /v1/tasks                SubmitRequest → Submitted
//	     ?follow=1                → StreamEvent a line, the first "submitted"
//	     ?dry_run=1               → DryRun
//	POST /v1/batches              BatchRequest, then a BatchTask a line → StreamEvent a line
//	GET  /v1/tasks                [TaskStatus, …], oldest first, without output and results
//	     ?state=a,b &limit=100 &after=ID &newest=1 (the last ones instead of the first)
//	GET  /v1/tasks/{id}           TaskStatus, or RunStatus for the id of a run
//	GET  /v1/tasks/{id}/output    bytes: ?stream=stdout|stderr &follow=1
//	POST /v1/tasks/{id}/cancel    CancelRequest (or nothing) → Stopped; a task or a run
//	GET  /v1/runs/{id}/events     StreamEvent a line, as with POST's follow=1; a run or a task
//	     ?follow=0                what there is by now
//	     ?output=0                without output, but for what is kept in results
//	GET  /v1/events               server-sent events, each an Event; Last-Event-ID or ?after=N
//	     ?event=PATTERN,…         only those with such names, and "missed"; see bus.Pattern
//	POST /v1/events               SendRequest → Sent or, with request, a Reply a line, as they come
//	PUT  /v1/available            AvailableRequest
//	PUT  /v1/data                 any JSON
//	POST /v1/drain                answered when no task runs here any more
//	POST /v1/join                 JoinRequest → Joined
//	POST /v1/leave
//	POST /v1/bench                BenchRequest → BenchLine a line, as they are measured; ends when the client hangs up
//	PUT  /v1/blobs                bytes → Blob
//	GET  /v1/blobs/{hash}         bytes
//	GET  /healthz, /readyz        "ok"
//
// A request that would go wrong silently is refused instead: JSON with unknown,
// misspelt or doubled fields, unknown query parameters, fields that mean nothing
// for the task's kind.
//
// # Tasks of other agents
//
// An id says which node a task or run was submitted to. With Options.Elsewhere the
// routes about one task or run answer for those of other nodes too, with what the
// owner answers. When it is not in the pool the code is owner_away. NewTaskHandler
// serves these routes to other agents.
//
// # Errors
//
// Every answer that is an error is ErrorBody, with a stable word (see the Code
// constants), one line that says what was wrong and what to do, and a fitting
// status.
//
// # Streams
//
// Whoever follows a run gets every byte of it, and the tasks wait for a follower
// that is slow; when it hangs up they go on. For whoever watches the events nothing
// waits: up to FeedEvents of those that it asked for wait for it, then it loses the
// oldest, and reads a "missed" with their number in their place. Who reads nothing at
// all for half a minute is disconnected, and can come back with Last-Event-ID. The
// ids are those of all events; with a filter, some are left out.
//
// Replies to a request are waited for as long as it says. When the client hangs up,
// they are waited for no longer. An answer that ends in the middle, without the end
// that HTTP has for it, is that of an agent that ended.
//
// # Batches
//
// POST /v1/batches runs many tasks, each on any one worker of the target. Its body
// is read while it is answered, so a client has to do both at once. Of the body no
// more is read while as many tasks as the limit says have not ended, so that neither
// side holds all of them; the end of the body is the end of the run.
//
// A line that is no good is told as an event "error" with its index. It ends the
// input: the lines before it go on, and the client reads their results as before.
// The answer has empty lines where nothing else is to be said for a while. When the
// client hangs up, what has not ended is cancelled.
//
// # Trust
//
// Whoever can use the API can run anything on every worker. There are two ways to it.
//
// A unix socket is guarded by the file system and, on accept, by who the kernel
// says connects: see package home. No browser speaks over one, so what looks like a
// page's request (Origin, Sec-Fetch-Site) is refused all the same, for those who
// make a socket reachable by other means.
//
// TCP can be reached by every user of the host, and by every page in a browser on
// it. It is on loopback alone (ParseTCP), and Options.Token and Options.Hosts are set:
//
//   - Every request but /healthz and /readyz, which tell nothing, carries the token,
//     as Authorization: Bearer. Nothing else is read: not the query, no cookie.
//   - The Host must be one of the agent's own (Hosts), so that a name which was made
//     to point here gets 421.
//   - A request from a page (Origin, Sec-Fetch-Site) must be from a page of the agent
//     itself. No answer lets other origins read it, and preflights are refused.
//   - JSON must be sent as application/json, which no form can.
//   - GET and HEAD change nothing.
//
// Who has not shown the token can hold a connection for some seconds, and there are
// at most 256. Another user of the host can still keep TCP busy; the socket is not
// affected.
//
// The token is that of one agent, 256 random bits in a file that only its user can
// read (home.Home.Token). A program that listens at the port while the agent is
// down can ask for it: the client of this module sends it only to an agent that
// lives, but curl sends it to whoever is there.
package api
