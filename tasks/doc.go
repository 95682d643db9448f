// Package tasks says what a task is.
//
// A Task is a unit of work: a command, a file, a git repository, a registered
// Go function or a JavaScript function. A Submission joins it with a Target,
// which says for which workers it is, and Options, which say how it is
// delivered; submitting makes a run of one task, or of one per worker. Each
// task is tried one or more times. Each try is an Attempt and holds one or more
// slots of one worker from its start until its runner has returned. What the
// runner saw is the attempt's Outcome; the task's last word is its Result.
//
// The packages below this one move and run tasks:
//
//	tasks/query    the expressions that pick workers
//	tasks/wire     frames and links: how all this travels
//	tasks/master   queues, picks workers, tries again, keeps results
//	tasks/worker   slots, attempts, output
//	tasks/runner   one package per kind: how a task is run
//	tasks/blob     contents too large to travel inside a task
//
// None of them knows of members or gossip: a node is an id, and a function that
// dials it.
//
// # Delivery
//
// Delivery is at least once: when a worker is lost, its tasks are started
// again elsewhere, at most Options.Attempts times. With Attempts 1 a task is
// never started twice, and one whose worker was lost after it may have started
// ends as StateLost. See RunError for telling apart what never started, what
// failed, and what nobody can know.
//
// # Trust
//
// A worker runs what it is sent: every host that can connect may run code here.
package tasks
