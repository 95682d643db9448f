package bus

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// An event that gossip brings while the answer to a pull is under way is delivered once.
func TestAnAnswerThatIsOlderThanGossipRepeatsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		once := false
		w.set(func() {
			w.trouble = func(r *http.Request, answered bool) error {
				if answered && !once && strings.HasSuffix(r.URL.Path, "/log") {
					once = true
					a.SendAll(t.Context(), "y", Data{})
					time.Sleep(200 * time.Millisecond) // the answer travels; y's head is faster
				}
				return nil
			}
		})
		a.SendAll(t.Context(), "x", Data{})
		time.Sleep(time.Minute)
		if got := names(b.events()); got != "x y " {
			t.Errorf("b got %q, want x and y, each once", got)
		}
	})
}

// docs/bus.md: "An event to some comes after what its sender had sent to all before".
func TestALetterDoesNotOvertakeBesideAnOldAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		a.SendAll(t.Context(), "x", Data{})
		once := false
		w.set(func() {
			w.trouble = func(r *http.Request, answered bool) error {
				if answered && !once && strings.HasSuffix(r.URL.Path, "/log") {
					once = true
					a.SendAll(t.Context(), "large", Data{JSON, []byte(`"` + strings.Repeat("x", InlineBytes) + `"`)})
					go a.SendTo(context.Background(), []Peer{{ID: "b"}}, "one", Data{})
					time.Sleep(200 * time.Millisecond)
				}
				return nil
			}
		})
		time.Sleep(time.Minute)
		if got := names(b.events()); got != "x large one " {
			t.Errorf("b got %q, want x, large, one", got)
		}
	})
}

// docs/bus.md: "who was cut off gets it when the cut is over". Member.Since, which Known
// is made of, begins anew when a member is back.
func TestEventsOfACutComeWhenItIsOver(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		a.SendAll(t.Context(), "x", Data{})
		time.Sleep(time.Minute)
		w.set(func() { w.deaf = true })
		a.SendAll(t.Context(), "y", Data{})
		time.Sleep(time.Minute)
		back := time.Now()
		w.set(func() {
			w.peer = func(p Peer, ok bool) (Peer, bool) {
				p.Known = time.Since(back)
				return p, ok
			}
		})
		w.set(func() { w.deaf = false })
		a.Greet("b")
		time.Sleep(time.Minute)
		if got := names(b.events()); got != "x y " {
			t.Errorf("b got %q, missed %d, want x and y", got, b.Stats().Missed)
		}
	})
}

// docs/bus.md: "A node sends at most 32 MB a second, counted once for each receiver".
func TestALargeEventToManyCostsAllOfThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestBus(t, "a")
		n.cfg.Count = func() int { return 999 }
		data := Data{JSON, []byte(`"` + strings.Repeat("x", 1<<20-2) + `"`)}
		began := time.Now()
		for range 20 {
			if err := n.SendAll(t.Context(), "x", data); err != nil {
				t.Fatal(err)
			}
		}
		want := time.Duration(20*1000<<20-sendBurst) / sendRate * time.Second
		if d := time.Since(began); d < want-time.Minute {
			t.Errorf("20 events of 1 MiB to 1000 nodes took %v, want %v", d, want)
		}
	})
}

// docs/bus.md: "A head is repeated for half a minute, and again when somebody comes (back) to the pool", however many do.
func TestHeadsAreRepeatedHoweverManyCome(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		w.set(func() { w.deaf = true })
		a.SendAll(t.Context(), "x", Data{})
		time.Sleep(100 * time.Millisecond)
		w.set(func() { w.deaf = false })
		for range 120 {
			a.Greet("b")
			time.Sleep(500 * time.Millisecond)
		}
		if got := names(b.events()); got != "x " {
			t.Errorf("after a minute b got %q, want x", got)
		}
	})
}

// docs/bus.md: "An event to some is delivered once, also when the answer is lost".
func TestALetterThatIsSentAgainAfterManyOthersIsDeliveredOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		var mu sync.Mutex
		lost := false
		w.set(func() {
			w.trouble = func(r *http.Request, answered bool) error {
				mu.Lock()
				first := answered && !lost
				lost = lost || first
				mu.Unlock()
				if first {
					time.Sleep(5 * time.Second) // until the sender notices that the connection is gone
					return io.ErrUnexpectedEOF
				}
				return nil
			}
		})
		go a.SendTo(context.Background(), []Peer{{ID: "b"}}, "x", Data{})
		synctest.Wait()
		for range 5000 { // within 5 s
			a.SendTo(context.Background(), []Peer{{ID: "b"}}, "y", Data{})
		}
		time.Sleep(time.Minute)
		n := 0
		for _, e := range b.events() {
			if e.Name == "x" {
				n++
			}
		}
		if n != 1 {
			t.Errorf("b got x %d times, want once", n)
		}
	})
}

