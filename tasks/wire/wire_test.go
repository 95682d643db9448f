package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/port/memnet"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/test/bounds"
)

// recorder writes down every call to a node, one line each.
type recorder struct {
	mu       sync.Mutex
	lines    []string
	errs     []error       // of Down
	output   int           // bytes
	block    chan struct{} // Output waits until it is closed; nil: not at all
	outcomes []tasks.Outcome
	offers   []Offer
}

func (r *recorder) add(format string, a ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, a...))
}

// take returns the lines since the last take.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lines
	r.lines = nil
	return l
}

func (r *recorder) lastErr() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.errs) == 0 {
		return nil
	}
	return r.errs[len(r.errs)-1]
}

func (r *recorder) received() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.output
}

func (k Key) String() string { return fmt.Sprintf("%d/%d", k.Task[15], k.N) }

func keyList(ks []Key) string {
	if len(ks) > 10 {
		return fmt.Sprintf("%d keys, last %v", len(ks), ks[len(ks)-1])
	}
	return fmt.Sprint(ks)
}

func (r *recorder) Up(l *Link)              { r.add("up %s", l.Peer().Node) }
func (r *recorder) Load(*Link, Load)        {}
func (r *recorder) Grant(_ *Link, k Key)    { r.add("grant %v", k) }
func (r *recorder) Ack(_ *Link, ks []Key)   { r.add("ack %v", ks) }
func (r *recorder) Started(_ *Link, k Key)  { r.add("started %v", k) }
func (r *recorder) Recall(_ *Link, k []Key) { r.add("recall %s", keyList(k)) }
func (r *recorder) Down(l *Link, err error) {
	r.mu.Lock()
	r.errs = append(r.errs, err)
	r.mu.Unlock()
	r.add("down %s", l.Peer().Node)
}
func (r *recorder) Offer(_ *Link, o *Offer) {
	c := *o
	c.Spec = slices.Clone(o.Spec)
	r.mu.Lock()
	r.offers = append(r.offers, c)
	r.mu.Unlock()
	r.add("offer %v", o.Key)
}
func (r *recorder) Window(_ *Link, k Key, n uint32)           { r.add("window %v %d", k, n) }
func (r *recorder) Cancel(_ *Link, k Key, s tasks.StopReason) { r.add("cancel %v %v", k, s) }
func (r *recorder) Reattach(_ *Link, hs []Held) {
	ks := make([]Key, len(hs))
	for i, h := range hs {
		ks[i] = h.Key
	}
	r.add("reattach %s", keyList(ks))
}
func (r *recorder) Accept(_ *Link, k Key, q bool)                 { r.add("accept %v %t", k, q) }
func (r *recorder) Reject(_ *Link, k Key, c tasks.Code, t string) { r.add("reject %v %v %q", k, c, t) }
func (r *recorder) GivenBack(_ *Link, k []Key)                    { r.add("given back %s", keyList(k)) }
func (r *recorder) Result(_ *Link, k Key, o *tasks.Outcome) {
	c := *o
	c.Value = slices.Clone(o.Value)
	c.Outputs = slices.Clone(o.Outputs)
	for i := range c.Outputs {
		c.Outputs[i].Inline = slices.Clone(c.Outputs[i].Inline)
	}
	r.mu.Lock()
	r.outcomes = append(r.outcomes, c)
	r.mu.Unlock()
	r.add("result %v", k)
}
func (r *recorder) Output(_ *Link, k Key, s Stream, b []byte) {
	if r.block != nil {
		<-r.block
	}
	r.mu.Lock()
	r.output += len(b)
	r.mu.Unlock()
	if r.block == nil {
		r.add("output %v %v %q", k, s, b)
	}
}
func (r *recorder) State(_ *Link, ss []AttemptState) {
	if len(ss) > 10 {
		last := ss[len(ss)-1]
		r.add("state %d lines, last %v %v", len(ss), last.Key, last.State)
		return
	}
	for _, s := range ss {
		r.add("state %v %v", s.Key, s.State)
	}
}

// bed is a network of hubs. Node "n1" is at 10.0.0.1 and so on.
type bed struct {
	t    *testing.T
	net  *memnet.Network
	hubs map[string]*Hub
	recs map[string]*recorder
}

func ip(node string) string { return "10.0.0." + strings.TrimPrefix(node, "n") }

// inBed runs f in a bubble with a network; the hubs are closed after it.
func inBed(t *testing.T, f func(t *testing.T, b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bed{t: t, net: memnet.New(), hubs: map[string]*Hub{}, recs: map[string]*recorder{}}
		defer func() {
			for _, h := range b.hubs {
				h.Close()
			}
		}()
		f(t, b)
	})
}

