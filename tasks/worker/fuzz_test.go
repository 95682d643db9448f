package worker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
	"github.com/scagent/scagent/test/bounds"
)

// script is what the masters of a fuzz test do, read off its bytes.
type script struct{ rest []byte }

func (s *script) next() byte {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b
}

// number is of any size.
func (s *script) number() uint64 {
	return (uint64(s.next())<<8 | uint64(s.next())) << (s.next() % 64)
}

const (
	sessionSlots = 3
	sessionKeys  = 6
)

// session lets two masters, "a" and "b", say anything to a worker about a few
// attempts, of which those of an even number are a's to offer and the others b's.
// It knows what the worker may make of that.
type session struct {
	*rig
	script script

	// mu guards the fields below. It is taken after Worker.mu.
	mu       sync.Mutex
	known    [sessionKeys]claim
	inUse    int // slots
	over     bool
	mistakes []string
}

// claim is what the owner of an attempt has said, so what the worker may do.
type claim struct {
	offered bool // such that it can be run
	freely  bool // without waiting for a grant
	granted bool // since the last offer that has to wait for one
	stopped bool
}

func sessionKey(n int) wire.Key { return wire.Key{Task: tasks.ID{15: 7}, N: uint32(n)} }

// Run runs what the first word of the task says.
func (s *session) Run(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
	s.mu.Lock()
	if c := s.known[a.N]; !c.offered {
		s.mistake("attempt %d runs and was never offered", a.N)
	} else if !c.freely && !c.granted {
		s.mistake("attempt %d runs without a grant", a.N)
	}
	if s.inUse += a.Slots; s.inUse > sessionSlots {
		s.mistake("%d slots are taken of %d", s.inUse, sessionSlots)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inUse -= a.Slots
		var why *tasks.StopError
		if errors.As(context.Cause(ctx), &why) && why.Reason != tasks.StopTimeout && !s.known[a.N].stopped && !s.over {
			s.mistake("attempt %d was stopped (%s) and its master never asked", a.N, why.Reason)
		}
	}()
	word := ""
	if len(a.Task.Argv) > 0 {
		word = a.Task.Argv[0]
	}
	switch word {
	case "quick":
	case "loud":
		a.Stdout.Write(make([]byte, wire.Window+5000))
		a.Stderr.Write([]byte("end"))
	case "panic":
		panic("as the task wants")
	case "deaf":
		<-a.Kill
	default:
		<-ctx.Done()
		return tasks.Outcome{Code: tasks.Cancelled}
	}
	return tasks.Outcome{Value: []byte("v"), Encoding: tasks.JSON}
}

func (s *session) mistake(format string, a ...any) {
	s.mistakes = append(s.mistakes, fmt.Sprintf(format, a...))
}

// mayStop notes that whatever the master has at the worker may be stopped.
func (s *session) mayStop(master string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.known {
		if owner(n) == master {
			s.known[n].stopped = true
		}
	}
}

func owner(n int) string { return string("ab"[n%2]) }

func (s *session) number() int { return int(s.script.next() % sessionKeys) }

func (s *session) keys() []wire.Key {
	ks := make([]wire.Key, s.script.next()%4)
	for i := range ks {
		ks[i] = sessionKey(s.number())
	}
	return ks
}

// step lets a master say something.
func (s *session) step() {
	master := owner(int(s.script.next()))
	if h := s.mhubs[master]; h != nil && h.Get("w") == nil {
		s.mayStop(master)
	}
	l, _ := s.link(master)
	op, n := s.script.next()%16, s.number()
	k, mine := sessionKey(n), owner(n) == master
	switch op {
	case 0, 1, 2:
		s.offer(l, n, mine)
	case 3:
		s.mu.Lock()
		s.known[n].granted = s.known[n].granted || mine
		s.mu.Unlock()
		l.SendGrant(k)
	case 4:
		l.SendWindow(k, uint32(s.script.number()))
	case 5:
		l.SendAck(k, 1<<20)
	case 6:
		l.SendRecall(s.keys())
	case 7:
		s.mu.Lock()
		s.known[n].stopped = s.known[n].stopped || mine
		s.mu.Unlock()
		l.SendCancel(k, tasks.StopReason(s.script.next()%8))
	case 8, 9:
		s.mayStop(master) // all that it does not name
		var held []wire.Held
		for _, k := range s.keys() {
			held = append(held, wire.Held{Key: k, Received: s.script.number(), Taken: s.script.number()})
		}
		l.SendReattach(held)
	case 10: // what only workers say
		l.SendStarted(k)
		l.SendOutput(k, wire.Stdout, []byte("x"))
		sendResult(l, k, &tasks.Outcome{})
		l.SendState([]wire.AttemptState{{Key: k, State: wire.Running}})
	case 11: // a frame of any type, too short for a key
		s.mayStop(master)
		body := s.script.rest[:min(int(s.script.next()%16), len(s.script.rest))]
		l.Conn().Write(append(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), s.script.next()), body...))
	case 12:
		s.mayStop(master)
		l.Close(nil)
	case 13:
		time.Sleep(time.Duration(s.script.next()%32) * time.Second)
	case 14:
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		s.w.Drain(ctx) // an error: something runs for longer
		cancel()
	case 15:
		s.w.Resume()
	}
	synctest.Wait()
}

