package agent

import (
	"fmt"
	"os"
	"os/user"
	"runtime"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
)

// Info describes this agent.
func (a *Agent) Info() api.Info {
	self := a.pool.Self()
	a.mu.Lock()
	doc, draining := a.document, a.draining
	a.mu.Unlock()
	i := api.Info{
		ID: a.id.id, Name: a.name, Version: a.cfg.Version, Cluster: a.cfg.Cluster, Roles: []string{}, Kinds: []tasks.Kind{}, Functions: []string{},
		Addr: self.AddrPort.String(), Bind: a.port.Addr().String(), Posture: "open", Trust: a.trust(),
		Slots: self.Slots, Available: self.Available, Draining: draining,
		Pid: os.Getpid(), StateDir: a.home.StateDir, Socket: a.home.Socket, StartedAt: a.started.UTC(), Goroutines: runtime.NumGoroutine(),
		Limits: map[string]int64{
			"spec_bytes": tasks.MaxSpecBytes, "inline_bytes": tasks.MaxInlineBytes, "value_bytes": tasks.MaxValueBytes,
			"argument_bytes": tasks.MaxArgvBytes, "document_bytes": membership.MaxDocumentBytes,
		},
		Counters: a.counters(),
	}
	for _, r := range a.cfg.Roles {
		i.Roles = append(i.Roles, string(r))
	}
	for _, k := range doc.Kinds {
		i.Kinds = append(i.Kinds, tasks.Kind(k))
	}
	i.Functions = append(i.Functions, doc.Functions...)
	if a.worker != nil {
		i.Busy = int(a.worker.Load().Busy)
	}
	return i
}

// trust says who may run what here as whom.
func (a *Agent) trust() string {
	if a.worker == nil {
		return "this node runs no tasks of others"
	}
	who := "every host that can reach " + a.pool.Self().AddrPort.String()
	as := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil {
		as = u.Username
	}
	return fmt.Sprintf("no secret is set: %s may run any command here as user %s", who, as)
}

// counters are for `info`, and for finding out why something does not work.
func (a *Agent) counters() map[string]uint64 {
	t, p := a.master.Stats(), a.port.Stats()
	c := map[string]uint64{
		"tasks_submitted": t.Submitted, "tasks_done": t.Done, "tasks_failed": t.Failed, "tasks_cancelled": t.Cancelled, "tasks_lost": t.Lost,
		"tasks_open": uint64(t.Open), "attempts": t.Attempts, "attempts_lost": t.LostAttempts, "attempts_rejected": t.Rejected, "attempts_recalled": t.Recalled,
		"gossip_messages_bad": a.badMessages.Load(),
	}
	_ = p
	return c
}
