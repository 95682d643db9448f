//go:build linux

package test

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestInterruptReachesTheTask(t *testing.T) {
	t.Parallel()
	need(t, "curl")
	master, _ := workers(t, 2)
	l := master.host.lab
	l.run(t, "once", func(t *testing.T) {
		p := master.begin("submit", "-shell", `trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done`)
		p.out.await(t, "ready")
		p.signal(syscall.SIGINT)
		p.await().want(t, 130, "ready\ninterrupted\n")
	})
	l.run(t, "several targets", func(t *testing.T) {
		p := master.begin("submit", "-all", "-shell", `trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done`)
		p.out.await(t, "w1: ready")
		p.out.await(t, "w2: ready")
		p.signal(syscall.SIGINT)
		r := p.await()
		if r.status != 130 || strings.Count(r.stdout, ": interrupted\n") != 2 {
			t.Errorf("%s\nwant status 130, and both interrupted", r)
		}
	})
	// Without the second, it is killed ten seconds after the first.
	l.run(t, "twice, a task that does not listen", func(t *testing.T) {
		p := master.begin("submit", "-shell", `trap '' INT TERM; echo $$; exec 2>/dev/null; while :; do sleep 0.05; done`)
		pid := p.out.await(t)
		p.signal(syscall.SIGINT)
		p.err.await(t, "once more to kill")
		begin := time.Now()
		p.signal(syscall.SIGINT)
		if r := p.await(); r.status != 130 {
			t.Errorf("%s\nwant status 130", r)
		}
		within(t, "submit ends after the second ^C", p.ended.Sub(begin), 5*time.Second)
		eventually(t, 5*time.Second, "the task is gone", func() (bool, any) { return gone(pid), pid })
	})
	l.run(t, "a task that waits for room", func(t *testing.T) {
		busy := master.begin("submit", "-on", "w1", "-slots", "4", "-shell", "echo started; sleep 60")
		busy.out.await(t, "started")
		p := master.begin("submit", "-on", "w1", "-shell", "touch "+l.dir+"/ran")
		queued := "curl -sS -f --unix-socket " + master.socket + " 'http://agent/v1/tasks?state=queued'"
		eventually(t, patience, "the task is queued", func() (bool, any) {
			r := master.host.sh(queued)
			return strings.Contains(r.stdout, `"queued"`), r
		})
		begin := time.Now()
		p.signal(syscall.SIGINT)
		if r := p.await(); r.status != 130 {
			t.Errorf("%s\nwant status 130", r)
		}
		t.Logf("submit ends after %s", p.ended.Sub(begin).Round(time.Millisecond)) // and not when there is room
		busy.signal(syscall.SIGINT)
		busy.await().want(t, 130, "started\n")
		if _, err := os.Stat(l.dir + "/ran"); err == nil {
			t.Error("a task ran that was cancelled before there was room for it")
		}
	})
}

// tree is a task that has children: of its group, of a session of their own,
// without parents, and ones that do not listen to signals. It prints its id, and
// writes the pids of all four into a file. Then it goes on with what follows it.
const tree = `echo $SCAGENT_TASK_ID; trap '' TERM; sleep 1000 & echo $! >> pids
	setsid sh -c 'trap "" TERM INT HUP; echo $$ >> pids; while :; do sleep 0.05; done' &
	setsid setsid sh -c 'echo $$ >> pids; exec sleep 1000' &
	echo $$ >> pids; trap - TERM; `

// tree waits until the tree has grown, and returns its pids.
func (l *lab) tree() (pids []string) {
	l.t.Helper()
	eventually(l.t, patience, "the tree has grown", func() (bool, any) {
		pids = l.read("pids")
		return len(pids) == 4, pids
	})
	return pids
}

// dead waits until nothing is left of a tree.
func (l *lab) dead(pids []string) {
	l.t.Helper()
	eventually(l.t, patience, "nothing of the tree is left", func() (bool, any) {
		left := alivePids(pids)
		return len(left) == 0, left
	})
	l.remove("pids")
}

func alivePids(pids []string) (left []string) {
	for _, p := range pids {
		if !gone(p) {
			left = append(left, p)
		}
	}
	return left
}

func TestCancelEndsTheWholeTree(t *testing.T) {
	t.Parallel()
	master, _ := workers(t, 1)
	l := master.host.lab
	var timeout time.Duration // by which a tree has grown, on this machine as it is now
	l.run(t, "cancel", func(t *testing.T) {
		begin := time.Now()
		p := master.begin("submit", "-dir", l.dir, "-shell", tree+"wait")
		ps := l.tree()
		timeout = 10 * time.Since(begin)
		id := p.out.await(t)
		begin = time.Now()
		master.call("cancel", id).want(t, 0, "")
		p.await().want(t, 130, id+"\n")
		t.Logf("submit ends %s after cancel", p.ended.Sub(begin).Round(time.Millisecond))
		l.dead(ps)
	})
	l.run(t, "timeout", func(t *testing.T) {
		p := master.begin("submit", "-timeout", timeout.String(), "-dir", l.dir, "-shell", tree+"wait")
		ps := l.tree()
		p.await().want(t, 124, p.out.await(t)+"\n")
		l.dead(ps)
	})
	l.run(t, "the end of the task itself", func(t *testing.T) {
		p := master.begin("submit", "-dir", l.dir, "-shell", tree+"while test $(wc -l < pids) -lt 4; do sleep 0.05; done")
		ps := l.tree()
		p.await().want(t, 0, p.out.await(t)+"\n")
		l.dead(ps)
	})
}
