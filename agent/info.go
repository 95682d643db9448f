package agent

import (
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strings"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/policy"
)

// Info describes this agent.
func (a *Agent) Info() api.Info {
	self := a.pool.Self()
	a.mu.Lock()
	doc, draining := a.document, a.draining
	a.mu.Unlock()
	i := api.Info{
		ID: a.id.id, Name: a.name, Version: a.cfg.Version, Cluster: a.cfg.Cluster, Roles: []string{}, Kinds: []tasks.Kind{}, Functions: []string{},
		Addr: self.AddrPort.String(), Bind: a.port.Addr().String(), Posture: a.posture(), Trust: a.trust(),
		Slots: self.Slots, Available: self.Available, Draining: draining,
		Pid: os.Getpid(), StateDir: a.home.StateDir, Socket: a.home.Socket, HTTP: a.local.url, TokenFile: a.local.tokenFile, StartedAt: a.started.UTC(), Goroutines: runtime.NumGoroutine(),
		Limits: map[string]int64{
			"spec_bytes": tasks.MaxSpecBytes, "inline_bytes": tasks.MaxInlineBytes, "value_bytes": tasks.MaxValueBytes,
			"argument_bytes": tasks.MaxArgvBytes, "document_bytes": membership.MaxDocumentBytes,
		},
		Counters: a.counters(),
		Policy:   a.policy(),
	}
	i.SocketMode, i.SocketGroup = a.home.Access()
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

// policy is the one in force: kinds and user are written out.
func (a *Agent) policy() policy.Policy {
	p := a.cfg.Policy
	if a.worker == nil {
		p.Kinds, p.RunAs = []tasks.Kind{}, ""
		return p
	}
	p.RunAs, p.Kinds = a.taskUser(), nil
	for _, k := range a.document.Kinds {
		p.Kinds = append(p.Kinds, tasks.Kind(k))
	}
	return p
}

// trust says who may run what here as whom.
func (a *Agent) trust() string {
	who := ""
	switch {
	case a.keys != nil && a.cfg.PKI != nil:
		who = "whoever has a certificate of the authority"
	case a.keys != nil:
		who = "whoever has the secret"
	case a.cfg.Insecure:
		who = "no secret, and -insecure: EVERYBODY who can reach " + a.pool.Self().AddrPort.String()
	case a.port.Addr().Addr().IsLoopback() || a.neighbours != nil && a.neighbours.Networks() == "":
		who = "no secret: every user of this host"
	case a.neighbours == nil: // a network for tests
		who = "no secret: every host"
	default: // whatever address is announced
		who = "no secret: every host on " + a.neighbours.Networks()
	}
	if a.worker == nil {
		return who + " may be in the pool; this node runs no tasks of others"
	}
	return fmt.Sprintf("%s may run tasks here (%s) as user %s", who, strings.Join(a.document.Kinds, ", "), a.taskUser())
}

// taskUser is the name of the user as whom tasks run.
func (a *Agent) taskUser() string {
	if a.runAs != nil {
		return a.runAs.Name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// counters are for `info`, and for finding out why something does not work.
func (a *Agent) counters() map[string]uint64 {
	t, p, g, h, b := a.master.Stats(), a.port.Stats(), a.pool.Stats(), a.hub.Stats(), a.bus.Stats()
	c := map[string]uint64{
		"tasks_submitted": t.Submitted, "tasks_done": t.Done, "tasks_failed": t.Failed, "tasks_cancelled": t.Cancelled, "tasks_lost": t.Lost,
		"tasks_open": uint64(t.Open), "attempts": t.Attempts, "attempts_lost": t.LostAttempts, "attempts_rejected": t.Rejected, "attempts_recalled": t.Recalled, "tasks_stuck": t.Stuck,
		"links": uint64(h.Links), "links_accepted": h.Accepted, "links_dialed": h.Dialed, "links_refused": h.Refused, "links_malformed": h.Malformed, "links_forbidden": h.Forbidden,
		"http_refused": a.httpRefused.Load(), "http_crowded": a.httpCrowded.Load(), "api_refused": a.apiRefusals.Load(),
		"gossip_packets_in": g.PacketsIn, "gossip_packets_out": g.PacketsOut, "gossip_joins": g.Joins, "gossip_join_errors": g.JoinErrors,
		"gossip_messages_bad": a.badMessages.Load(), "documents_fetched": g.DocumentsFetched, "document_fetch_errors": g.DocumentFetchErrors,
		"events_sent_to_all": b.SentToAll, "events_sent": b.SentDirect, "events_received": b.Received, "events_missed": b.Missed,
		"event_fetches": b.Pulls, "event_fetch_errors": b.PullErrors, "events_malformed": b.Malformed,
		"port_packets_dropped": p.PacketsDropped, "port_accept_errors": p.AcceptErrors,
	}
	for k, n := range p.Sorted {
		c["port_connections_"+k.String()] = n
	}
	for r, n := range p.Refused {
		c["port_refused_"+r.String()] = n
	}
	for r, n := range p.PacketsRefused {
		c["port_packets_refused_"+r.String()] = n
	}
	for r, n := range g.Refused {
		c["gossip_refused_"+r] = n
	}
	if a.local.socket != nil {
		c["api_refused_peers"] = a.local.socket.Refused()
	}
	if h := a.runningHooks(); h != nil {
		s := h.Stats()
		c["hook_runs"], c["hook_runs_failed"], c["hook_runs_timed_out"] = s.Runs, s.Failed, s.TimedOut
		c["hook_events_missed"], c["hook_requests_busy"], c["hook_output_dropped_bytes"] = s.Missed, s.Busy, s.Dropped
	}
	if a.beacon != nil {
		b := a.beacon.Stats()
		c["beacon_sent"], c["beacon_received"], c["beacon_strangers"], c["beacon_send_errors"] = b.Sent, b.Received, b.Strangers, b.SendErrors
		c["beacon_refused"] = b.OffLink + b.Malformed + b.Version + b.Foreign + b.Unsigned + b.Conflicts + b.NoAddress + b.Replayed + b.Limited
	}
	return c
}
