//go:build linux

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// scripts returns the processes in which an agent evaluates JavaScript.
func scripts(t testing.TB, a *agent) (pids []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		dir := filepath.Dir(l)
		if line, err := os.ReadFile(l); err != nil || string(line) != "scagent\x00__js\x00" {
			continue
		}
		if status, err := os.ReadFile(dir + "/status"); err == nil && strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", a.pid())) {
			pids = append(pids, filepath.Base(dir))
		}
	}
	return pids
}

// TestAScriptEndsItsProcessAndNotTheAgent submits what nothing inside a process
// can bound.
func TestAScriptEndsItsProcessAndNotTheAgent(t *testing.T) {
	t.Parallel()
	master, ws := workers(t, 1)
	w := ws[0]
	l := master.host.lab
	if pids := scripts(t, w); len(pids) > 0 {
		t.Errorf("before the first script the agent has the processes %v", pids)
	}
	for _, c := range []struct{ name, source, says string }{
		{"huge string", "()=>'x'.repeat(2**40)", "failed: the script used more than 512 MiB of memory"},
		{"array that grows", "()=>{ let a = []; while(1) a.push({a: 1}) }", "failed: the script used more than 512 MiB of memory"},
		{"deep recursion", "()=>JSON.parse('['.repeat(1e6))", "failed: the script nests too deep: the engine's stack is full"},
	} {
		l.run(t, c.name, func(t *testing.T) {
			master.call("submit", "-js", c.source).complains(t, 1, "w1", c.says)
			master.call("submit", "-js", `()=>"well"`).want(t, 0, "\"well\"\n")
		})
	}
	l.run(t, "a pattern that backtracks, and a timeout", func(t *testing.T) {
		master.call("submit", "-timeout", "500ms", "-js", `()=>/(a+)+\1b/.test('a'.repeat(40))`).complains(t, 124, "timed out after 500ms")
		master.call("submit", "-js", `()=>"well"`).want(t, 0, "\"well\"\n")
	})
	l.run(t, "the user", func(t *testing.T) {
		uid := strings.TrimSpace(master.call("submit", "--", "id", "-u").ok(t))
		for _, pid := range scripts(t, w) {
			status, err := os.ReadFile("/proc/" + pid + "/status")
			if want := fmt.Sprintf("\nUid:\t%s\t%[1]s\t%[1]s\t%[1]s\n", uid); err != nil || !strings.Contains(string(status), want) {
				t.Errorf("a script's process is not that of user %s: %v\n%s", uid, err, status)
			}
		}
	})
}

// TestScriptsEndWithTheAgent ends an agent in the middle of a script.
func TestScriptsEndWithTheAgent(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			a := newLab(t).host().agent("-drain-timeout", "10m")
			p := a.begin("submit", "-js", `()=>{ console.log("it runs"); while(1){} }`)
			p.out.await(t, "it runs")
			pids := scripts(t, a)
			if len(pids) == 0 {
				t.Fatal("the script has no process of its own")
			}
			a.signal(signal)
			if signal == syscall.SIGTERM { // it waits for the script, unless told twice
				eventually(t, patience, "it drains", func() (bool, any) {
					r := a.call("info", "-json")
					return strings.Contains(r.stdout, `"draining":true`), r
				})
				a.signal(signal)
			}
			<-a.done
			took := eventually(t, patience, "the agent's scripts have ended", func() (bool, any) {
				left := alivePids(pids)
				return len(left) == 0, left
			})
			t.Logf("they end %s after it", took.Round(time.Millisecond))
		})
	}
}
