package verify

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

// In a run without faults no event of a task that was offered and told of can be
// missing without being missed.
func TestNoEventOfATaskCanBeLeftOut(t *testing.T) {
	needed := []history.Name{history.Journaled, history.Offered, history.Granted, history.Started, history.Finished, history.ResultReceived, history.Ended}
	m := calm(3)
	tried := 0
	for i := range m.events {
		e := m.events[i]
		whole := e.N == 0 || m.has(history.Started, of(e.Task), number(e.N))
		if !slices.Contains(needed, e.Name) || !whole || !m.has(history.Answered, of(e.Task)) {
			continue
		}
		if e.Name == history.ResultReceived && m.state(&e) != tasks.StateDone || e.What == history.TheResult && m.state(&e) == tasks.StateFailed {
			continue
		}
		if e.Name == history.ResultReceived && e.N == 1 && m.has(history.Offered, of(e.Task), number(2)) {
			continue // that a first attempt failed matters to nobody
		}
		tried++
		less := *m
		less.events = slices.Delete(slices.Clone(m.events), i, i+1)
		if r := check(t, &less); r.OK() {
			t.Errorf("the history is green without %+v", e)
		}
	}
	if tried < 60 {
		t.Errorf("%d events were left out, want 60 or more", tried)
	}
}

// What a kill may have lost is not held against anybody.
func TestHistoriesThatAreCutShortAreGreen(t *testing.T) {
	cfg := config()
	cfg.Settle = time.Minute
	for seed := range uint64(15) {
		m := brief(seed)
		// The last start of w3 is killed, and what it wrote last is lost.
		for cut := len(m.events) - 1; cut > len(m.events)/2; cut -= 29 {
			short := *m
			short.events = slices.DeleteFunc(slices.Clone(m.events), func(e history.Event) bool {
				return e.Node == w3 && e.Mono > m.events[cut].Mono
			})
			histories, truth := short.sources()
			r, err := Check(cfg, histories, truth)
			if err != nil || !r.OK() {
				t.Fatalf("seed %d, w3 cut at %d: %v\n%s", seed, m.events[cut].Mono, err, r.text(t))
			}
		}
		// The same of the first start of m1: it is killed, and the next knows of nothing
		// that is missing.
		for range 4 {
			last := 0
			for i, e := range m.events {
				if e.Node == m1 && e.Boot == "boot1" {
					last = i
				}
			}
			m.events = slices.Delete(m.events, last, last+1)
			if r := check(t, m); !r.OK() {
				t.Fatalf("seed %d, m1 without the last of its first start:\n%s", seed, r.text(t))
			}
		}
	}
}

// An agent is mostly master and worker in one, with one history.
func TestOneNodeMayBeMasterAndWorker(t *testing.T) {
	for seed := range uint64(5) {
		m := calm(seed)
		m.get(history.Booted, by(m1)).Slots = slots
		m.events = slices.DeleteFunc(m.events, func(e history.Event) bool {
			return e.Node == w1 && slices.Contains([]history.Name{history.Booted, history.Stopping, history.Stopped}, e.Name)
		})
		for i := range m.events {
			e := &m.events[i]
			for _, id := range []*string{&e.Node, &e.Worker, &e.Peer} {
				if *id == w1 {
					*id = m1
				}
			}
			e.Workers = slices.Clone(e.Workers)
			if j := slices.Index(e.Workers, w1); j >= 0 {
				e.Workers[j] = m1
			}
		}
		if r := check(t, m); !r.OK() || r.Nodes != 5 {
			t.Fatalf("seed %d:\n%s", seed, r.text(t))
		}
		m.drop(history.Granted, m.once())
		if r := check(t, m); r.Broken[7] == 0 {
			t.Errorf("seed %d: a grant that is missing is not missed", seed)
		}
	}
}

// Hosts have clocks of their own: what only their order would show is not claimed.
func TestEventsOfTwoHostsAreNotOrdered(t *testing.T) {
	m := calm(1)
	for i := range m.events {
		if e := &m.events[i]; e.Node[0] == 'w' {
			e.Mono += 1000 * second
			if e.Name == history.Booted {
				e.Host = "another"
			}
		}
	}
	m.sort()
	if r := check(t, m); !r.OK() || r.Hosts != 2 {
		t.Fatalf("%d hosts\n%s", r.Hosts, r.text(t))
	}
}

func TestDamagedFilesAreNotJudged(t *testing.T) {
	histories, truth := calm(1).sources()
	line := func(s Source) string {
		f, _ := s.Open()
		b, _ := io.ReadAll(f)
		return string(b[:bytes.IndexByte(b, '\n')+1])
	}
	booted := line(histories[0])
	for name, c := range map[string]struct{ history, truth string }{
		"torn in the middle":    {booted + "{\"mono\n" + `{"mono":900000000,"node":"maaaaaaa","boot":"boot1","ev":"stopped"}` + "\n", ""},
		"not booted":            {`{"mono":1,"node":"n","boot":"b","ev":"stopped"}` + "\n", ""},
		"of another start":      {booted + `{"mono":900000000,"node":"maaaaaaa","boot":"b","ev":"stopped"}` + "\n", ""},
		"older than before":     {booted + `{"mono":1,"node":"maaaaaaa","boot":"boot1","ev":"stopped"}` + "\n", ""},
		"truth without a time":  {booted, line(truth[0])[:30] + "\n"},
		"truth of no task":      {booted, "what 1 2 start 3\n"},
		"truth of neither word": {booted, "maaaaaaaaaaaaaaaaaaaaaaaae 1 2 begin 3\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Check(config(), []Source{source("h", []byte(c.history))}, []Source{source("t", []byte(c.truth))})
			if err == nil {
				t.Errorf("it was judged: %s", r.text(t))
			}
		})
	}
	torn := line(truth[0])
	torn += torn[:20]
	if r, err := Check(config(), histories, []Source{source("t", []byte(torn))}); err != nil || r.Torn != 1 {
		t.Errorf("a last line of the truth that is torn: %v", err)
	}
}

// BenchmarkCheck is 10,000 tasks of 15 events.
func BenchmarkCheck(b *testing.B) {
	histories, truth := large(10_000)
	b.ReportAllocs()
	for b.Loop() {
		r, err := Check(config(), histories, truth)
		if err != nil || !r.OK() {
			b.Fatal(fmt.Sprint(err), r.Violations[:1])
		}
	}
}

// large makes histories of so many plain tasks.
func large(n int) (histories, truth []Source) {
	w := newWorld(1, 0)
	w.start(second/10, m1, m2, w1, w2, w3, harness)
	for i := range n {
		f := w.flow([]string{m1, m2}[i%2], second)
		f.submit()
		f.whole(workerIDs[i%3], tasks.StateDone, "")
	}
	w.sort()
	w.nameBoots()
	return w.sources()
}
