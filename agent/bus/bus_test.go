package bus

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// network is some buses that reach each other without a network.
type network struct {
	mu      sync.Mutex
	nodes   map[string]*node
	deaf    bool                                       // gossip does not get through
	trouble func(r *http.Request, answered bool) error // before and after a request is answered
	peer    func(p Peer, ok bool) (Peer, bool)         // what nodes know of others instead
	gone    context.Context                            // when it ends, others are not present any more
}

// set changes the network while it is in use.
func (w *network) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

type node struct {
	*Bus
	id      string
	handler http.Handler
	mu      sync.Mutex
	got     []Event
	answer  func(context.Context, Event) (Data, error)
}

func (n *node) events() []Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]Event(nil), n.got...)
}

func newTestBus(t testing.TB, id string) *node { return (&network{}).add(t, id) }

func (w *network) add(t testing.TB, id string) *node {
	n := &node{id: id}
	others := func() (peers []Peer) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, o := range w.nodes {
			if o.id != id {
				peers = append(peers, Peer{ID: o.id, Name: o.id, Boot: "1", Known: time.Since(o.began)})
			}
		}
		return peers
	}
	n.Bus = New(Config{
		Self: Peer{ID: id, Name: id, Boot: "1"},
		Gossip: func(msg []byte) error {
			for _, p := range others() {
				w.tell(id, p.ID, msg)
			}
			return nil
		},
		Tell:   func(to string, msg []byte) error { w.tell(id, to, msg); return nil },
		Client: &http.Client{Transport: w},
		Peers:  others,
		Count:  func() int { return len(others()) },
		Peer: func(id string) (p Peer, ok bool) {
			for _, o := range others() {
				if o.ID == id {
					p, ok = o, true
				}
			}
			w.mu.Lock()
			change := w.peer
			w.mu.Unlock()
			if change != nil {
				p, ok = change(p, ok)
			}
			return p, ok
		},
		While: func(ctx context.Context, _ string) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.gone != nil {
				context.AfterFunc(w.gone, cancel)
			}
			return ctx, cancel
		},
		Deliver: func(e Event) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.got = append(n.got, e)
		},
		Answer: func(ctx context.Context, e Event) (Data, error) {
			if n.answer == nil {
				return Data{}, ErrNoAnswer
			}
			return n.answer(ctx, e)
		},
		Logger: log.New(io.Discard, "", 0),
	})
	n.handler = n.Handler(func(*http.Request) string { return "" })
	w.mu.Lock()
	if w.nodes == nil {
		w.nodes = map[string]*node{}
	}
	w.nodes[id] = n
	w.mu.Unlock()
	n.Start()
	t.Cleanup(n.Close)
	return n
}

func (w *network) get(id string) *node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[id]
}

func (w *network) tell(from, to string, msg []byte) {
	w.mu.Lock()
	deaf := w.deaf
	w.mu.Unlock()
	if n := w.get(to); n != nil && !deaf {
		n.Hear(from, msg)
	}
}

// RoundTrip makes the network an http.RoundTripper.
func (w *network) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	trouble := w.trouble
	w.mu.Unlock()
	if trouble != nil {
		if err := trouble(r, false); err != nil {
			return nil, err
		}
	}
	n := w.get(r.URL.Host)
	if n == nil {
		return nil, fmt.Errorf("no route to %s", r.URL.Host)
	}
	answer := httptest.NewRecorder()
	n.handler.ServeHTTP(answer, r)
	if trouble != nil {
		if err := trouble(r, true); err != nil {
			return nil, err
		}
	}
	return answer.Result(), nil
}

func bubble(t *testing.T, f func(t *testing.T, w *network, a, b *node)) {
	synctest.Test(t, func(t *testing.T) {
		w := &network{}
		a, b := w.add(t, "a"), w.add(t, "b")
		f(t, w, a, b)
	})
}

func names(events []Event) (s string) {
	for _, e := range events {
		s += e.Name + " "
	}
	return s
}

// docs/bus.md: "An event to some is delivered once, also when the answer is lost".
func TestALetterThatIsSentAgainIsDeliveredOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		lost := 0
		w.set(func() {
			w.trouble = func(r *http.Request, answered bool) error {
				if answered && lost == 0 {
					lost++
					return io.ErrUnexpectedEOF
				}
				return nil
			}
		})
		results, err := a.SendTo(t.Context(), []Peer{{ID: "b"}}, "x", Data{})
		if err != nil || results[0].Err != nil || lost != 1 {
			t.Errorf("SendTo = %+v, %v, with %d answers lost; want that b has it", results, err, lost)
		}
		if got := names(b.events()); got != "x " {
			t.Errorf("b got %q, want it once", got)
		}
	})
}

// docs/bus.md: "An event to some comes after what its sender had sent to all before".
func TestALetterWaitsForWhatWasSentBefore(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		w.set(func() { w.deaf = true })
		for range 3 {
			if err := a.SendAll(t.Context(), "all", Data{}); err != nil {
				t.Fatal(err)
			}
		}
		if results, err := a.SendTo(t.Context(), []Peer{{ID: "b"}}, "one", Data{}); err != nil || results[0].Err != nil {
			t.Fatalf("SendTo = %+v, %v", results, err)
		}
		if got := names(b.events()); got != "all all all one " {
			t.Errorf("b got %q; want all before the one", got)
		}
	})
}

