package history

import "github.com/scagent/scagent/tasks"

// Event is one line of a history. Which fields an event has beside the first five
// is said at its name. A Log sets those five.
type Event struct {
	// Mono is nanoseconds of the host's monotonic clock, which all processes of a
	// host share: it orders them. Wall is Unix nanoseconds, for what other programs
	// of the host have written down.
	Mono int64  `json:"mono"`
	Wall int64  `json:"wall"`
	Node string `json:"node"` // id of the node that says so
	Boot string `json:"boot"` // of its start
	Name Name   `json:"ev"`

	Task   tasks.ID    `json:"task,omitzero"`
	Run    tasks.ID    `json:"run,omitzero"`
	N      uint32      `json:"n,omitempty"`      // number of the attempt
	Worker string      `json:"worker,omitempty"` // node id
	State  tasks.State `json:"state,omitempty"`
	Hash   string      `json:"hash,omitempty"` // of an outcome, see Hash; of what was asked for, see HashBytes
	Spec   string      `json:"spec,omitempty"` // of a task as it travels, see HashBytes
	Key    string      `json:"key,omitempty"`  // idempotency key of a submission
	What   What        `json:"what,omitempty"`
	Why    string      `json:"why,omitempty"` // for people, but for WhyMissed and codes of tasks

	Kind       tasks.Kind   `json:"kind,omitempty"`
	AtMostOnce bool         `json:"at_most_once,omitempty"`
	Ephemeral  bool         `json:"ephemeral,omitempty"`
	Slots      int          `json:"slots,omitempty"`
	Kinds      []tasks.Kind `json:"kinds,omitempty"`
	Tasks      []tasks.ID   `json:"tasks,omitempty"`
	Workers    []string     `json:"workers,omitempty"`
	Peer       string       `json:"peer,omitempty"` // node id of whom the event is about
	To         string       `json:"to,omitempty"`   // node id at the other end; empty: all
	Host       string       `json:"host,omitempty"` // which machine's clock Mono is
	Client     string       `json:"client,omitempty"`
	Seq        uint64       `json:"seq,omitempty"`
}

// Name says what happened.
type Name string

// What the owner of a task, which is the agent that submits it, writes down.
const (
	Submit         Name = "submit"          // a submission was asked for: key, hash of its body
	Submitted      Name = "submitted"       // the id of a task is given out: task, run, kind, spec, at_most_once, ephemeral, key, hash of the body, and worker if it is for that one alone
	Refused        Name = "refused"         // a submission is refused: key, why
	Targets        Name = "targets"         // the workers of a run that is for several: run, workers
	Journaled      Name = "journaled"       // on disk: task, what, and n of an attempt or a result
	Offered        Name = "offered"         // an attempt is about to leave: task, n, worker
	Accepted       Name = "accepted"        // the worker has it: task, n, worker
	Rejected       Name = "rejected"        // written by the worker: it will not take it: task, n, why is the code
	Granted        Name = "granted"         // an at-most-once attempt may start now: task, n, worker
	GivenBack      Name = "given_back"      // a recalled attempt will not start: task, n, worker
	Reattached     Name = "reattached"      // after a new link the attempt goes on: task, n, worker
	LeaseLost      Name = "lease_lost"      // task, n, worker; what is the side that gives up
	ResultReceived Name = "result_received" // task, n, worker, hash; why is the code, empty when it is good
	ResultAcked    Name = "result_acked"    // the worker may forget it: task, n, worker
	Ended          Name = "ended"           // the final state: task, state, hash, n; why is the code
	Cancel         Name = "cancel"          // somebody wants it stopped: task
	CancelledTold  Name = "cancelled_told"  // and was answered: task
	Answered       Name = "answered"        // a client was given the final state: task, state, hash
	Recovered      Name = "recovered"       // found in the journal at a start: tasks, some of them at a time
	Forgotten      Name = "forgotten"       // their retention has ended: tasks
	JournalOn      Name = "journal_on"      // the journal is in use, and all that it holds was told of by recovered
	JournalOff     Name = "journal_off"     // it cannot be written: why
)

// What a worker writes down.
const (
	Started    Name = "started"     // task, n, kind, spec, slots
	Finished   Name = "finished"    // nothing of it runs any more, and this is the outcome: task, n, hash; why is the code, empty when it is good, and "busy" when it was not started after all
	ResultSent Name = "result_sent" // task, n
	Revoked    Name = "revoked"     // it was told to stop: task, n, why
	Killed     Name = "killed"      // nothing of it runs any more, and there is no outcome: task, n
)

// What every agent writes down.
const (
	Booted     Name = "booted"      // the first event of a start: slots and kinds of its worker, host
	Stopping   Name = "stopping"    // it is about to leave the pool
	Stopped    Name = "stopped"     // the last event of a start that was not cut short
	MemberUp   Name = "member_up"   // peer
	MemberDown Name = "member_down" // peer; what says how
	Deliver    Name = "deliver"     // an event of a feed went to a client: client, seq; why WhyMissed says that some before are gone
)

// What a harness writes down.
const (
	Fault     Name = "fault"      // one begins: what, peer, to
	FaultOver Name = "fault_over" // it is over: what, peer, to
	Leftover  Name = "leftover"   // found after the run: what, peer, why names it
	Swept     Name = "swept"      // peer was searched for leftovers, to the end
)

var names = func() map[Name]bool {
	m := map[Name]bool{}
	for _, n := range []Name{
		Submit, Submitted, Refused, Targets, Journaled, Offered, Accepted, Rejected, Granted, GivenBack, Reattached, LeaseLost,
		ResultReceived, ResultAcked, Ended, Cancel, CancelledTold, Answered, Recovered, Forgotten, JournalOn, JournalOff,
		Started, Finished, ResultSent, Revoked, Killed, Booted, Stopping, Stopped, MemberUp, MemberDown, Deliver,
		Fault, FaultOver, Leftover, Swept,
	} {
		m[n] = true
	}
	return m
}()

// What tells events of one name apart.
type What string

// Of Journaled.
const (
	TheTask    What = "task"
	TheAttempt What = "attempt"
	TheResult  What = "result" // of an attempt after which there is another
	TheEnd     What = "end"    // of the task
)

// Of LeaseLost.
const (
	ByOwner  What = "owner"
	ByWorker What = "worker"
)

// Of MemberDown.
const (
	MemberFailed What = "failed"
	MemberLeft   What = "left"
)

// Of Fault. Others may be used; all but Kill last until their FaultOver.
const (
	Kill  What = "kill"  // SIGKILL to the agent of peer
	Pause What = "pause" // SIGSTOP
	Cut   What = "cut"   // peer and to cannot reach each other, or one way
	Loss  What = "loss"
	Disk  What = "disk" // full, or failing
)

// WhyMissed is the reason of a Deliver before which events are gone, and the
// client was told.
const WhyMissed = "missed"
