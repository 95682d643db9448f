package master

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/test/check/verify"
)

const (
	// healed is when all faults are over, or are ended.
	healed = 25 * time.Second
	// settled is how long after that every task must have ended: the grace of a master,
	// twice the longest rest, and what runs.
	settled = 2 * time.Minute
)

// live is the world's whole life; it is called in a bubble.
func (w *world) live() {
	for _, s := range w.workers {
		s.start()
	}
	for _, s := range w.masters {
		s.start()
	}
	w.plan()
	w.happen(healed)
	w.heal()
	w.awaitEnds()
	w.awaitQuiet()
	w.judgeBooks()
	w.judgeRestart()
	for _, s := range w.workers {
		s.stop()
	}
	w.clients.Wait()
	w.harness.Close()
}

// heal ends what has not ended by itself.
func (w *world) heal() {
	for _, e := range slices.Clone(w.queue) {
		e.do()
	}
	w.net.HealAll()
	for _, s := range w.workers {
		if s.worker == nil || s.holds != 0 {
			w.wrong("worker %s does not run", s.name)
		}
	}
	for _, s := range w.masters {
		if s.m == nil || s.holds != 0 || s.ill != 0 {
			w.wrong("master %s does not run: %d holds, %d ill", s.name, s.holds, s.ill)
			continue
		}
		for _, sw := range w.workers {
			s.m.Update(sw.info())
		}
	}
	w.queue = nil
}

