package verify

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

// The mutators find what they need in the material, and panic if it is not there.

type cond func(*history.Event) bool

func (m *material) index(name history.Name, cs ...cond) int {
	return slices.IndexFunc(m.events, func(e history.Event) bool {
		return e.Name == name && !slices.ContainsFunc(cs, func(c cond) bool { return !c(&e) })
	})
}

func (m *material) has(name history.Name, cs ...cond) bool { return m.index(name, cs...) >= 0 }

func (m *material) find(name history.Name, cs ...cond) int {
	i := m.index(name, cs...)
	if i < 0 {
		panic(fmt.Sprintf("there is no such %s", name))
	}
	return i
}

func (m *material) get(name history.Name, cs ...cond) *history.Event {
	return &m.events[m.find(name, cs...)]
}

func (m *material) drop(name history.Name, cs ...cond) {
	i := m.find(name, cs...)
	m.events = slices.Delete(m.events, i, i+1)
}

// add adds a copy of an event, changed, so many nanoseconds later, and in its place.
func (m *material) add(later int64, name history.Name, change func(*history.Event), cs ...cond) {
	e := *m.get(name, cs...)
	e.Mono, e.Wall = e.Mono+later, e.Wall+later
	if change != nil {
		change(&e)
	}
	m.events = append(m.events, e)
	m.sort()
}

func (m *material) sort() {
	slices.SortStableFunc(m.events, func(a, b history.Event) int { return cmp.Compare(a.Mono, b.Mono) })
}

// swap lets two events happen at each other's times.
func (m *material) swap(a, b *history.Event) {
	a.Mono, b.Mono = b.Mono, a.Mono
	a.Wall, b.Wall = b.Wall, a.Wall
	m.sort()
}

func of(id tasks.ID) cond      { return func(e *history.Event) bool { return e.Task == id } }
func what(w history.What) cond { return func(e *history.Event) bool { return e.What == w } }
func number(n uint32) cond     { return func(e *history.Event) bool { return e.N == n } }
func by(node string) cond      { return func(e *history.Event) bool { return e.Node == node } }

// free lets a start take no slot.
func free(e *history.Event) { e.Slots = 0 }

func keyedBy(e *history.Event) bool   { return e.Key != "" }
func boundTask(e *history.Event) bool { return e.Worker != "" }
func isDone(e *history.Event) bool    { return e.State == tasks.StateDone }
func (m *material) state(e *history.Event) tasks.State {
	for i := range m.events {
		if o := &m.events[i]; o.Name == history.Ended && o.Task == e.Task {
			return o.State
		}
	}
	return ""
}

// done, once and stopped find a plain task with one attempt, one that runs at most
// once, and one that was cancelled while it ran. All of a quiet time.
func (m *material) done() cond {
	return of(m.get(history.Submitted, func(e *history.Event) bool {
		return !e.AtMostOnce && !e.Ephemeral && e.Worker == "" && e.Key == "" && m.state(e) == tasks.StateDone && !m.has(history.Offered, of(e.Task), number(2))
	}).Task)
}

func (m *material) once() cond {
	return of(m.get(history.Submitted, func(e *history.Event) bool { return e.AtMostOnce && m.state(e) == tasks.StateDone }).Task)
}

func (m *material) stopped() cond {
	return of(m.get(history.Revoked, func(e *history.Event) bool { return m.state(e) == tasks.StateCancelled }).Task)
}

func (m *material) retried() cond {
	return of(m.get(history.Journaled, what(history.TheResult)).Task)
}

func (m *material) word(c cond, what string) *truthLine {
	for i := range m.truth {
		if l := &m.truth[i]; l.what == what && c(&history.Event{Task: l.task}) {
			return l
		}
	}
	panic("the task has not said so")
}

func (m *material) silence(c cond, what string) {
	l := m.word(c, what)
	i := slices.Index(m.truth, *l)
	m.truth = slices.Delete(m.truth, i, i+1)
}

