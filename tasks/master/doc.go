// Package master queues tasks, picks workers for them, and sees each to its end.
//
// Only the node that submitted a task writes its state, so nothing here needs
// agreement with anybody. A submission becomes a Run of one or more tasks
// (submit.go). A task that may go to any of several workers waits in the queue
// of its class, which joins all tasks with the same demands and options (class.go); one that
// is for a certain worker waits in that worker's queue. A worker that has credit
// is given the next task it fits (dispatch.go); credit is its slots and, when
// tasks are short beside the round trip, some more, so that the next ones are
// there already. What is sent but has not started can be taken back for a worker
// that has nothing to do.
//
// # Delivery
//
// Each try is an attempt with a number that only grows. The link is the truth
// about a worker (links.go): when it breaks, it is dialled again at once. The
// same agent answers: both say what they hold, and nothing runs twice. Nobody
// listens there, or another start of the agent does, or all is silent past the
// lease: the attempts are lost and their tasks go elsewhere. The first final
// result counts; what comes later is dropped.
//
// A task of at most one attempt is offered, accepted, granted, and only then
// started: without the grant it cannot have run.
//
// # What is on disk
//
// With a Journal, a run that is not ephemeral is on disk before Submit returns it
// (durable.go), each attempt before it leaves, each grant before it may start, and each
// end before anybody is told and before the worker may forget the result. A step of its
// own stands for each of these waits: recording, granting, ending. New reads it all
// back (restore.go); Resume then dials the workers that had attempts, which go on.
// Ended runs leave memory before they leave the disk (kept.go, retain.go).
//
// # Output
//
// What an attempt writes is kept, its first and its last part. A Follower gets
// every byte; when it does not read, the attempt waits, and nothing else does.
//
// # Locking
//
// One mutex guards everything of a Master. The sends of a link append to a buffer
// or write what goes without waiting, so they are made under it; nothing that could
// wait is. Goroutines
// are started to dial and to fetch; Close waits for them.
package master
