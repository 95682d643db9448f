//go:build linux

package test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestTheSecretIsReplacedUnderLoad rotates the secret at one host while tasks go
// between two others. A third is stopped meanwhile, and a fourth off; both find back
// with the secret that they know.
func TestTheSecretIsReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	hosts := l.hosts(4)
	names := []string{"a", "b", "asleep", "off"}
	first := filepath.Join(l.dir, "a")
	hosts[0].scagent("secret", "new", "-secret-file", first).ok(t)
	file := func(i int) string { return filepath.Join(l.dir, names[i]) }
	launch := func(i int) *agent { return hosts[i].agent("-name", names[i], "-secret-file", file(i)) }
	var agents []*agent
	for i := range names {
		if i > 0 {
			hosts[0].secret(first, "show", names[i])
		}
		agents = append(agents, launch(i))
	}
	assemble(t, patience, agents...)
	a, b, asleep, off := agents[0], agents[1], agents[2], agents[3]

	asleep.signal(syscall.SIGSTOP)
	defer asleep.signal(syscall.SIGCONT)
	off.kill()
	eventually(t, patience, "the two are missed", func() (bool, any) {
		ms := a.members()
		return len(alive(ms)) == 2, ms
	})

	stop := make(chan struct{})
	var load sync.WaitGroup
	done := make([]int, 2)
	for i, from := range []*agent{a, b} {
		load.Go(func() {
			for tick := time.NewTicker(100 * time.Millisecond); ; done[i]++ {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				if r := from.call("submit", "-on", names[1-i], "--", "echo", "hi"); r.status != 0 || r.stdout != "hi\n" || r.stderr != "" {
					t.Error(r)
				}
			}
		})
	}
	old := hosts[0].scagent("secret", "show", "-secret-file", first).ok(t)
	begin := time.Now()
	hosts[0].scagent("secret", "rotate", "-secret-file", first).ok(t)
	next := hosts[0].scagent("secret", "show", "-secret-file", first).ok(t)
	b.err.await(t, "agent: the secret was replaced: from=a")
	t.Logf("the other host has the new secret after %v", time.Since(begin).Round(time.Millisecond))
	for _, who := range []*agent{a, b} {
		who.err.await(t, "gossip is sealed with the new secret")
	}

	asleep.signal(syscall.SIGCONT)
	agents[3] = launch(3)
	took := assemble(t, reunion, agents...)
	t.Logf("those that slept through it are back after %v", took.Round(time.Millisecond))
	for _, name := range names {
		b.call("submit", "-on", name, "--", "echo", "hi").want(t, 0, "hi\n")
	}
	for i, name := range names {
		agents[i].call("submit", "-on", names[(i+1)%4], "--", "echo", "hi").want(t, 0, "hi\n")
		eventually(t, patience, name+" has written down the new secret", func() (bool, any) {
			b, err := os.ReadFile(file(i))
			return strings.HasPrefix(string(b), next) && strings.Contains(string(b), strings.TrimSpace(old)+" until "), err
		})
	}
	close(stop)
	load.Wait()
	t.Logf("%v tasks were done meanwhile", done)
	if done[0] == 0 || done[1] == 0 {
		t.Errorf("only %v tasks were done", done)
	}
}