var mutations = []struct {
	name   string
	mutate func(m *material)
	want   []int // the invariants that are seen not to hold
	calm   bool  // of a run without faults
}{
	{"drop a task from what a journal held", func(m *material) { e := m.get(history.Recovered); e.Tasks = e.Tasks[1:] }, []int{1}, false},
	{"drop all that a journal held", func(m *material) { m.drop(history.Recovered) }, []int{1}, false},
	{"drop that a task is on disk", func(m *material) { m.drop(history.Journaled, what(history.TheTask), m.done()) }, []int{1}, false},
	{"give the id out before it is on disk", func(m *material) {
		m.swap(m.get(history.Journaled, what(history.TheTask), m.done()), m.get(history.Submitted, m.done()))
	}, []int{1}, false},

	{"drop the end", func(m *material) { m.drop(history.Ended, m.done()) }, []int{2}, true},

	{"end twice, in two ways", func(m *material) {
		m.add(1, history.Ended, func(e *history.Event) { e.State = tasks.StateLost }, m.done())
	}, []int{3}, false},
	{"end twice, with two results", func(m *material) {
		m.add(1, history.Ended, func(e *history.Event) { e.Hash = "other" }, m.done())
	}, []int{3, 6}, false},
	{"end twice, after a restart", func(m *material) {
		m.add(60*second, history.Ended, func(e *history.Event) { e.State, e.Boot = tasks.StateFailed, "boot2" }, by(m1), isDone)
	}, []int{3}, false},
	{"tell a client of another end", func(m *material) { m.get(history.Answered, m.done()).State = tasks.StateFailed }, []int{3}, false},
	{"end otherwise after a restart", func(m *material) {
		m.get(history.Recovered, func(e *history.Event) bool { return e.State == tasks.StateDone }).State = tasks.StateLost
	}, []int{3}, false},
	{"have not ended after a restart", func(m *material) {
		m.get(history.Recovered, func(e *history.Event) bool { return e.State == tasks.StateDone }).State = ""
	}, []int{3}, false},
	{"end twice, the same", func(m *material) { m.add(1, history.Ended, nil, m.done()) }, nil, false},

	{"offer what has ended", func(m *material) {
		end := m.get(history.Ended, m.done()).Mono
		later := end - m.get(history.Journaled, what(history.TheAttempt), m.done()).Mono + 1
		next := func(e *history.Event) { e.N++ }
		m.add(later, history.Journaled, next, what(history.TheAttempt), m.done())
		m.add(end-m.get(history.Offered, m.done()).Mono+2, history.Offered, next, m.done())
	}, []int{4}, false},
	{"start what has ended long ago", func(m *material) {
		m.add(2*second, history.Started, free, m.done())
		m.add(2*second, history.Finished, nil, m.done())
	}, nil, false}, // it may have been on its way
	{"start what has ended longer ago", func(m *material) {
		m.add(40*second, history.Started, free, m.done())
		m.add(40*second, history.Finished, nil, m.done())
	}, []int{4, 9}, true},

	{"drop that an attempt is on disk", func(m *material) { m.drop(history.Journaled, what(history.TheAttempt), m.done()) }, []int{5}, false},
	{"offer before it is on disk", func(m *material) {
		m.swap(m.get(history.Journaled, what(history.TheAttempt), m.done()), m.get(history.Offered, m.done()))
	}, []int{5}, false},
	{"offer an attempt twice", func(m *material) { m.add(1, history.Offered, nil, m.done()) }, []int{5}, false},
	{"number a second attempt as the first", func(m *material) { m.get(history.Offered, m.retried(), number(2)).N = 1 }, []int{5}, false},
	{"drop an offer", func(m *material) { m.drop(history.Offered, m.done()) }, []int{5}, false},
	{"start before the offer", func(m *material) {
		e := m.get(history.Offered, m.done())
		e.Mono, e.Wall = e.Mono+15*ms, e.Wall+15*ms
		m.sort()
	}, []int{5}, false},
	{"start where it was not offered", func(m *material) {
		e := m.get(history.Offered, m.done())
		e.Worker = map[string]string{w1: w2, w2: w3, w3: w1}[e.Worker]
	}, []int{5}, false},

	{"drop that it finished", func(m *material) { m.drop(history.Finished, m.done()) }, []int{6, 18}, true},
	{"drop that it started", func(m *material) { m.drop(history.Started, m.done()) }, []int{6}, false},
	{"drop that a result arrived", func(m *material) { m.drop(history.ResultReceived, m.done()) }, []int{6}, false},
	{"record a result that nobody made", func(m *material) { m.get(history.Ended, m.done()).Hash = "other" }, []int{6, 17}, false},

	{"start twice by its own word", func(m *material) {
		l := *m.word(m.once(), "start")
		l.pid++
		m.truth = append(m.truth, l)
	}, []int{7}, false},
	{"start twice", func(m *material) {
		m.add(1, history.Started, free, m.once())
	}, []int{7}, false},
	{"drop the grant", func(m *material) { m.drop(history.Granted, m.once()) }, []int{7}, false},
	{"start long before the grant", func(m *material) {
		e := m.get(history.Granted, m.once())
		e.Mono, e.Wall = e.Mono+15*ms, e.Wall+15*ms
		m.sort()
	}, []int{7}, false},
	{"lose what was never granted", func(m *material) {
		m.get(history.Ended, func(e *history.Event) bool { return e.Why == "never_reached" }).Why = "lost"
	}, []int{7}, false},

	{"never run to the end by its own word", func(m *material) { m.silence(m.done(), "end") }, []int{8}, false},
	{"never start by its own word", func(m *material) { m.silence(m.done(), "start") }, []int{8}, false},
	{"end as another attempt by its own word", func(m *material) { m.word(m.done(), "end").n++ }, []int{8}, false},

	{"run twice for nothing", func(m *material) {
		m.add(1, history.Started, free, m.done())
	}, []int{9}, true},
	{"run twice for nothing by its own word", func(m *material) {
		for _, w := range []string{"start", "end"} {
			l := *m.word(m.done(), w)
			l.pid++
			l.at += 10 * second
			m.truth = append(m.truth, l)
		}
	}, []int{9}, true},

	{"run twice at once", func(m *material) {
		for _, w := range []string{"start", "end"} {
			l := *m.word(m.done(), w)
			l.pid++
			l.at++
			m.truth = append(m.truth, l)
		}
	}, []int{10}, false},

	{"run on after it was told to stop", func(m *material) { m.word(m.stopped(), "end").at += 40 * second }, []int{11, 15}, true},
	{"run on after it was told to stop, by the history", func(m *material) {
		e := m.get(history.Finished, m.stopped())
		e.Mono, e.Wall = e.Mono+40*second, e.Wall+40*second
		m.sort()
	}, []int{11}, true},
	{"run on after it was told to stop, as all stood still", func(m *material) {
		l := m.word(m.stopped(), "end")
		l.at += 40 * second
		swept := m.get(history.Swept).Mono
		for name, at := range map[history.Name]int64{history.Fault: l.at - epoch - 40*second, history.FaultOver: l.at - epoch - 10*second} {
			m.add(at-swept, history.Swept, func(e *history.Event) { e.Name, e.What, e.Peer = name, history.Pause, "" })
		}
	}, nil, true},
	{"start after it was told to stop", func(m *material) {
		m.swap(m.get(history.Started, m.stopped()), m.get(history.Revoked, m.stopped()))
	}, []int{11}, true},

	{"acknowledge before it is on disk", func(m *material) {
		m.swap(m.get(history.Journaled, what(history.TheEnd), m.done()), m.get(history.ResultAcked, m.done()))
	}, []int{12}, false},
	{"drop that the end is on disk", func(m *material) { m.drop(history.Journaled, what(history.TheEnd), m.done()) }, []int{12}, false},
	{"tell a client before it is on disk", func(m *material) {
		m.swap(m.get(history.Journaled, what(history.TheEnd), m.done()), m.get(history.Answered, m.done()))
	}, []int{12}, false},
	{"drop that a failure is on disk", func(m *material) { m.drop(history.Journaled, what(history.TheResult)) }, []int{12}, false},

	{"run more than there are slots", func(m *material) { m.get(history.Booted, by(w1)).Slots = 0 }, []int{13}, false},
	{"take another slot", func(m *material) { m.get(history.Started, m.done()).Slots += slots }, []int{13}, false},

	{"run a kind that is not allowed", func(m *material) { m.get(history.Started, m.done()).Kind = tasks.Git }, []int{14}, false},
	{"run what was refused", func(m *material) {
		e := *m.get(history.Rejected)
		e.Node, e.Boot, e.Mono, e.Wall = w2, "boot1", e.Mono+1, e.Wall+1
		m.events = append(m.events, e)
		m.sort()
	}, []int{14}, true},
	{"have one target more", func(m *material) {
		e := m.get(history.Targets)
		e.Workers = append(slices.Clone(e.Workers), "wddddddd")
	}, []int{14}, true},
	{"have one target twice", func(m *material) { e := m.get(history.Targets); e.Workers = []string{w1, w2, w2} }, []int{14}, false},
	{"offer a task of one worker to another", func(m *material) {
		e := m.get(history.Submitted, boundTask)
		e.Worker = map[string]string{w1: w2, w2: w3, w3: w1}[e.Worker]
	}, []int{14}, false},

	{"run on after the answer that it is cancelled", func(m *material) {
		m.word(m.stopped(), "end").at += 40 * second
		m.drop(history.Revoked, m.stopped())
	}, []int{15}, true},

	{"give a key two ids", func(m *material) {
		i := m.find(history.Submitted, keyedBy)
		m.add(ms, history.Submitted, func(e *history.Event) { e.Run[15]++ }, of(m.events[i].Task))
	}, []int{16}, false},
	{"take a key for another body", func(m *material) {
		m.add(ms, history.Submitted, func(e *history.Event) { e.Hash = "another" }, keyedBy)
	}, []int{16}, false},

	{"run something else", func(m *material) { m.get(history.Started, m.done()).Spec = "other" }, []int{17}, false},
	{"let a result change on its way", func(m *material) { m.get(history.ResultReceived, m.done()).Hash = "other" }, []int{6, 17}, false},
	{"give a client another result", func(m *material) { m.get(history.Answered, m.done()).Hash = "other" }, []int{17}, false},

	{"leave a process", func(m *material) {
		m.add(0, history.Swept, func(e *history.Event) { e.Name, e.What, e.Why = history.Leftover, "process", "sleep 1000" })
	}, []int{18}, false},
	{"stop with something running", func(m *material) { // a worker that is to stop
		m.drop(history.Finished, m.done())
		m.drop(history.ResultReceived, m.done())
		m.drop(history.Ended, m.done())
	}, []int{2, 18}, true},

	{"report a node that was well", func(m *material) {
		e := m.get(history.MemberDown, by(m2))
		e.What = history.MemberFailed
		m.drop(history.Stopping, by(e.Peer))
	}, []int{19}, false},
	{"report one that was killed without a word", func(m *material) { m.drop(history.Fault, what(history.Kill)) }, nil, false},

	{"report one that loses packets", func(m *material) {
		m.add(-60*second, history.Swept, func(e *history.Event) { e.Name, e.What, e.Peer = history.Fault, history.Loss, "" })
		m.get(history.MemberDown, by(m2)).What = history.MemberFailed
	}, nil, true},

	{"drop an event of a feed", func(m *material) { m.drop(history.Deliver, func(e *history.Event) bool { return e.Seq == 9 }) }, []int{20}, false},
	{"deliver an event twice", func(m *material) { m.add(1, history.Deliver, nil, func(e *history.Event) bool { return e.Seq == 9 }) }, []int{20}, false},
	{"deliver two events in the wrong order", func(m *material) {
		m.swap(m.get(history.Deliver, func(e *history.Event) bool { return e.Seq == 9 }), m.get(history.Deliver, func(e *history.Event) bool { return e.Seq == 10 }))
	}, []int{20}, false},
	{"do not say that events are gone", func(m *material) {
		m.get(history.Deliver, func(e *history.Event) bool { return e.Seq == 400 }).Why = ""
	}, []int{20}, false},
}

