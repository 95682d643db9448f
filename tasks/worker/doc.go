// Package worker runs the attempts that masters offer to this node.
//
// A Worker has slots. An offered attempt starts at once when its slots are
// free, otherwise it waits in the queue of its master, and the masters' queues
// take turns. The runner of the task's kind runs it; what it writes streams
// back on the link (see output), and its outcome is kept until the master has
// acknowledged it. A slot is free again when the runner has returned, not
// before.
//
// # When a link breaks
//
// Attempts go on. When a link to the same master is there again, it says which
// attempts it still wants; the others are stopped. Output that was on its way
// is sent again from where the master has it, and outcomes that were not
// acknowledged too. An attempt of an at-most-once task is stopped when its
// master has been silent for the lease. Outcomes that nobody fetches are
// dropped after Config.KeepOutcome.
//
// # When this agent is killed
//
// What ran is lost. But of a task that its master has on disk (Offer.Durable) the
// outcome is put into the journal here, with the output that the master has not
// taken, and stays there until the ack, or for Config.Retain. After a restart it is
// there as an attempt that has ended, and is sent on the next link from its master,
// whether that names the attempt or has given it up: then it may spare another.
//
// The result leaves at once, beside the write: until that has come to its end a kill
// can cost the outcome either way, and less often if the master has it already. When
// the disk is full, or what is kept exceeds its bounds, outcomes are kept in memory
// as those of other tasks are. One that names files by hash is never put on disk,
// since what is staged does not outlive the agent (package blob): its task counts
// as lost with its worker.
//
// # Goroutines
//
// One for each attempt that runs, which goes on with the next that waits, and a
// few that wait for more. Messages arrive on the goroutine of their link
// and never block.
package worker