// A head or a letter that speaks of more events than there are does not stop those
// that come.
func TestWhoPromisesMoreThanThereIs(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		a.SendAll(t.Context(), "x", Data{})
		h := head{boot: "1", last: 1 << 60, quiet: time.Hour}
		b.Hear("a", h.append(nil, time.Now()))
		time.Sleep(time.Minute)
		if p := b.Stats().Pulls; p > 3 {
			t.Errorf("b asked %d times for what is not there", p)
		}
		a.SendAll(t.Context(), "y", Data{})
		time.Sleep(time.Minute)
		if got := names(b.events()); got != "x y " {
			t.Errorf("b got %q, want x and y", got)
		}
	})
}

// docs/bus.md: "A node answers 64 requests at once; more are refused".
func TestRequestsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		release := make(chan struct{})
		b.answer = func(context.Context, Event) (Data, error) { <-release; return Data{}, nil }
		var busy, answered int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range maxAnswers + 6 {
			wg.Go(func() {
				results, err := a.Request(t.Context(), []Peer{{ID: "b"}}, "x", Data{})
				if err != nil {
					t.Error(err)
					return
				}
				r := <-results
				mu.Lock()
				defer mu.Unlock()
				switch r.Err {
				case nil:
					answered++
				case ErrBusy:
					busy++
				}
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		if answered != maxAnswers || busy != 6 {
			t.Errorf("%d are answered and %d refused; want %d and 6", answered, busy, maxAnswers)
		}
	})
}

// Who answers and does not care that nobody waits any more holds up neither the one
// who asked nor Close.
func TestAnswersThatNeverCome(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		release := make(chan struct{})
		never := func(context.Context, Event) (Data, error) { <-release; return Data{}, nil }
		a.answer, b.answer = never, never
		began := time.Now()
		results, err := a.Request(t.Context(), []Peer{{ID: "a"}, {ID: "b"}}, "x", Data{})
		if err != nil {
			t.Fatal(err)
		}
		for r := range results {
			if r.Err == nil {
				t.Errorf("%s answered", r.Peer.ID)
			}
		}
		if d := time.Since(began); d != DefaultPatience {
			t.Errorf("the request took %v, want %v", d, DefaultPatience)
		}
		a.Close()
		b.Close()
		close(release)
	})
}

// docs/bus.md: "A node sends at most 32 MB a second, counted once for each receiver; a
// sender waits".
func TestSendersWait(t *testing.T) {
	bubble(t, func(t *testing.T, w *network, a, b *node) {
		data := Data{Msgpack, make([]byte, 1<<20)}
		began := time.Now()
		const many = 100
		for range many {
			if err := a.SendAll(t.Context(), "x", data); err != nil {
				t.Fatal(err)
			}
		}
		want := time.Duration(2*many<<20-sendBurst) * time.Second / sendRate
		if d := time.Since(began).Round(time.Second); d != want.Round(time.Second) {
			t.Errorf("%d MB to 2 nodes take %v, want %v", many, d, want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := a.SendAll(ctx, "x", data); err == nil {
			t.Error("an event that had no time to wait was sent")
		}
		if n := a.log.bytes; n > logBytes {
			t.Errorf("the log has %d bytes, want at most %d", n, logBytes)
		}
	})
}

func TestTheLogForgets(t *testing.T) {
	var l outLog
	now := at
	for i := range 2 * logEvents {
		l.add(item{at: now, name: fmt.Sprint("e", i)})
	}
	if len(l.items) != logEvents || l.first() != logEvents+1 || l.last != 2*logEvents {
		t.Errorf("the log has %d events from %d to %d", len(l.items), l.first(), l.last)
	}
	if got := l.since(now, 5, logAge, 1<<20); got[0].seq != l.first() {
		t.Errorf("since 5 begins with %d, want the oldest, %d", got[0].seq, l.first())
	}
	if got := l.since(now, l.last, logAge, 0); len(got) != 1 || got[0].seq != l.last {
		t.Errorf("since the last = %v, want it, whatever the limit", got)
	}
	if got := l.since(now, l.last+1, logAge, 1<<20); len(got) != 0 {
		t.Errorf("since the next = %v, want none", got)
	}
	now = now.Add(logAge + 1)
	l.add(item{at: now, name: "x"})
	if len(l.items) != 1 || l.bytes != l.items[0].size() {
		t.Errorf("after %v the log has %d events of %d bytes, want one", logAge, len(l.items), l.bytes)
	}
	if tail, quiet := l.tail(now, InlineBytes); len(tail) != 1 || quiet != logAge {
		t.Errorf("tail = %v, %v", tail, quiet)
	}
	l.trim(now.Add(logAge + 1))
	if l.items != nil || l.bytes != 0 || l.first() != l.last+1 {
		t.Errorf("the log has %d events of %d bytes, want none", len(l.items), l.bytes)
	}
}
