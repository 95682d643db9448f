//go:build linux

package test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
)

// A master that is killed with 200 tasks running, and 100 that wait, and is back
// within seconds, has run each once in the end.
func TestAKilledMasterRunsNothingTwice(t *testing.T) {
	l := newLab(t)
	h := l.host()
	args := []string{"-name", "m", "-role", "master", "-state-dir", l.dir + "/state-m"}
	master := h.agent(args...)
	var ws []*agent
	for i := range 2 {
		ws = append(ws, h.agent("-name", fmt.Sprintf("w%d", i+1), "-slots", "100"))
	}
	assemble(t, patience, append(ws, master)...)
	c, err := client.New("unix://" + h.Path(master.socket))
	if err != nil {
		t.Fatal(err)
	}
	var ids []tasks.ID
	for range 300 {
		s, err := c.Submit(t.Context(), api.SubmitRequest{Task: api.TaskSpec{
			Kind: tasks.Command, Dir: l.dir, Shell: `echo $SCAGENT_TASK_ID >> starts; while test ! -e go; do sleep 0.2; done; echo well`,
		}})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, s.Tasks[0].ID)
	}
	running := func() int { return len(l.read("starts")) }
	eventually(t, patience, "200 tasks run", func() (bool, any) { n := running(); return n == 200, n })
	master.signal(syscall.SIGKILL)
	master.await()
	time.Sleep(2 * time.Second) // longer than it takes for links to break
	master = h.agent(args...)
	l.file("go", "")
	if c, err = client.New("unix://" + h.Path(master.socket)); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		eventually(t, patience, "the tasks end", func() (bool, any) {
			r, err := c.Task(t.Context(), id)
			return err == nil && r.State == tasks.StateDone && r.Stdout != nil && *r.Stdout == "well\n", fmt.Sprintf("%+v, %v", r, err)
		})
	}
	seen := map[string]int{}
	for _, id := range l.read("starts") {
		seen[strings.TrimSpace(id)]++
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("task %s was started %d times, want once", id, n)
		}
	}
	if len(seen) != 300 {
		t.Errorf("%d tasks were started, want 300", len(seen))
	}
}

// TestARestartGivesBackTheMemoryOfItsJournal starts an agent again that has some MiB in its
// journal. What reading it took is given back: it used to stay for minutes.
func TestARestartGivesBackTheMemoryOfItsJournal(t *testing.T) {
	l := newLab(t)
	h := l.host()
	args := []string{"-name", "m", "-state-dir", l.dir + "/state-m"}
	a := h.agent(args...)
	fresh, _ := memory(t, a.pid())
	long := strings.Repeat("x", 50_000)
	for range 200 {
		a.call("submit", "-q", "-detach", "--", "true", long).ok(t)
	}
	a.signal(syscall.SIGKILL)
	<-a.done
	a = h.agent(args...)
	again, _ := memory(t, a.pid())
	t.Logf("%d KiB at first, %d KiB with a journal of 10 MB", fresh>>10, again>>10)
	if again > fresh+6<<20 {
		t.Errorf("an agent takes %d KiB when it has started with a journal of 10 MB, and took %d when it had none", again>>10, fresh>>10)
	}
}