// Lamport time grows, whatever one member says.
func TestLamportTimeIsNotLedToItsEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		h := head{boot: "1", last: 1, lamport: math.MaxUint64, quiet: time.Hour}
		b.Hear("a", h.append(nil, time.Now()))
		before := b.lamport
		b.SendAll(t.Context(), "x", Data{})
		if got := b.events(); got[0].Lamport <= before {
			t.Errorf("Lamport time goes from %d to %d", before, got[0].Lamport)
		}
	})
}

// docs/bus.md: "what is sent after a reply has a larger one than what the reply tells of".
func TestTheTimeOfAReplyIsHeard(t *testing.T) {
	for what, answer := range map[string]func(context.Context, Event) (Data, error){
		"a reply":     func(context.Context, Event) (Data, error) { return Data{}, nil },
		"an error":    func(context.Context, Event) (Data, error) { return Data{}, io.ErrUnexpectedEOF },
		"none at all": nil,
	} {
		bubble(t, func(t *testing.T, w *network, a, b *node) {
			w.set(func() { w.deaf = true })
			b.answer = answer
			for range 10 {
				b.SendAll(t.Context(), "published", Data{})
			}
			replies, err := a.Request(t.Context(), []Peer{{ID: "b"}}, "what", Data{})
			if err != nil {
				t.Fatal(err)
			}
			<-replies
			a.SendAll(t.Context(), "newer", Data{})
			published, newer := b.events()[9], a.events()[0]
			if published.Lamport >= newer.Lamport {
				t.Errorf("after %s, an event at %d follows one at %d", what, newer.Lamport, published.Lamport)
			}
		})
	}
}

// heap returns the bytes that are in use. What tests before left may go meanwhile.
func heap() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// What a log is asked for is not copied for each that asks: 1000 ask within a second.
func TestManyWhoFetchTakeLittleMemory(t *testing.T) {
	n := newTestBus(t, "a")
	n.SendAll(t.Context(), "x", Data{JSON, []byte(`"` + strings.Repeat("x", 1<<20-2) + `"`)})
	before := heap()
	const many = 200
	release := make(chan struct{})
	var in, wg sync.WaitGroup
	in.Add(many)
	for range many {
		wg.Go(func() {
			s := &slowWriter{wait: sync.OnceFunc(func() { in.Done(); <-release })}
			n.handler.ServeHTTP(s, httptest.NewRequest("GET", Path+"log?boot=1&from=1", nil))
		})
	}
	in.Wait()
	after := heap()
	close(release)
	wg.Wait()
	if mb := (after - before) >> 20; mb > 50 {
		t.Errorf("%d nodes that fetch one event of 1 MiB take %d MiB", many, mb)
	}
}

// slowWriter is a connection that takes nothing until wait returns.
type slowWriter struct{ wait func() }

func (s *slowWriter) Header() http.Header         { return http.Header{} }
func (s *slowWriter) WriteHeader(int)             {}
func (s *slowWriter) Write(b []byte) (int, error) { s.wait(); return len(b), nil }

// An event of few bytes that somebody keeps does not keep the whole answer in which it came.
func TestSmallEventsKeepNoLargeAnswers(t *testing.T) {
	n := newTestBus(t, "b")
	var kept []Event
	n.cfg.Deliver = func(e Event) {
		if e.Name == "small" { // what a subscription with a pattern keeps: 1000 of them, 4 MiB
			kept = append(kept, e)
		}
	}
	s := &stream{peer: Peer{ID: "a", Boot: "1"}, next: 1}
	n.streams["a"] = s
	before := heap()
	for i := range uint64(100) {
		body := binary.AppendUvarint(binary.AppendUvarint(nil, 2*i+1), 2*i+2)
		large := item{seq: 2*i + 1, name: "large", data: Data{Msgpack, make([]byte, 900<<10)}}
		small := item{seq: 2*i + 2, name: "small", data: Data{JSON, []byte("1")}}
		body = small.append(large.append(body, time.Now()), time.Now())
		if err := n.take(s, s.next, s.head, body); err != nil {
			t.Fatal(err)
		}
	}
	if mb := (heap() - before) >> 20; mb > 10 {
		t.Errorf("%d events of 1 byte keep %d MiB", len(kept), mb)
	}
	runtime.KeepAlive(kept)
}

