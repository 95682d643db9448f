// Package history is what an agent writes down about tasks, for checking afterwards
// what was promised of them.
//
// A history is a file of JSON lines, one for each Event; test/check reads those of all
// agents of a run. It is not a log for people, and not the journal: nothing is ever
// read from it by an agent.
//
// # Order
//
// A Log keeps the order of the calls of Add, and stamps with the host's monotonic
// clock, which all processes of a host share to within a microsecond. So events of one
// host are ordered; those of two hosts only by what caused what, as an offer comes
// before the start that it leads to. Stamps are integers, cheap to read.
//
// An event is added before others can see what it tells of: Offered before the offer
// is sent, Submitted before the id is given out. What comes from others is added as it
// is received. What says that something is on disk, or is told to someone because it is, is
// added after the disk has said so.
//
// # What is lost
//
// Add hands the event to a goroutine that writes at once what there is; so an agent that
// is killed may lose its last events, and leave its last line torn. What is there is
// always the beginning of what happened: checkers go by that, and tell a start that was cut short by Stopped, which the last line of all others is. If
// the disk is slow or full, MaxPending events wait for it, and then all who Add do.
//
// # Where events belong
//
// A nil *Log may be called; what costs time is asked for with On. Call sites, under the
// locks that they hold anyway:
//
//	submit           master/submit.go admitLocked, when the run has its ids. Keys, and hashes of bodies, are not known yet
//	refused          master/durable.go acceptLocked, before an error is returned
//	targets          master/submit.go submittedLocked, if the run is for several workers: the ids of all of them
//	submitted        there and in batch.go add, when the task is on disk and before the id is returned: one for each task
//	journaled        durable.go: task in journalRunsLocked, attempt and end in journalLocked, where the journal has said that
//	                 it is on disk. The result of an attempt after which there is another is not put there
//	offered          master/dispatch.go sendLocked, before SendOffer
//	accepted         master/messages.go Accept, when the step changes
//	granted          master/messages.go grantLocked, before SendGrant, the first time
//	given_back       master/dispatch.go GivenBack, for each that is taken back
//	reattached       master/messages.go State, for each that is not unknown
//	lease_lost       master/task.go lostLocked (owner); worker/attempt.go expireLocked, before dropLocked (worker)
//	result_received  master/messages.go Result, first, for every result of a task that is known; also late ones
//	result_acked     before every SendAck: master/messages.go sendAck, durable.go settleLocked
//	ended            master/task.go concludeLocked, when the result is complete and, if the task is journaled, on disk
//	cancel           master/run.go cancelAllLocked, for each task that it stops
//	cancelled_told   master/run.go Cancel, before it returns, when the cancellation is on disk: for each task that was asked for
//	answered         master/kept.go answered, where a final Result is given out: Task, and of a run Tasks, Results and
//	                 followers; not List
//	recovered        master/restore.go tell, when the journal was read at a start: chunks of at most 1000 ids, one
//	                 state each, empty: not final
//	journal_on       after the last of them; also in durable.go journalWorksLocked, with the first task that it takes after journal_off
//	journal_off      there, when it refuses a task
//	forgotten        master/retain.go expireLocked for what is in the journal, else kept.go forgetLocked, unless ephemeral
//	rejected         worker/messages.go rejectLocked, before SendReject
//	started          worker/run.go readyLocked; spec is HashBytes of the offer's, taken in Offer
//	finished         worker/run.go run, where the phase becomes finished, of the outcome that encode kept
//	result_sent      worker/run.go tellLocked, before SendResult
//	revoked          worker/attempt.go stopLocked, with the first reason; its callers all come by it
//	killed           nowhere yet: what an agent that was killed left running is ended by its supervisor, which has no history
//	booted, stopped  Open and Close: agent/start.go openHistory, after openHome; agent/agent.go Close, last of all
//	stopping         agent/agent.go Leave and Close, first
//	member_up/down   agent/members.go writeMember; by id, not name
//	deliver          who reads a feed, as a harness does, for each event that it got; test/chaos reads none
//	fault, fault_over, leftover, swept   a harness: test/chaos/cluster told.go and sweep.go
//
// Recovered with a final state counts as Ended, so that a master that was killed between
// the commit and its event is not held to have forgotten.
package history
