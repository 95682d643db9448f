//go:build linux

package test

import (
	"path/filepath"
	"slices"
	"testing"
)

// TestAnOpenAgentStaysOnItsLAN asks for what leads beyond it: each is refused in one
// line that says what would do, and that does.
func TestAnOpenAgentStaysOnItsLAN(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	hosts := l.hosts(2)
	h := hosts[0]
	secret := filepath.Join(l.dir, "secret")
	h.scagent("secret", "new", "-secret-file", secret).ok(t)
	remedy := []string{"is not on a private network of this host", "scagent secret new", "-insecure"}
	agentArgs := func(args ...string) []string { return append([]string{"agent", "-log-level", "ERR"}, args...) }
	running := hosts[1].agent()
	for _, c := range []struct {
		name   string
		status int
		args   []string
		words  []string
	}{
		{"a public address of its own", 1, agentArgs("-advertise", "203.0.113.5"), append(remedy, "-advertise", "203.0.113.5")},
		{"with a port", 1, agentArgs("-advertise", "203.0.113.5:9"), append(remedy, "-advertise", "203.0.113.5")},
		{"a private address elsewhere", 1, agentArgs("-advertise", "10.99.0.1"), append(remedy, "-advertise", "10.99.0.1")},
		{"joining a public address", 1, agentArgs("-join", "192.0.2.1"), append(remedy, "join 192.0.2.1")},
		{"joining a private address elsewhere", 1, agentArgs("-join", "10.77.0.2,10.99.0.1:44201"), append(remedy, "join 10.99.0.1")},
		{"joining an address of IPv6", 1, agentArgs("-join", "[2001:db8::1]:44201"), append(remedy, "2001:db8::1")},
		{"a command that joins", 125, []string{"submit", "-join", "192.0.2.1", "true"}, append(remedy, "join 192.0.2.1")},
		{"joining later", 1, []string{"join", "-addr", "unix://" + running.socket, "192.0.2.1"}, append(remedy, "192.0.2.1")},
		{"both ways out", 2, agentArgs("-insecure", "-secret-file", secret), []string{"-insecure and -secret-file exclude each other"}},
	} {
		l.run(t, c.name, func(t *testing.T) {
			from := h
			if slices.Contains(c.args, "-addr") {
				from = hosts[1]
			}
			from.scagent(c.args...).complains(t, c.status, c.words...)
		})
	}
	for _, c := range []struct {
		name, addr string
		args       []string
	}{
		{"insecure", "203.0.113.5:44201", []string{"-insecure", "-advertise", "203.0.113.5", "-join", "192.0.2.1"}},
		{"secured", "203.0.113.5:9", []string{"-secret-file", secret, "-advertise", "203.0.113.5:9", "-join", "192.0.2.1"}},
	} {
		l.run(t, c.name, func(t *testing.T) {
			if a := h.agent(c.args...); a.addr != c.addr {
				t.Errorf("the agent is at %s, want %s", a.addr, c.addr)
			}
		})
	}
	l.run(t, "a host with public addresses alone", func(t *testing.T) {
		public := l.host()
		l.connect("203.0.113", public)
		public.sh("ip route add default via 203.0.113.254").ok(t)
		a := public.agent()
		a.err.await(t, "[WARN] agent: without a secret only agents on this host are reached", "203.0.113.1 is not on a private network", "scagent secret new")
		if a.addr != "127.0.0.1:44201" {
			t.Errorf("the agent is at %s, want it on loopback", a.addr)
		}
		public.scagent("submit", "--", "echo", "hi").want(t, 0, "hi\n")
	})
}
