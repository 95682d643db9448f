//go:build linux

package test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A hook has the agent's own API, environment, user and directory, and what it
// writes is in the agent's log.
func TestHooks(t *testing.T) {
	t.Parallel()
	h := newLab(t).hosts(1)[0]
	h.Env = append(h.Env, "SECRET_OF_MINE=x", "SCAGENT_ON_EVENT=task=echo $SCAGENT_TASK_STATE as $(id -un) with $SECRET_OF_MINE$SCAGENT_ON_EVENT; cat >/dev/null")
	members := binary(t) + ` members -json | tr -d ' \n' | grep -o '"name":"n1"'`
	a := h.agent("-name", "n1")
	a.call("submit", "--", "true").ok(t)
	a.err.await(t, "[INFO] hook: output: ", `event="task"`, `text="done as root with x"`)
	b := h.agent("-name", "n1", "-cluster", "other", "-on-event", "workerAvailable="+members, "-on-event", "workerAvailable=./nope")
	b.err.await(t, `text="\"name\":\"n1\""`)
	b.err.await(t, "[WARN] hook: the command failed", `hook="workerAvailable=./nope"`, `err="exit status 127"`)
	info := decode[struct{ Counters map[string]uint64 }](t, b.call("info", "-json").ok(t))
	if n := info.Counters["hook_runs"]; n < 2 || info.Counters["hook_runs_failed"] != 1 {
		t.Errorf("info counts %d runs of hooks and %d failures, want at least 2 and 1", n, info.Counters["hook_runs_failed"])
	}
	h.scagent("agent", "-on-event", "x").complains(t, 2, `-on-event is "x"`, "want NAME=COMMAND")
}

func TestNoHookSurvivesAKilledAgent(t *testing.T) {
	for _, role := range []string{"worker,master", "master"} {
		t.Run(role, func(t *testing.T) {
			eachNet(t, func(t *testing.T, h *host) {
				s := &survivors{marker: fmt.Sprintf("65432.%07d%06d", os.Getpid(), markers.Add(1))}
				lines := strings.ReplaceAll(leaves, "$M", s.marker)
				a := h.agent("-role", role, "-on-event", "update="+lines, "-on-event", "**="+lines)
				t.Cleanup(func() {
					for _, pid := range s.pids() {
						syscall.Kill(pid, syscall.SIGKILL)
					}
				})
				a.call("data", "x=1").ok(t)
				eventually(t, patience, "both hooks run", func() (bool, any) {
					n := len(s.pids())
					return n == 8, n
				})
				a.signal(syscall.SIGKILL)
				took := eventually(t, patience, "after an agent was killed nothing of its hooks is left", func() (bool, any) {
					pids := s.pids()
					return len(pids) == 0, pids
				})
				t.Logf("that is so after %s", took.Round(time.Millisecond))
				a.await()
			})
		})
	}
}
