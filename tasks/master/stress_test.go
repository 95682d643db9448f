package master

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
)

// ledger is what the tasks of a stress run say of themselves: the truth that the
// master's words are held against.
type ledger struct {
	mu     sync.Mutex
	starts map[string]int // by argv[0]
	ends   map[string]int // those that ran to their end
	active int            // attempts that run now
}

// run takes the time that its task's argv says, in milliseconds, writes as much
// as that says, in bytes, and fails on the attempts below the fourth number.
func (l *ledger) run(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
	name := a.Task.Argv[0]
	l.mu.Lock()
	l.starts[name]++
	nth := l.starts[name]
	l.active++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.active--
		l.mu.Unlock()
	}()
	number := func(i int) int { n, _ := strconv.Atoi(a.Task.Argv[i]); return n }
	a.Stdout.Write(make([]byte, number(2)))
	select {
	case <-ctx.Done():
		return stopped(ctx)
	case <-time.After(time.Duration(number(1)) * time.Millisecond):
	}
	if nth <= number(3) {
		return tasks.Outcome{Code: tasks.Exit, Exit: 1}
	}
	l.mu.Lock()
	l.ends[name]++
	l.mu.Unlock()
	return ended()
}

// TestEveryTaskEndsWhateverBreaks breaks links, cuts the network, kills workers
// and starts them again, and cancels, all drawn from a seed; then all heals, and
// what the master says must agree with what ran.
func TestEveryTaskEndsWhateverBreaks(t *testing.T) {
	seeds := uint64(8)
	if raced || testing.Short() {
		seeds = 2 // the detector makes each take many times as long
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			l := &ledger{starts: map[string]int{}, ends: map[string]int{}}
			inBubble(t, 3, l.run, func(t *testing.T, b *bench) {
				b.m.cfg.Logger = log.New(discard{}, "", 0)
				s := &stress{b: b, l: l, r: rand.New(rand.NewPCG(seed, 1))}
				s.harm(t)
				s.judge(t)
			})
		})
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

type stress struct {
	b    *bench
	l    *ledger
	r    *rand.Rand
	subs []tasks.Submission // of runs
	runs []*Run
}

// harm submits a few hundred tasks over half a minute while things break.
func (s *stress) harm(t *testing.T) {
	b := s.b
	if s.r.IntN(2) == 0 {
		b.net.SetDelay(time.Duration(s.r.IntN(5000)) * time.Microsecond)
	}
	dead := map[string]time.Time{} // when they start again
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		time.Sleep(time.Duration(s.r.IntN(200)) * time.Millisecond) // of the bubble
		s.submit()
		name := fmt.Sprintf("w%d", 1+s.r.IntN(3))
		ip := "10.0.0." + strings.TrimPrefix(name, "w")
		switch s.r.IntN(14) {
		case 0, 1, 2:
			b.net.Reset(masterHost, ip)
		case 3:
			b.net.Cut(masterHost, ip)
		case 4, 5, 6:
			b.net.HealAll()
		case 7:
			if b.workers[name] != nil {
				b.kill(name)
				dead[name] = time.Now().Add(time.Duration(s.r.IntN(3000)) * time.Millisecond)
				if s.r.IntN(2) == 0 {
					b.m.Remove(nodeID(name))
				}
			}
		case 8, 9:
			s.runs[s.r.IntN(len(s.runs))].Cancel(tasks.StopCancel)
		case 10:
			if w := b.workers[name]; w != nil {
				b.m.Remove(w.id)
				b.m.Update(w.info())
			}
		}
		for name, when := range dead {
			if time.Now().After(when) {
				delete(dead, name)
				b.add(name, s.l.run)
			}
		}
	}
	b.net.HealAll()
	for name := range dead {
		b.add(name, s.l.run)
	}
	for _, w := range b.workers {
		b.m.Update(w.info())
	}
}