// awaitEnds waits until all that was accepted has ended, and says so to clients.
func (w *world) awaitEnds() {
	until := time.Now().Add(settled)
	told := map[tasks.ID]bool{}
	for {
		open := ""
		w.mu.Lock()
		runs := w.runs
		w.mu.Unlock()
		for i := range runs {
			w.mu.Lock()
			a := w.runs[i]
			w.mu.Unlock()
			if a == nil {
				continue
			}
			for j, id := range a.ids {
				if told[id] {
					continue
				}
				if r, ended := w.look(i, a, j); ended {
					told[id] = true
				} else {
					open += fmt.Sprintf("\n\t%s %+v %s %s on %q attempt %d", id, w.p.tasks[i].sub.Target, w.p.tasks[i].sub.Task.Argv, r.State, r.Worker, r.Attempt)
				}
			}
		}
		if open == "" {
			return
		}
		if time.Now().After(until) {
			w.wrong("%v after all was well these have not ended:%s", settled, open)
			return
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// look asks how a task is doing, as its client does.
func (w *world) look(i int, a *asked, j int) (r tasks.Result, ended bool) {
	opt := &w.p.tasks[i].sub.Options
	s, id := a.owner, a.ids[j]
	if opt.Ephemeral {
		if a.life != s.life { // it went with its master
			return r, true
		}
		r = a.run.Tasks()[j]
	} else {
		var err error
		r, err = s.m.Task(id)
		w.mu.Lock()
		_, known := w.final[id]
		w.mu.Unlock()
		if errors.Is(err, tasks.ErrUnknown) && (known || a.life != s.life) && w.p.masters[s.i].maxRetained < 1000 {
			return r, true
		}
		if err != nil {
			w.wrong("task %s was accepted, and master %s says: %v", id, s.name, err)
			return r, true
		}
		if r.State.Final() {
			s.history.Add(history.Event{Name: history.Answered, Task: id, State: r.State, Hash: history.Hash(&r.Outcome)})
		}
	}
	if w.p.tasks[i].sub.Target.N > 1 && r.State == tasks.StateDone {
		p := place{r.Run, r.WorkerID}
		if other, ok := w.apart[p]; ok && other != id {
			w.wrong("tasks %s and %s of one run, which are for different workers, have both been done by %s", other, id, r.Worker)
		}
		w.apart[p] = id
	}
	if argv := w.p.tasks[i].sub.Task.Argv; r.State == tasks.StateDone && (string(r.Value) != argv[0] || fmt.Sprint(r.StdoutBytes) != argv[2]) {
		w.wrong("task %s is done with the value %s after %d bytes, want %s after %s", id, r.Value, r.StdoutBytes, argv[0], argv[2])
	}
	return r, r.State.Final()
}

// awaitQuiet waits until nothing runs and workers keep nothing: an outcome of which no
// master wants to hear goes after keepOutcome.
func (w *world) awaitQuiet() {
	until := time.Now().Add(keepOutcome + 15*time.Second)
	for {
		w.mu.Lock()
		active := w.active
		w.mu.Unlock()
		what := ""
		if active > 0 {
			what = fmt.Sprintf("%d runners; ", active)
		}
		for _, s := range w.workers {
			if l, n := s.worker.Load(), s.worker.Outcomes(); l.Busy+l.Queued > 0 || n > 0 {
				what += fmt.Sprintf("worker %s has %d slots in use, %d attempts that wait, and %d outcomes; ", s.name, l.Busy, l.Queued, n)
			}
		}
		if what == "" {
			break
		}
		if time.Now().After(until) {
			w.wrong("all tasks have ended, and there are still %s", what)
			break
		}
		time.Sleep(250 * time.Millisecond)
	}
	time.Sleep(2 * time.Second) // records and acks travel together
	synctest.Wait()
}

func (w *world) judgeBooks() {
	for _, s := range w.masters {
		m := s.m
		m.mu.Lock()
		m.checkBooksLocked(w)
		for _, sw := range m.workers {
			if sw.pinned != 0 || sw.dialling {
				w.wrong("master %s: worker %s is pinned %d times, dialling %t", s.name, sw.info.Name, sw.pinned, sw.dialling)
			}
		}
		n := 0
		for i := range m.retained.runs {
			n += len(m.retained.runs[i].tasks)
		}
		if n != m.retained.tasks {
			w.wrong("master %s: %d tasks are retained, and it counts %d", s.name, n, m.retained.tasks)
		}
		m.mu.Unlock()
		if n := s.journal.Len(kindAttempt) + s.journal.Len(kindCancel); n != 0 {
			w.wrong("master %s: %d records of attempts and cancellations are left", s.name, n)
		}
		if have := s.journal.Len(kindEnd); have != n {
			w.wrong("master %s: the journal has %d ends, and %d tasks are retained", s.name, have, n)
		}
	}
}

// judgeRestart starts each master again: what it says of tasks is what it said.
func (w *world) judgeRestart() {
	for _, s := range w.masters {
		before := s.m.List(tasks.ID{}, nil, 10_000)
		s.stop()
		s.start()
		if s.m == nil {
			continue
		}
		after := s.m.List(tasks.ID{}, nil, 10_000)
		if len(before) != len(after) {
			w.wrong("master %s lists %d tasks, and %d after a restart", s.name, len(before), len(after))
		}
		for i := range min(len(before), len(after)) {
			if a, b := &before[i], &after[i]; a.ID != b.ID || !bytes.Equal(encodeEnd(a), encodeEnd(b)) {
				w.wrong("master %s says\n%+v\nand after a restart\n%+v", s.name, *a, *b)
			}
		}
		if n := s.m.Stats().Open; n != 0 {
			w.wrong("after a restart %d tasks are open", n)
		}
		s.stop()
	}
}

// judgeHistories has the histories checked.
func (w *world) judgeHistories() {
	var hs []verify.Source
	for _, t := range w.tapes {
		hs = append(hs, verify.Source{Name: t.name, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(t.b.Bytes())), nil }})
	}
	truth := verify.Source{Name: "truth", Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(w.truth.Bytes())), nil }}
	cfg := verify.DefaultConfig()
	cfg.Settle = 0
	r, err := verify.Check(cfg, hs, []verify.Source{truth})
	if err != nil {
		w.wrong("histories: %v", err)
		return
	}
	if !r.OK() {
		var b strings.Builder
		r.Print(&b)
		w.wrong("%s", b.String())
	}
}
