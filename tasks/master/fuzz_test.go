package master

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

// script is what a fuzz test has happen, read off its bytes.
type script struct{ rest []byte }

func (s *script) next() byte {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b
}

// session has two nodes that say anything to a master, as if they were workers.
type session struct {
	*bench
	t      *testing.T
	script script
	nodes  [2]*liar

	// mu guards the fields below. It is taken after Master.mu.
	mu       sync.Mutex
	claimed  map[wire.Key]map[string]bool // who said of an attempt of its own that it ended well
	states   map[tasks.ID]tasks.State
	mistakes []string
}

// liar is a node that says what the script wants.
type liar struct {
	id, name, ip string
	hub          *wire.Hub

	mu    sync.Mutex
	given []wire.Key // attempts that it was offered
}

func (n *liar) Offer(_ *wire.Link, o *wire.Offer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.given = append(n.given, o.Key)
}
func (n *liar) Grant(*wire.Link, wire.Key)                    {}
func (n *liar) Window(*wire.Link, wire.Key, uint32)           {}
func (n *liar) Ack(*wire.Link, []wire.Key)                    {}
func (n *liar) Recall(*wire.Link, []wire.Key)                 {}
func (n *liar) Cancel(*wire.Link, wire.Key, tasks.StopReason) {}
func (n *liar) Reattach(*wire.Link, []wire.Held)              {}

func (n *liar) has(k wire.Key) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, g := range n.given {
		if g == k {
			return true
		}
	}
	return false
}

// changed is the master's Config.Changed.
func (s *session) changed(r tasks.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.states[r.ID]; old.Final() {
		s.mistake("a task that was %s is %s", old, r.State)
	}
	s.states[r.ID] = r.State
	if r.State != tasks.StateDone {
		return
	}
	for k := range s.claimed {
		if k.Task == r.ID {
			return
		}
	}
	s.mistake("task %s is done, and nobody who had it said so", r.ID)
}

func (s *session) mistake(format string, a ...any) {
	s.mistakes = append(s.mistakes, fmt.Sprintf(format, a...))
}

// key returns an attempt that some node was offered, or one near it.
func (s *session) key() wire.Key {
	var all []wire.Key
	for _, n := range s.nodes {
		n.mu.Lock()
		all = append(all, n.given...)
		n.mu.Unlock()
	}
	which, off := int(s.script.next()), s.script.next()
	var k wire.Key
	switch {
	case off == 200: // a task that waits, if there is one
		for id, st := range s.states {
			if st == tasks.StateQueued {
				k.Task = id
			}
		}
	case len(all) > 0:
		k = all[which%len(all)]
	}
	switch off % 8 {
	case 1:
		k.N++
	case 2:
		k.N--
	case 3:
		k.N = uint32(which)
	}
	return k
}

func (s *session) keys() []wire.Key {
	ks := make([]wire.Key, s.script.next()%4)
	for i := range ks {
		ks[i] = s.key()
	}
	return ks
}

func (s *session) outcome() *tasks.Outcome {
	o := &tasks.Outcome{Code: tasks.Code(s.script.next() % 24), Exit: int(int8(s.script.next())), Encoding: tasks.Encoding(s.script.next() % 4)}
	switch s.script.next() % 8 {
	case 1:
		o.Started, o.Finished = time.Unix(0, -1<<63), time.Unix(0, 1<<63-1)
	case 2:
		o.Finished, o.Started = time.Unix(0, -1<<63), time.Unix(0, 1<<63-1)
	case 3:
		o.Outputs = []tasks.OutputFile{{Name: "../x", Mode: 1<<32 - 1}, {Name: "b", Content: tasks.Content{Blob: "zz", Size: 1 << 62}}}
	case 4:
		o.Value, o.StdoutBytes = []byte("{"), 1<<62
	case 5:
		o.Steps = []tasks.Step{{Stage: "\x1b", Exit: -1}}
	}
	if n := int(s.script.next()); n > 0 {
		o.Text = string(s.script.rest[:min(n, len(s.script.rest))])
	}
	return o
}

// link returns a link from a node to the master, nil if it gets none.
func (s *session) link(n *liar) *wire.Link {
	l, err := n.hub.Connect(s.t.Context(), nodeID("m"))
	if err != nil {
		return nil
	}
	return l
}

