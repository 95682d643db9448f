// Package agent is scagent as a library: a node of the pool inside a program.
//
// An Agent opens one port (agent/port), joins the pool (membership), runs what
// others send it (tasks/worker) and sends work to others (tasks/master). It joins
// these parts and owns their lifetimes; each of them knows nothing of the others.
//
//	a, err := agent.New(agent.DefaultConfig())
//	…
//	a.Handle(resize)                  // a function made with tasks.NewFunc
//	err = a.Start(ctx)
//	defer a.Close()
//	out, err := resize.Call(ctx, a, tasks.Any(), in)
//
// # The way of a task
//
//	Submit (tasks.go) ─▶ tasks/master ─▶ link (tasks/wire) ─▶ tasks/worker ─▶ tasks/runner
//
// Members come from the pool (members.go) and are handed to the master as
// workers; the announcement of tasks for many nodes goes by gossip (announce.go);
// large contents travel over HTTP on the same port (content.go).
//
// # Trust
//
// An agent without a secret runs what any host on its network sends it. Info
// says who may run what as whom.
package agent