// add starts the hub of a node; edit may change its configuration.
func (b *bed) add(node string, edit func(*Config)) *Hub {
	b.t.Helper()
	host := b.net.Host(ip(node))
	ln, packets, err := host.Listen(b.t.Context(), ip(node)+":1")
	if err != nil {
		b.t.Fatal(err)
	}
	packets.Close()
	rec := &recorder{}
	cfg := Config{
		Self: Hello{Cluster: "c", Node: node, Boot: "1", Name: "name-" + node}, Listener: ln,
		Dial:   func(ctx context.Context, to string) (net.Conn, error) { return host.Dial(ctx, ip(to)+":1") },
		Worker: rec, Master: rec, Events: rec, Logger: bounds.Log(b.t, io.Discard),
	}
	if edit != nil {
		edit(&cfg)
	}
	h, err := NewHub(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	h.Start()
	b.hubs[node], b.recs[node] = h, rec
	return h
}

// pair starts n1 and n2 and returns both ends of their link, with the lines
// about it taken.
func (b *bed) pair() (one, two *Link) {
	b.t.Helper()
	h1, h2 := b.add("n1", nil), b.add("n2", nil)
	one, err := h1.Connect(b.t.Context(), "n2")
	if err != nil {
		b.t.Fatal(err)
	}
	synctest.Wait()
	if two = h2.Get("n1"); two == nil {
		b.t.Fatal("n2 has no link to n1")
	}
	b.expect("n1", "up n2")
	b.expect("n2", "up n1")
	return one, two
}

// expect waits until all is quiet and compares what the node was told.
func (b *bed) expect(node string, want ...string) {
	b.t.Helper()
	synctest.Wait()
	if got := b.recs[node].take(); !slices.Equal(got, want) {
		b.t.Errorf("%s was told %q\nwant %q", node, got, want)
	}
}

// raw opens a connection to a node as n9, past the hub.
func (b *bed) raw(node string) net.Conn {
	b.t.Helper()
	conn, err := b.net.Host(ip("n9")).Dial(b.t.Context(), ip(node)+":1")
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	return conn
}

func testHello(node string) *hello {
	return &hello{Hello: Hello{Cluster: "c", Node: node, Boot: "1", Name: "raw"}, min: 1, max: 1, serial: 1, rights: AllRights}
}

// rawLink is raw with the handshake done.
func (b *bed) rawLink(node string, self *hello) net.Conn {
	b.t.Helper()
	conn := b.raw(node)
	if _, err := greet(conn, self, node); err != nil {
		b.t.Fatalf("handshake with %s: %v", node, err)
	}
	return conn
}

func testKey(n byte) Key { return Key{Task: tasks.ID{15: n}, N: 1} }

func TestEveryMessageArrivesAsSent(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		one, two := b.pair()
		k, k2 := testKey(1), testKey(2)
		for i, err := range []error{
			one.SendOffer(&testOffer), one.SendGrant(k), one.SendWindow(k, 77), one.SendAck(k, 1<<20),
			one.SendRecall([]Key{k, k2}), one.SendCancel(k, tasks.StopTimeout), one.SendReattach(nil),
		} {
			if err != nil {
				t.Errorf("send %d: %v", i, err)
			}
		}
		b.expect("n2", "offer 7/2", "grant 1/1", "window 1/1 77", "recall [1/1 2/1]", "cancel 1/1 timeout", "reattach []", "ack [1/1]")
		if got := b.recs["n2"].offers[0]; fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", testOffer) {
			t.Errorf("offer arrived as\n%+v, want\n%+v", got, testOffer)
		}
		for i, err := range []error{
			two.SendAccept(k, true), two.SendAccept(k2, false), two.SendReject(k, tasks.Busy, "full"), two.SendStarted(k),
			two.SendGivenBack([]Key{k2}), two.SendState([]AttemptState{{k, Running, 7}, {k2, Unknown, 0}}),
		} {
			if err != nil {
				t.Errorf("send %d: %v", i, err)
			}
		}
		b.expect("n1", "accept 1/1 true", "accept 2/1 false", `reject 1/1 busy "full"`, "started 1/1", "given back [2/1]",
			"state 1/1 running", "state 2/1 unknown")
		two.SendStarted(k)
		two.SendOutput(k, Stdout, []byte("out"))
		two.SendOutput(k, Stderr, []byte("err"))
		sendResult(two, k, &testOutcome)
		b.expect("n1", "started 1/1", `output 1/1 stdout "out"`, `output 1/1 stderr "err"`, "result 1/1")
	})
}