// submit makes some tasks of all sorts. Each run's tasks share a name, so that
// the ledger's numbers are those of the run.
func (s *stress) submit() {
	for range 1 + s.r.IntN(4) {
		target := tasks.Any()
		switch s.r.IntN(8) {
		case 0:
			target = tasks.On(fmt.Sprintf("w%d", 1+s.r.IntN(3)))
		case 1:
			target = tasks.All()
		case 2:
			target = tasks.Target{N: 2}
		}
		opt := tasks.DefaultOptions()
		opt.WaitWorkers, opt.Priority = 0, s.r.IntN(3)
		if s.r.IntN(3) == 0 {
			opt.Attempts = 1
		}
		opt.Slots += s.r.IntN(5) / 4
		fails := 0
		if s.r.IntN(6) == 0 {
			opt.Retry, fails = 2, 1+s.r.IntN(3)
		}
		sub := tasks.Submission{Task: tasks.Task{Kind: tasks.Command, Argv: []string{
			fmt.Sprint(len(s.runs)), strconv.Itoa(s.r.IntN(2) * s.r.IntN(1500)), strconv.Itoa(s.r.IntN(2) * s.r.IntN(300<<10)), strconv.Itoa(fails)}},
			Target: target, Options: opt}
		if r, err := s.b.m.Submit(s.b.t.Context(), sub); err == nil { // all workers may be away
			s.runs, s.subs = append(s.runs, r), append(s.subs, sub)
		}
	}
}

// judge waits for the end of everything and compares.
func (s *stress) judge(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	for i, r := range s.runs {
		sub := &s.subs[i]
		rs, err := r.Wait(ctx)
		if err != nil {
			t.Fatalf("run %d (%+v, attempts %d) has not ended 10 minutes after all was well: %+v", i, sub.Target, sub.Options.Attempts, r.Tasks())
		}
		s.judgeRun(t, i, sub, rs)
	}
	time.Sleep(time.Minute) // of the bubble: superfluous attempts are stopped
	synctest.Wait()
	if s.l.active != 0 {
		t.Errorf("%d attempts still run", s.l.active)
	}
	for name, w := range s.b.workers {
		if l := w.w.Load(); l.Busy != 0 || l.Queued != 0 {
			t.Errorf("worker %s still has %+v", name, l)
		}
	}
	s.judgeMaster(t)
}

func (s *stress) judgeRun(t *testing.T, i int, sub *tasks.Submission, rs []tasks.Result) {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	name := fmt.Sprint(i)
	done, allowed := 0, 0
	for _, res := range rs {
		if res.State == tasks.StateDone {
			done++
			if want := sub.Task.Argv[2]; fmt.Sprint(res.StdoutBytes) != want || len(res.Stdout) != int(res.StdoutBytes) {
				t.Errorf("run %d: wrote %d bytes and %d are kept, want %s", i, res.StdoutBytes, len(res.Stdout), want)
			}
		}
		allowed += 1 + sub.Options.Retry
	}
	if s.l.ends[name] < done {
		t.Errorf("run %d: %d tasks are done, %d ran to their end", i, done, s.l.ends[name])
	}
	if sub.Options.AtMostOnce() && s.l.starts[name] > allowed {
		t.Errorf("run %d: %d tasks of at most one attempt were started %d times: %+v", i, len(rs), s.l.starts[name], rs)
	}
}

// judgeMaster checks that nothing is left in the master's books.
func (s *stress) judgeMaster(t *testing.T) {
	m := s.b.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.checkBooksLocked(t)
}

// checkBooksLocked checks what is left when no task is open.
func (m *Master) checkBooksLocked(t interface{ Errorf(string, ...any) }) {
	if m.open != 0 || len(m.waiting) != 0 || len(m.over) != 0 || len(m.hungry) != 0 {
		t.Errorf("%d tasks are open, %d classes wait, %d workers have too much, %d too little; want none", m.open, len(m.waiting), len(m.over), len(m.hungry))
	}
	if len(m.classes) != len(m.idles) || len(m.idles) > maxIdleClasses {
		t.Errorf("%d classes are kept, %d of them without tasks; want all, and at most %d", len(m.classes), len(m.idles), maxIdleClasses)
	}
	for _, c := range m.classes {
		if c.tasks != 0 || c.queue.len() != 0 {
			t.Errorf("class %+v has %d tasks, %d queued; want none", c.key, c.tasks, c.queue.len())
		}
		for i, f := range c.fits {
			if !f.ok {
				continue
			}
			w := m.places[i]
			if w == nil || m.workers[w.id] != w || f.at > 0 && c.ready[f.at-1] != w {
				t.Errorf("class %+v has worker %+v, which is gone or stands in the wrong place", c.key, w)
				return
			}
			if w.usable() && w.open && f.at == 0 && c.opened == m.opened {
				t.Errorf("worker %q has room and is not ready for class %+v", w.id, c.key)
			}
		}
	}
	for _, w := range m.workers {
		if w.inUse != 0 || w.attempts != (attempts{}) || w.queue.len() != 0 {
			t.Errorf("worker %q has %d slots in use, %d attempts of %d bytes, %d queued; want none", w.info.Name, w.inUse, w.attempts.n, w.attempts.bytes, w.queue.len())
		}
	}
}
