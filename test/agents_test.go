//go:build linux

package test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// agent is an agent that runs.
type agent struct {
	*process
	host   *host
	name   string
	addr   string // ip:port that others are told
	socket string
}

// launch starts an agent without waiting until it is up.
func (h *host) launch(args ...string) *agent {
	t := h.lab.t
	t.Helper()
	a := &agent{process: h.start(append([]string{"agent"}, args...)...), host: h}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("agent %s %q wrote:\n%s", a.name, args, a.err)
		}
	})
	return a
}

// agent starts an agent and waits until it is up.
func (h *host) agent(args ...string) *agent {
	h.lab.t.Helper()
	return h.launch(args...).up()
}

var upLine = regexp.MustCompile(`^scagent: agent "([^"]*)" is up at (\S+) as .* API at unix://(\S+)$`)

// up waits for the line that an agent prints when it is up.
func (a *agent) up() *agent {
	a.host.lab.t.Helper()
	line := a.err.await(a.host.lab.t, " is up at ")
	m := upLine.FindStringSubmatch(line)
	if m == nil {
		a.host.lab.t.Fatalf("an agent printed %q; want %s", line, upLine)
	}
	a.name, a.addr, a.socket = m[1], m[2], m[3]
	return a
}

// call runs a command of the program that talks to this agent.
func (a *agent) call(command string, args ...string) *result {
	a.host.lab.t.Helper()
	return a.begin(command, args...).await()
}

// begin starts a command that talks to this agent.
func (a *agent) begin(command string, args ...string) *process {
	a.host.lab.t.Helper()
	return a.host.start(append([]string{command, "-addr", "unix://" + a.socket}, args...)...)
}

// member is a line of `members -json`.
type member struct {
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Addr      string          `json:"addr"`
	Port      int             `json:"port"`
	Roles     []string        `json:"roles"`
	Status    string          `json:"status"`
	Available bool            `json:"available"`
	Slots     int             `json:"slots"`
	Busy      int             `json:"busy"`
	Data      json.RawMessage `json:"data"`
	Facts     json.RawMessage `json:"facts"`
	Self      bool            `json:"self"`
}

func (m member) String() string {
	self := ""
	if m.Self {
		self = " (self)"
	}
	return fmt.Sprintf("%s %s:%d %s%s", m.Name, m.Addr, m.Port, m.Status, self)
}

// task is a line of `submit -json`.
type task struct {
	ID       string          `json:"id"`
	Run      string          `json:"run"`
	Worker   string          `json:"worker"`
	State    string          `json:"state"`
	ExitCode int             `json:"exit_code"`
	Signal   string          `json:"signal"`
	Stdout   string          `json:"stdout"`
	Stderr   string          `json:"stderr"`
	Result   json.RawMessage `json:"result"`
	Error    string          `json:"error"`
	Attempt  int             `json:"attempt"`
}

// decode reads one value of JSON.
func decode[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}

// members returns the members as the agent sees them.
func (a *agent) members() []member {
	a.host.lab.t.Helper()
	return decode[[]member](a.host.lab.t, a.call("members", "-json").ok(a.host.lab.t))
}

// member returns a member by its name; its zero value if there is none.
func (a *agent) member(name string) member {
	a.host.lab.t.Helper()
	for _, m := range a.members() {
		if m.Name == name {
			return m
		}
	}
	return member{}
}

// alive returns the members with a status of alive.
func alive(ms []member) []member {
	var live []member
	for _, m := range ms {
		if m.Status == "alive" {
			live = append(live, m)
		}
	}
	return live
}

// assemble waits until each of the agents sees all of them alive, with unique
// names, and returns how long that took.
func assemble(t testing.TB, limit time.Duration, agents ...*agent) time.Duration {
	t.Helper()
	return eventually(t, limit, "each agent sees all alive", func() (bool, any) {
		for _, a := range agents {
			live, names := alive(a.members()), map[string]bool{}
			for _, m := range live {
				names[m.Name] = true
			}
			if len(names) != len(agents) || len(live) != len(agents) {
				return false, fmt.Sprintf("%s sees %v", a.addr, live)
			}
		}
		return true, nil
	})
}

// reunion is how long a pool may take to be one again after some of it could not be
// reached: half a minute, says package membership.
const reunion = 2 * patience

// workers starts n agents with flags on a host of their own, with a master named m that
// runs no tasks, and waits until the master sees all. The workers are w1, w2 and so on.
func workers(t testing.TB, n int, flags ...string) (master *agent, ws []*agent) {
	t.Helper()
	h := newLab(t).host()
	master = h.launch("-name", "m", "-role", "master")
	for i := range n {
		ws = append(ws, h.launch(append([]string{"-name", fmt.Sprintf("w%d", i+1), "-slots", "4"}, flags...)...))
	}
	master.up()
	for _, w := range ws {
		w.up()
	}
	eventually(t, patience, "the master sees all", func() (bool, any) {
		live := alive(master.members())
		return len(live) == n+1, live
	})
	return master, ws
}

// gone reports whether a process has ended, by its pid.
func gone(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}