func (s *session) step() {
	n := s.nodes[s.script.next()%2]
	op := s.script.next() % 20
	var l *wire.Link
	if op < 12 {
		if l = s.link(n); l == nil {
			return
		}
	}
	switch op {
	case 0:
		l.SendAccept(s.key(), s.script.next()%2 == 0)
	case 1:
		l.SendReject(s.key(), tasks.Code(s.script.next()%24), "no\x1b[2J")
	case 2:
		l.SendStarted(s.key())
	case 3:
		l.SendOutput(s.key(), wire.Stream(1+s.script.next()%2), make([]byte, int(s.script.next())*1000))
	case 4, 5, 6:
		k, o := s.key(), s.outcome()
		if o.Code == tasks.OK && n.has(k) {
			s.mu.Lock()
			if s.claimed[k] == nil {
				s.claimed[k] = map[string]bool{}
			}
			s.claimed[k][n.id] = true
			s.mu.Unlock()
		}
		sendResult(l, k, o)
	case 7:
		l.SendGivenBack(s.keys())
	case 8:
		var states []wire.AttemptState
		for _, k := range s.keys() {
			states = append(states, wire.AttemptState{Key: k, State: wire.AttemptPhase(s.script.next() % 8)})
		}
		l.SendState(states)
	case 9: // a frame of any type, too short for a key
		body := s.script.rest[:min(int(s.script.next()%16), len(s.script.rest))]
		l.Conn().Write(append(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), s.script.next()), body...))
	case 10:
		l.Close(nil)
	case 11:
		s.net.Reset(n.ip, masterHost)
	case 12, 13, 14:
		s.submit()
	case 15:
		time.Sleep(time.Duration(s.script.next()) * 20 * time.Millisecond)
	case 16:
		time.Sleep(time.Duration(s.script.next()%32) * time.Second)
	case 17:
		s.m.Remove(n.id)
	case 18:
		s.m.Update(s.info(n, int(s.script.next()%5)))
	case 19:
		s.m.Cancel(s.key().Task, tasks.StopReason(s.script.next()%6))
	}
	synctest.Wait()
}

func (s *session) info(n *liar, slots int) tasks.Worker {
	return tasks.Worker{ID: n.id, Boot: "1", Name: n.name, Slots: slots, Available: true, Known: true, Kinds: []tasks.Kind{tasks.Command}}
}

func (s *session) submit() {
	targets := []tasks.Target{{}, {All: true}, {On: []string{"w1"}}, {N: 2, All: true}, {Where: `name == "w2"`}}
	sub := cmd("x", targets[s.script.next()%5], func(o *tasks.Options) {
		o.WaitWorkers = 0
		o.Attempts, o.Retry = 1+int(s.script.next()%4), int(s.script.next()%3)
		o.Slots, o.Priority, o.Ephemeral = 1+int(s.script.next()%3), int(s.script.next()%3), s.script.next()%8 == 7
	})
	s.m.Submit(s.t.Context(), sub) // an error: nothing matches
}

// FuzzSession has nodes talk to a master in any order. A task ends once, is done
// only if a node that had it said so, and when all is over nothing is left that
// counts as open or as held by a worker.
func FuzzSession(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 12, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 4, 0, 0, 0})                         // submit, accept, started, result
	f.Add([]byte{0, 12, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0})                            // the other's result
	f.Add([]byte{0, 12, 0, 2, 0, 0, 0, 0, 1, 4, 0, 2, 0, 0, 0, 0, 0})                                        // attempt 0
	f.Add([]byte{0, 12, 1, 2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 10, 0, 16, 9, 1, 4, 0, 0, 0, 0, 0, 0, 0})           // started, lost, late result
	f.Add([]byte{0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 8, 1, 0, 0, 0, 0, 7, 1, 0, 0, 0, 1, 0, 0, 16})   // at most once; unknown; given back; rejected
	f.Add([]byte{0, 12, 0, 3, 1, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 3, 0, 0, 17, 1, 18, 0, 0, 19, 0, 0, 1, 3, 0}) // files, removed, cancelled
	f.Add([]byte("0 000007"))                                                                                // tasks that are forgotten when they end
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		runSession(t, b)
	})
}

func runSession(t *testing.T, b []byte) {
	s := &session{t: t, script: script{b}, claimed: map[wire.Key]map[string]bool{}, states: map[tasks.ID]tasks.State{}}
	inBubble(t, 0, nil, func(t *testing.T, bench *bench) {
		s.t, s.bench = t, bench
		m := bench.m
		m.cfg.Changed = s.changed
		m.cfg.Fetch = func(ctx context.Context, _ string, c *tasks.Content) error {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return ctx.Err()
			}
			if c.Size%2 == 0 {
				return nil
			}
			return errors.New("gone")
		}
		for i := range s.nodes {
			n := &liar{id: nodeID(fmt.Sprintf("w%d", i+2)), name: fmt.Sprintf("w%d", i+1), ip: fmt.Sprintf("10.0.0.%d", i+1)}
			n.hub = bench.newHub(n.id, n.name, n.ip, wire.Config{Worker: n})
			defer n.hub.Close()
			s.nodes[i] = n
			m.Update(s.info(n, 2))
		}
		for i := 0; i < 64 && len(s.script.rest) > 0; i++ {
			s.step()
		}
		m.mu.Lock()
		for _, t := range m.tasks { // of ephemeral ones nobody is told
			m.cancelLocked(t, tasks.StopKill)
		}
		m.mu.Unlock()
		for _, n := range s.nodes {
			m.Remove(n.id)
			n.hub.Close()
		}
		time.Sleep(2 * time.Minute) // more than anything here waits for
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, w := range m.workers {
			t.Errorf("worker %q is kept: %d attempts, %d slots in use, %d tasks wait", w.info.Name, w.attempts.n, w.inUse, w.queue.len())
		}
		m.checkBooksLocked(t)
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, m := range s.mistakes {
			t.Error(m)
		}
	})
}