// broken returns which invariants are. Who holds a slot for longer than it did leaves
// too few to others, if there are some: then I13 counts only where it is wanted.
func broken(r *Report, want []int) (is []int) {
	for i, n := range r.Broken {
		if n > 0 && (i != 13 || slices.Contains(want, 13) || !slices.Contains(want, 18) && !slices.Contains(want, 11)) {
			is = append(is, i)
		}
	}
	return is
}

// I19 is about nodes that are up: others may see one that goes fail before they hear
// that it has left.
func TestWhoStopsMayBeSeenToFail(t *testing.T) {
	for _, c := range []struct {
		later int64
		want  []int
	}{{-1, []int{19}}, {1, nil}} {
		m := calm(1)
		for _, n := range []string{m1, w1, w2, w3} { // so that they were up for long enough
			m.get(history.Stopping, by(n)).Mono += 100 * second
			m.get(history.Stopping, by(n)).Wall += 100 * second
			m.get(history.Stopped, by(n)).Mono += 100 * second
			m.get(history.Stopped, by(n)).Wall += 100 * second
		}
		m.add(c.later, history.Stopping, func(e *history.Event) {
			e.Name, e.Node, e.Peer, e.What = history.MemberDown, m1, w1, history.MemberFailed
		}, by(w1))
		if r := check(t, m); !slices.Equal(broken(r, c.want), c.want) {
			t.Errorf("reported %dns after it began to stop: the invariants %v are broken, want %v\n%s", c.later, broken(r, c.want), c.want, r.text(t))
		}
	}
}

func TestEveryInvariantIsSeenToBeBroken(t *testing.T) {
	caught := map[int]bool{}
	for _, c := range mutations {
		for _, i := range c.want {
			caught[i] = true
		}
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(10) {
				m := brief(seed)
				if c.calm {
					m = calm(seed)
				}
				c.mutate(m)
				r := check(t, m)
				if got := broken(r, c.want); !slices.Equal(got, c.want) {
					t.Fatalf("seed %d: the invariants %v are broken, want %v\n%s", seed, got, c.want, r.text(t))
				}
			}
		})
	}
	for i := 1; i <= Invariants; i++ {
		if !caught[i] {
			t.Errorf("no mutation breaks I%d", i)
		}
	}
}
