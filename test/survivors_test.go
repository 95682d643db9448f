//go:build linux

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// survivors are how the processes of a test's tasks are known: the time that they
// sleep is nobody else's.
type survivors struct {
	marker string
	agent  *agent
}

var markers atomic.Int64

// manyTasks is how many tasks run in the agents that are killed, and leaves what a
// task starts that runs on for ever: as it is, in a session of its own, and as a
// daemon of which nothing shows whose it is. With its shell there are 4 processes.
const (
	manyTasks = 50
	leaves    = `(cd /; env -i setsid /bin/sh -c "/bin/sleep $M & exit" </dev/null >/dev/null 2>&1 &)
		setsid sleep $M >/dev/null 2>&1 &
		sleep $M &
		exec sleep $M`
)

// begin starts many tasks on an agent and waits until all their processes run.
func begin(t testing.TB, a *agent) *survivors {
	t.Helper()
	s := &survivors{fmt.Sprintf("76543.%07d%06d", os.Getpid(), markers.Add(1)), a}
	t.Cleanup(func() {
		for _, pid := range s.pids() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	body, err := json.Marshal(map[string]any{
		"task":    map[string]any{"kind": "command", "shell": strings.ReplaceAll(leaves, "$M", s.marker)},
		"options": map[string]any{"attempts": 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", a.host.Path(a.socket))
	}}}
	defer client.CloseIdleConnections()
	for range manyTasks {
		r, err := client.Post("http://agent/v1/tasks", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode/100 != 2 {
			t.Fatalf("POST /v1/tasks: %s: %s", r.Status, text)
		}
	}
	eventually(t, patience, "all tasks run", func() (bool, any) {
		n := len(s.pids())
		return n == 4*manyTasks, n
	})
	return s
}

// pids returns the processes of the tasks.
func (s *survivors) pids() []int {
	return processesWith(func(argv []string) bool { return argv[len(argv)-1] == s.marker })
}

// processesWith returns those whose arguments are such.
func processesWith(ok func(argv []string) bool) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		if len(b) > 0 && ok(strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// supervisors returns the supervisor processes of the agent, while it lives.
func (s *survivors) supervisors() (pids []int) {
	for _, pid := range processesWith(func(argv []string) bool { return len(argv) == 2 && argv[1] == "__supervisor" }) {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(s.agent.pid()) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// work returns the names below the agent's directory of work directories.
func (s *survivors) work(t testing.TB) (names []string) {
	t.Helper()
	dir := s.agent.host.Path("/var/lib/scagent/1/work")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
		below, _ := os.ReadDir(filepath.Join(dir, e.Name()))
		for _, b := range below {
			names = append(names, filepath.Join(e.Name(), b.Name()))
		}
	}
	return names
}

// gone waits until nothing of the tasks is left, and at most n directories are.
func (s *survivors) gone(t testing.TB, what string, n int) {
	t.Helper()
	took := eventually(t, patience, what, func() (bool, any) {
		pids, names := s.pids(), s.work(t)
		return len(pids) == 0 && len(names) <= n, fmt.Sprint(pids, names)
	})
	t.Logf("%s after %s", what, took.Round(time.Millisecond))
}

// eachNet runs a test on a host with cgroups, and on one without.
func eachNet(t *testing.T, f func(t *testing.T, h *host)) {
	t.Run("cgroups", func(t *testing.T) {
		h := newLab(t).host()
		if !processes.Usable() {
			lack(t, "cgroups of version 2 that may be made")
		}
		f(t, h)
	})
	t.Run("no cgroups", func(t *testing.T) {
		h := newLab(t).host()
		h.sh(`grep -- ' - cgroup2 ' /proc/self/mountinfo | while read -r _ _ _ _ dir _; do umount -l "$dir" || exit 1; done`).ok(t)
		f(t, h)
	})
}

func TestNothingSurvivesAKilledAgent(t *testing.T) {
	eachNet(t, func(t *testing.T, h *host) {
		a := h.agent("-slots", strconv.Itoa(manyTasks))
		s := begin(t, a)
		killed := time.Now()
		a.signal(syscall.SIGKILL)
		s.gone(t, "after an agent was killed nothing of its tasks is left", 0)
		a.await()
		if took := a.ended.Sub(killed); took >= waitDelay {
			t.Errorf("whoever reads what the agent prints does not see its end within %s", took)
		}
		h.agent().call("submit", "--", "echo", "hi").want(t, 0, "hi\n")
	})
}

func TestNothingSurvivesTheNextStart(t *testing.T) {
	eachNet(t, func(t *testing.T, h *host) {
		other := h.agent("-name", "other", "-state-dir", "/var/lib/other", "-cluster", "other")
		spared := other.begin("submit", "-shell", "echo started; sleep 3; echo done")
		spared.out.await(t, "started")
		a := h.agent("-slots", strconv.Itoa(manyTasks), "-state-dir", "/var/lib/scagent/1")
		s := begin(t, a)
		both := append(s.supervisors(), a.pid())
		if len(both) != 2 {
			t.Fatalf("the agent has %d supervisor processes, want 1", len(both)-1)
		}
		for _, pid := range both { // so that neither sees the end of the other
			syscall.Kill(pid, syscall.SIGSTOP)
		}
		for _, pid := range both {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		a.await()
		if len(s.pids()) != 4*manyTasks {
			t.Fatalf("of the tasks %d processes run; want all, else the test shows nothing", len(s.pids()))
		}
		h.agent("-state-dir", "/var/lib/scagent/1")
		s.gone(t, "after the next start nothing of the tasks is left", 2) // its own, with the record
		spared.await().want(t, 0, "started\ndone\n")
	})
}

func TestNothingSurvivesAnAgentThatEnds(t *testing.T) {
	eachNet(t, func(t *testing.T, h *host) {
		a := h.agent("-slots", strconv.Itoa(manyTasks), "-drain-timeout", "200ms")
		s := begin(t, a)
		supervisors := s.supervisors()
		a.signal(syscall.SIGTERM)
		if r := a.await(); r.status != 0 {
			t.Errorf("%s\nwant status 0", r)
		}
		if pids, names := s.pids(), s.work(t); len(pids) > 0 || len(names) > 0 {
			t.Errorf("when the agent has ended, %v run and %v are there", pids, names)
		}
		if len(supervisors) != 1 || !gone(strconv.Itoa(supervisors[0])) {
			t.Errorf("the supervisor processes %v are to be one, and gone", supervisors)
		}
	})
}

// TestADaemonEndsWithItsTask covers, with an agent as it comes, tasks that end by
// themselves while others run.
func TestADaemonEndsWithItsTask(t *testing.T) {
	eachNet(t, func(t *testing.T, h *host) {
		a := h.agent("-slots", "2")
		m := fmt.Sprintf("76543.%07d%06d", os.Getpid(), markers.Add(1))
		daemon := strings.ReplaceAll(`(cd /; env -i setsid /bin/sh -c "/bin/sleep $M & exit" </dev/null >/dev/null 2>&1 &); `, "$M", m)
		running := func() int { return len(processesWith(func(argv []string) bool { return argv[len(argv)-1] == m })) }
		p := a.begin("submit", "-shell", daemon+"echo ready; sleep 1000")
		p.out.await(t, "ready")
		eventually(t, patience, "the daemon runs", func() (bool, any) { return running() == 1, running() })
		for range 3 {
			a.call("submit", "-shell", daemon+"exit 7").want(t, 7, "")
			if n := running(); n != 1 {
				t.Errorf("%d daemons run, want that of the task that runs alone", n)
			}
		}
		p.signal(syscall.SIGINT)
		p.await().want(t, 130, "ready\n")
		if n := running(); n != 0 {
			t.Errorf("after all tasks have ended %d daemons run", n)
		}
	})
}