func TestALongListIsOneCall(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		one, two := b.pair()
		ks := make([]Key, 100_000)
		ss := make([]AttemptState, len(ks))
		hs := make([]Held, len(ks))
		for i := range ks {
			ks[i] = Key{Task: tasks.ID{15: byte(i)}, N: uint32(i)}
			hs[i].Key = ks[i]
			ss[i] = AttemptState{ks[i], Queued, uint64(i)}
		}
		one.SendReattach(hs)
		one.SendRecall(ks[:3])
		two.SendState(ss)
		b.expect("n2", "reattach 100000 keys, last 159/99999", "recall [0/0 1/1 2/2]")
		b.expect("n1", "state 100000 lines, last 159/99999 queued")
		if err := one.SendRecall(make([]Key, MaxListKeys+1)); !errors.Is(err, ErrFrameTooLarge) {
			t.Errorf("a list above the limit: %v, want ErrFrameTooLarge", err)
		}
	})
}

func TestFramesForARoleThatIsMissingAreIgnored(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		h1 := b.add("n1", nil)
		b.add("n2", func(c *Config) { c.Worker, c.Master, c.Events = nil, nil, nil })
		l, err := h1.Connect(t.Context(), "n2")
		if err != nil {
			t.Fatal(err)
		}
		l.SendOffer(&testOffer)
		sendResult(l, testKey(1), &testOutcome)
		time.Sleep(time.Minute)
		if err := l.Err(); err != nil {
			t.Errorf("the link went down: %v", err)
		}
	})
}

func TestControlOvertakesOutputAndOutputIsBounded(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		one, two := b.pair()
		rec := b.recs["n1"]
		rec.block = make(chan struct{})
		const total = 8 << 20
		sent := make(chan error, 1)
		go func() { sent <- two.SendOutput(testKey(1), Stdout, make([]byte, total)) }()
		synctest.Wait()
		if p := two.Stats().PendingBulk; p > maxBulkBytes+outputBytes || p < maxBulkBytes/2 {
			t.Errorf("%d bytes of output are pending, want about %d", p, maxBulkBytes)
		}
		if err := two.SendStarted(testKey(2)); err != nil { // while the writer is stuck
			t.Fatal(err)
		}
		if err := sendResult(two, testKey(3), &tasks.Outcome{}); err != nil {
			t.Fatal(err)
		}
		for len(rec.take()) == 0 {
			rec.block <- struct{}{} // one piece of output
			synctest.Wait()
		}
		// What was ahead: the connection's buffer, the reader's, and one batch.
		if got, limit := rec.received(), memnet.BufferBytes+maxReadBytes+bulkBatch+outputBytes; got > limit {
			t.Errorf("control came after %d bytes of output, want at most %d of %d", got, limit, total)
		}
		close(rec.block)
		if err := <-sent; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := rec.received(); got != total {
			t.Errorf("%d bytes of output arrived, want %d", got, total)
		}
		_ = one
	})
}

func TestOutputWaitingForRoomEndsWithTheLink(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		_, two := b.pair()
		b.recs["n1"].block = make(chan struct{})
		defer close(b.recs["n1"].block)
		sent := make(chan error, 1)
		go func() { sent <- two.SendOutput(testKey(1), Stdout, make([]byte, 1<<20)) }()
		synctest.Wait()
		two.Close(nil)
		if err := <-sent; !errors.Is(err, ErrClosed) {
			t.Errorf("SendOutput on a link that was closed = %v, want ErrClosed", err)
		}
		if err := two.SendGrant(testKey(1)); !errors.Is(err, ErrClosed) {
			t.Errorf("SendGrant on a link that was closed = %v, want ErrClosed", err)
		}
	})
}

// tally checks for each attempt that its result comes after all of its output.
type tally struct {
	recorder
	got map[Key]int64
	bad int
	n   int
	all chan struct{} // closed after want results
	end int
}

func (c *tally) Output(_ *Link, k Key, _ Stream, b []byte) { c.got[k] += int64(len(b)) }
func (c *tally) Result(_ *Link, k Key, o *tasks.Outcome) {
	if c.got[k] != o.StdoutBytes {
		c.bad++
	}
	if c.n++; c.n == c.end {
		close(c.all)
	}
}

