//go:build linux

package test

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWhoeverHasTheIDCanComeBack submits by one agent, walks away, and comes back by
// another, on another host, in either posture.
func TestWhoeverHasTheIDCanComeBack(t *testing.T) {
	t.Parallel()
	for _, posture := range []string{"open", "secured"} {
		t.Run(posture, func(t *testing.T) {
			l := newLab(t)
			hs := l.hosts(2)
			var flags []string
			if posture == "secured" {
				hs[0].scagent("secret", "new", "-secret-file", l.dir+"/secret").ok(t)
				flags = []string{"-secret-file", l.dir + "/secret"}
			}
			a := hs[0].agent(append([]string{"-name", "a"}, flags...)...)
			b := hs[1].agent(append([]string{"-name", "b"}, flags...)...)
			assemble(t, patience, a, b)

			gate := l.dir + "/gate"
			line := "echo one; echo err >&2; until test -e " + gate + "; do sleep 0.05; done; echo two; exit 7"
			id := strings.TrimSpace(a.call("submit", "-on", "b", "-detach", "-shell", line).ok(t))
			follow := b.begin("logs", "-f", id)
			follow.out.await(t, "one")
			follow.err.await(t, "err")
			wait := b.begin("wait", id)
			if out := b.call("status", id).ok(t); !containsAll(out, []string{id, "running", "Worker:   b"}) {
				t.Errorf("status of what runs: %s", out)
			}
			b.call("logs", "-stream", "stdout", id).want(t, 0, "one\n")
			if out := a.call("ps").ok(t); !containsAll(out, []string{id, "running"}) {
				t.Errorf("ps where it was submitted: %s", out)
			}
			if out := b.call("ps").ok(t); strings.Contains(out, id) {
				t.Errorf("ps elsewhere: %s", out)
			}
			l.file("gate", "")
			if r := wait.await(); r.status != 7 || r.stdout+r.stderr != "" {
				t.Errorf("%s\nwant status 7 and nothing said", r)
			}
			if r := follow.await(); r.status != 0 || r.stdout != "one\ntwo\n" || r.stderr != "err\n" {
				t.Errorf("%s\nwant all that the task wrote, and status 0", r)
			}
			b.call("logs", id).want(t, 0, "one\ntwo\n")
			if r := b.call("wait", "-json", id); r.status != 7 || decode[task](t, r.stdout).Stdout != "one\ntwo\n" {
				t.Errorf("%s\nwant what submit -json prints", r)
			}

			run := strings.TrimSpace(a.call("submit", "-all", "-detach", "sleep", "300").ok(t))
			wait = b.begin("wait", run)
			eventually(t, patience, "both run", func() (bool, any) {
				out := b.call("status", run).ok(t)
				return strings.Count(out, "running") == 2, out
			})
			if r := b.call("cancel", run); r.status != 0 || r.stderr != "scagent: cancelled 2 tasks\n" {
				t.Error(r)
			}
			if r := wait.await(); r.status != 130 {
				t.Errorf("%s\nwant status 130", r)
			}

			nobody := strings.Repeat("a", 25) + "e"
			b.call("status", nobody).complains(t, 1, nobody, "node aaaaaaaa, which is not in the pool now")
			b.call("wait", nobody).complains(t, 125, nobody, "node aaaaaaaa, which is not in the pool now")
			b.call("logs", "x").complains(t, 2, "not an id")

			// The owner's host is gone, without a word.
			long := strings.TrimSpace(a.call("submit", "-on", "b", "-detach", "sleep", "300").ok(t))
			wait = b.begin("wait", long)
			follow = b.begin("logs", "-f", long)
			eventually(t, patience, "it runs", func() (bool, any) {
				out := b.call("status", long).ok(t)
				return strings.Contains(out, "running"), out
			})
			a.signal(syscall.SIGSTOP)
			stopped := time.Now()
			wait.await().complains(t, 125, "not in the pool now; its tasks go on when it is back")
			within(t, "who waits is told that the owner is gone", time.Since(stopped), 20*time.Second)
			follow.await().complains(t, 1, "not in the pool now; its tasks go on when it is back")
			b.call("status", long).complains(t, 1, long, "not in the pool now; its tasks go on when it is back")
			a.signal(syscall.SIGCONT)
		})
	}
}