// A sender that this node took for dead for a while, and that did not take this one for
// dead, is asked again for what was heard of.
func TestFetchingGoesOnWhenTheSenderIsBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		a.SendAll(t.Context(), "x", Data{})
		time.Sleep(time.Minute)
		var cut atomic.Bool
		cut.Store(true)
		dead, died := context.WithCancel(context.Background())
		w.set(func() { w.gone = dead })
		w.set(func() {
			w.trouble = func(*http.Request, bool) error {
				if cut.Load() {
					return fmt.Errorf("no route")
				}
				return nil
			}
		})
		a.SendAll(t.Context(), "large", Data{JSON, []byte(`"` + strings.Repeat("x", InlineBytes) + `"`)})
		time.Sleep(40 * time.Second)
		died() // b takes a for dead
		time.Sleep(time.Second)
		w.set(func() { w.gone = nil })
		cut.Store(false) // a is back, and says so: agent.onEvent calls
		b.Greet("a")
		time.Sleep(5 * time.Minute)
		if got := names(b.events()); got != "x large " {
			t.Errorf("b got %q, want x and large", got)
		}
	})
}

// A letter waits for gossip to tell of its sender, as long as there is time.
func TestALetterWaitsUntilItsSenderIsKnown(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		came := time.Now().Add(time.Second)
		w.set(func() {
			w.peer = func(p Peer, ok bool) (Peer, bool) { return p, ok && (p.ID != "a" || time.Now().After(came)) }
		})
		a.SendAll(t.Context(), "x", Data{})
		results, _ := a.SendTo(t.Context(), []Peer{{ID: "b"}}, "one", Data{})
		if results[0].Err != nil {
			t.Errorf("a node that has just joined cannot send: %v", results[0].Err)
		}
	})
}

// Newcomers get heads directly, also while events come all the time.
func TestNewcomersGetHeadsDirectly(t *testing.T) {
	n := 100
	peers := func() (ps []Peer) {
		for i := range n {
			ps = append(ps, Peer{ID: fmt.Sprint(i)})
		}
		return ps
	}
	var r round
	r.begin(peers())
	n = 101
	for range 1000 { // an event every 50 ms for 50 s
		for _, p := range r.next() {
			if p.ID == "100" {
				return
			}
		}
		r.begin(peers())
	}
	t.Error("a node that came during the first round is never told")
}

// What any web page can have a browser in the LAN send is no letter. (The API's routes ask for
// application/json, which a page cannot send to others without being asked first.)
func TestAWebPageSendsNoLetters(t *testing.T) {
	n := newTestBus(t, "b")
	var got []Event
	n.cfg.Deliver = func(e Event) { got = append(got, e) }
	l := letter{from: "no such node", boot: "?", number: 1, patience: time.Second, item: item{name: "build.done"}}
	r := httptest.NewRequest("POST", Path+"event", strings.NewReader(string(l.encode(time.Now()))))
	r.Header.Set("Content-Type", "text/plain")
	r.Header.Set("Origin", "http://evil.example")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	n.handler.ServeHTTP(w, r)
	if w.Code == http.StatusOK || len(got) > 0 {
		t.Errorf("answer %d, delivered %+v, from who is in no pool", w.Code, got)
	}
}

// 64 forged events that never come do not keep inline events from being taken.
func TestForgedEventsKeepOutNone(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		a.SendAll(t.Context(), "x", Data{})
		time.Sleep(time.Minute)
		for i := range uint64(maxEarly) {
			h := head{boot: "1", last: 1000 + i, quiet: time.Hour, items: []item{{seq: 1000 + i, name: "forged"}}}
			b.Hear("a", h.append(nil, time.Now()))
		}
		time.Sleep(time.Minute)
		before := b.Stats().Pulls
		for range 20 {
			a.SendAll(t.Context(), "y", Data{})
			time.Sleep(time.Second)
		}
		if p := b.Stats().Pulls - before; p > 2 {
			t.Errorf("b fetched %d times what 20 heads had in them", p)
		}
	})
}

// What a sender's last life left comes before what its next life sent, or not at all.
func TestAnAnswerOfTheLifeBeforeIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		a.SendAll(t.Context(), "x", Data{})
		time.Sleep(time.Minute)
		var mu sync.Mutex
		boot := "1"
		w.set(func() {
			w.peer = func(p Peer, ok bool) (Peer, bool) {
				mu.Lock()
				defer mu.Unlock()
				if p.ID == "a" {
					p.Boot = boot
				}
				return p, ok
			}
		})
		w.set(func() {
			w.trouble = func(r *http.Request, answered bool) error {
				mu.Lock()
				first := answered && boot == "1"
				if first {
					boot = "2"
				}
				mu.Unlock()
				if first { // the answer is under way while a starts anew
					h := head{boot: "2", last: 1, quiet: time.Hour, items: []item{{seq: 1, at: time.Now(), name: "new"}}}
					b.Hear("a", h.append(nil, time.Now()))
				}
				return nil
			}
		})
		a.SendAll(t.Context(), "old", Data{JSON, []byte(`"` + strings.Repeat("x", InlineBytes) + `"`)})
		time.Sleep(time.Second)
		if got := names(b.events()); got != "x new " && got != "x old new " {
			t.Errorf("b got %q", got)
		}
	})
}