func TestAResultComesAfterTheOutputOfItsAttempt(t *testing.T) {
	const senders, each = 8, 200
	c := &tally{got: map[Key]int64{}, all: make(chan struct{}), end: senders * each}
	_, w := tcpPair(t, c, &recorder{})
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				k := Key{Task: tasks.ID{0: byte(s)}, N: uint32(i)}
				n := (i * 977) % 90_000 * (i % 3) // a third has none
				if err := w.SendOutput(k, Stdout, make([]byte, n)); err != nil {
					t.Error(err)
				}
				if err := sendResult(w, k, &tasks.Outcome{StdoutBytes: int64(n)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	<-c.all
	if c.bad > 0 {
		t.Errorf("%d of %d results came before the output of their attempts", c.bad, c.end)
	}
	if s := w.Stats(); len(w.chatty) != 0 && s.PendingBulk == 0 {
		t.Errorf("%d attempts are remembered with nothing pending", len(w.chatty))
	}
}

func TestCloseStillDeliversWhatWasSent(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		one, two := b.pair()
		const n = 20_000 // more than the connection's buffer
		for range n {
			one.SendCancel(testKey(1), tasks.StopInterrupt)
		}
		b.hubs["n1"].Close()
		synctest.Wait()
		got := b.recs["n2"].take()
		if len(got) != n+1 || got[n] != "down n1" {
			t.Errorf("%d lines, the last %q; want %d cancels and down", len(got), got[len(got)-1], n)
		}
		err := b.recs["n2"].lastErr()
		var pe *PeerError
		if !errors.Is(err, ErrPeerClosed) || !errors.As(err, &pe) {
			t.Errorf("n2's error is %v, want a PeerError and ErrPeerClosed", err)
		}
		<-two.Down()
		b.expect("n1", "down n2")
		if err := b.recs["n1"].lastErr(); !errors.Is(err, ErrClosed) {
			t.Errorf("n1's error is %v, want ErrClosed", err)
		}
		if _, err := b.hubs["n1"].Connect(t.Context(), "n2"); !errors.Is(err, ErrClosed) {
			t.Errorf("Connect after Close = %v, want ErrClosed", err)
		}
	})
}

func TestALinkOverTLSDeliversAndSaysGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // however long it takes to encrypt all of it, no time passes
		network := memnet.New()
		ln, packets, err := network.Host("10.0.0.1").Listen(t.Context(), "10.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		packets.Close()
		rec := &recorder{}
		one, two := tlsPairOver(t, discard{}, rec, ln, func(ctx context.Context) (net.Conn, error) {
			return network.Host("10.0.0.2").Dial(ctx, "10.0.0.1:1")
		})
		for range 1000 {
			one.SendCancel(testKey(1), tasks.StopInterrupt)
		}
		one.Close(errors.New("enough"))
		<-two.ended
		if n := len(rec.take()); n != 1000 {
			t.Errorf("%d of 1000 cancels arrived", n)
		}
		if err := two.Err(); !errors.Is(err, ErrPeerClosed) || !strings.Contains(err.Error(), "enough") {
			t.Errorf("down with %v, want ErrPeerClosed and the other's words", err)
		}
		<-one.ended // the other side hung up
	})
}

func TestCloseGivesUpOnAPeerThatDoesNotRead(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		h := b.add("n1", nil)
		b.rawLink("n1", testHello("n9"))
		synctest.Wait()
		l := h.Get("n9")
		for range 100_000 {
			l.SendGrant(testKey(1))
		}
		start := time.Now()
		h.Close()
		if took := time.Since(start); took > goodbyeTimeout {
			t.Errorf("Close took %v, want at most %v", took, goodbyeTimeout)
		}
	})
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	h, err := NewHub(Config{Self: Hello{"c", "n", "1", ""}, Worker: &echoWorker{}, Master: discard{}})
	if err != nil {
		t.Fatal(err)
	}
	l := newLink(h, nil, testHello("p"), true)
	spec := AppendTask(nil, &tasks.Task{Kind: tasks.Function, Name: "f", Packed: []byte{1}})
	frames := appendOffer(nil, &Offer{Spec: spec})
	frames = appendResult(frames, testKey(1), &tasks.Outcome{Value: []byte("v"), Started: time.Now()})
	frames = appendOutput(frames, testKey(1), Stdout, []byte("x"))
	frames = appendKeys(frames, typeAck, []Key{testKey(1)})
	h.cfg.Worker = ackOnly{&echoWorker{}}
	round := func() {
		if _, err := l.handleAll(frames); err != nil {
			t.Fatal(err)
		}
		l.SendOutput(testKey(2), Stdout, frames)
		l.control, l.bulk = l.control[:0], l.bulk[:0]
	}
	round()                                            // buffers grow
	if n := testing.AllocsPerRun(100, round); n != 1 { // the result, which a worker keeps
		t.Errorf("%v allocations for a round of frames, want 1", n)
	}
}

type ackOnly struct{ *echoWorker }

func (ackOnly) Ack(*Link, []Key) {}

type discard struct{ FromWorker }

func (discard) Result(*Link, Key, *tasks.Outcome) {}
func (discard) Output(*Link, Key, Stream, []byte) {}
func (discard) GivenBack(*Link, []Key)            {}

// sendResult sends an outcome as a worker does.
func sendResult(l *Link, k Key, o *tasks.Outcome) error {
	r, err := NewResult(k, o)
	if err != nil {
		return err
	}
	return l.SendResult(r)
}