func (s *session) offer(l *wire.Link, n int, mine bool) {
	words := []string{"quick", "loud", "slow", "panic", "deaf"}
	o := &wire.Offer{Key: sessionKey(n), Slots: uint32(s.script.next() % 5), AtMostOnce: s.script.next()%2 == 1}
	o.Timeout = time.Duration(s.script.next()) * time.Second
	o.Spec = wire.AppendTask(nil, &tasks.Task{Kind: tasks.Command, Argv: []string{words[s.script.next()%5]}})
	switch s.script.next() {
	case 1:
		o.Spec = s.script.rest[:min(len(s.script.rest), 100)]
	case 2:
		o.Slots = 1<<32 - 1
	case 3:
		o.Timeout = 1<<63 - 1
	}
	t, err := wire.DecodeTask(o.Spec)
	if err == nil {
		err = t.Validate()
	}
	if !mine { // somebody else's attempt must be left alone
		s.w.mu.Lock()
		a := s.w.attempts[o.Key]
		s.w.mu.Unlock()
		if a == nil {
			return
		}
	} else if err == nil && t.Kind == tasks.Command && o.Slots >= 1 && o.Slots <= sessionSlots {
		s.mu.Lock()
		c := &s.known[n]
		c.offered, c.freely, c.granted = true, c.freely || !o.AtMostOnce, c.granted && !o.AtMostOnce
		s.mu.Unlock()
	}
	l.SendOffer(o)
}

// FuzzSession has masters talk to a worker in any order. The worker runs only
// what was offered, at-most-once attempts only when granted, never on more slots
// than it has, and stops nothing at the word of another than the attempt's
// master; and when its masters are gone for good, nothing is left of any of it.
func FuzzSession(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 5, 0})                                    // offer, ack
	f.Add([]byte{0, 0, 0, 1, 1, 9, 2, 0, 1, 3, 0, 0, 3, 0, 0, 7, 0, 1})               // at most once, granted by the wrong one first
	f.Add([]byte{0, 0, 0, 3, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0, 2, 0, 0, 4, 0, 255, 0, 9}) // loud, another waits
	f.Add([]byte{0, 0, 0, 1, 0, 0, 4, 0, 0, 12, 0, 0, 8, 0, 1, 0, 1, 0, 0, 2, 0, 0})  // deaf, link breaks, reattach
	f.Add([]byte{0, 0, 0, 1, 0, 1, 3, 0, 0, 0, 2, 1, 0, 0, 2, 0, 0, 14, 0, 0, 15, 0, 0, 13, 0, 200})
	f.Add([]byte{1, 0, 1, 2, 0, 0, 1, 0, 1, 4, 1, 255, 255, 60, 1, 9, 0, 1, 1, 255, 255, 63, 255, 255, 40, 0, 11, 0, 5, 22, 0, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		runSession(t, b)
	})
}

func runSession(t *testing.T, b []byte) {
	s := &session{script: script{b}}
	inRig(t, sessionSlots, func(c *Config) {
		c.MaxQueued, c.KeepOutcome = 2, 20*time.Second
		c.Runners = map[tasks.Kind]Runner{tasks.Command: s}
	}, func(t *testing.T, r *rig) {
		s.rig = r
		for i := 0; i < 64 && len(s.script.rest) > 0; i++ {
			s.step()
		}
		for _, m := range []string{"a", "b"} {
			s.mayStop(m)
			if s.mhubs[m] != nil {
				s.mhubs[m].Close()
			}
		}
		time.Sleep(2 * r.w.cfg.KeepOutcome)
		r.w.mu.Lock()
		defer r.w.mu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.over = true
		for _, m := range s.mistakes {
			t.Error(m)
		}
		// What ignores that it was stopped goes on until the worker is closed.
		for _, a := range r.w.attempts {
			if a.phase != running || len(a.task.Argv) == 0 || a.task.Argv[0] != "deaf" || a.killed {
				t.Errorf("attempt %d is %d still, %q", a.key.N, a.phase, a.task.Argv)
			}
		}
		if r.w.busy != s.inUse || r.w.queue.len() != 0 {
			t.Errorf("%d slots are taken, %d attempts wait; want %d, none", r.w.busy, r.w.queue.len(), s.inUse)
		}
	})
}
