package membership

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/scagent/scagent/test/bounds"
)

// fakeConn reads from a Reader.
type fakeConn struct {
	net.Conn
	io.Reader
	closed bool
}

func (c *fakeConn) Read(b []byte) (int, error) { return c.Reader.Read(b) }
func (c *fakeConn) Close() error               { c.closed = true; return nil }

func (c *fakeConn) SetDeadline(time.Time) error { return nil }

func goodState() wireState {
	a := goodAlive()
	return wireState{Name: a.Node, Addr: a.Addr, Port: a.Port, Meta: a.Meta, Incarnation: 1, State: stateAlive, Vsn: a.Vsn}
}

func pushPull(state []byte, nodes ...wireState) []byte {
	b := wire(kindPushPull, wireHeader{Nodes: len(nodes), UserStateLen: len(state), Join: true})
	for _, n := range nodes {
		b = append(b, msgpack(n)...)
	}
	return append(b, state...)
}

// through sends b through a guarded stream and returns what comes out.
func through(t testing.TB, b []byte, dialed bool, readers ...func(io.Reader) io.Reader) (out []byte, refused reason, err error) {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	for _, wrap := range readers {
		r = wrap(r)
	}
	var n counters
	s := newStream(&fakeConn{Reader: r}, testGuard(t), &n, dialed)
	s.limit(time.Minute)
	defer s.Close()
	out, err = io.ReadAll(s)
	refused = -1
	for r := range n {
		if n[r].Load() > 0 {
			refused = reason(r)
		}
	}
	return out, refused, err
}

func TestStreams(t *testing.T) {
	node := goodState()
	dead := edited(node, func(s *wireState) { s.State, s.Name = stateDead, bob })
	ping := wire(kindPing, wirePing{1, bob, []byte{10, 0, 0, 1}, 44201, alice})
	const none = reason(-1)
	for _, c := range []struct {
		name   string
		b      []byte
		dialed bool
		want   reason
	}{
		{"push/pull", labelled(pushPull(nil, node, dead)), false, none},
		{"push/pull of many", labelled(pushPull(nil, slices.Repeat([]wireState{node}, 1000)...)), false, none},
		{"push/pull with state", labelled(pushPull([]byte("abc"), node)), false, none},
		{"push/pull of nobody", labelled(pushPull(nil)), false, none},
		{"ping", labelled(ping), false, none},
		{"answer: push/pull", pushPull(nil, node), true, none},
		{"answer: ack", wire(kindAck, wireAck{SeqNo: 1}), true, none},
		{"answer: error", wire(kindErr, struct{ Error string }{"no"}), true, none},

		{"nothing", nil, false, none},
		{"label only", labelled(nil), false, none},
		{"no label", pushPull(nil, node), false, reasonLabel},
		{"other label", append([]byte{244, 3, 'x', 'y', 'z'}, ping...), false, reasonLabel},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), false, reasonLabel},
		{"compressed", labelled(wire(kindCompress, wireCompress{})), false, reasonType},
		{"encrypted", labelled([]byte{10, 1, 0x3f, 0xff, 0xff}), false, reasonType},
		{"user message of 20 MiB", labelled(wire(kindUser, wireUserHeader{20 << 20})), false, reasonType},
		{"ack unasked", labelled(wire(kindAck, wireAck{})), false, reasonType},
		{"answer: compressed", wire(kindCompress, wireCompress{}), true, reasonType},
		{"answer: user message", wire(kindUser, wireUserHeader{1}), true, reasonType},
		{"nodes: a million", labelled(wire(kindPushPull, wireHeader{Nodes: 1 << 20})), false, reasonStreamLimits},
		{"nodes: 2^63", labelled([]byte("\x06\x83\xa4Join\xc3\xa5Nodes\xcf\x80\x00\x00\x00\x00\x00\x00\x00\xacUserStateLen\x00")), false, reasonStreamForm},
		{"nodes: -1", labelled(wire(kindPushPull, wireHeader{Nodes: -1})), false, reasonStreamForm},
		{"answer: a million nodes", wire(kindPushPull, wireHeader{Nodes: 1 << 20}), true, reasonStreamLimits},
		{"state: 20 MiB", labelled(wire(kindPushPull, wireHeader{UserStateLen: 20 << 20})), false, reasonStreamLimits},
		{"state: -1", labelled(wire(kindPushPull, wireHeader{UserStateLen: -1})), false, reasonStreamForm},
		{"node: versions", labelled(pushPull(nil, node, edited(node, func(s *wireState) { s.Vsn = []byte{1, 5, 2, 200, 250, 200} }))), false, reasonVersion},
		{"node: name", labelled(pushPull(nil, edited(node, func(s *wireState) { s.Name = "evil\x1b[2J" }))), false, reasonName},
		{"node: metadata", labelled(pushPull(nil, edited(node, func(s *wireState) { s.Meta = make([]byte, 600) }))), false, reasonMeta},
		{"node: huge metadata", labelled(pushPull(nil, edited(node, func(s *wireState) { s.Meta = make([]byte, 60000) }))), false, reasonStreamForm},
		{"node: state", labelled(pushPull(nil, edited(node, func(s *wireState) { s.State = 4 }))), false, reasonStreamForm},
		{"node: addr", labelled(pushPull(nil, edited(node, func(s *wireState) { s.Addr = []byte{1, 2, 3, 4, 5} }))), false, reasonAddress},
		{"node: lists in lists", append(labelled(wire(kindPushPull, wireHeader{Nodes: 1})), append([]byte("\x87\xa4Name"), bytes.Repeat([]byte{0x91}, 2000)...)...), false, reasonStreamForm},
		{"node: no map", append(labelled(wire(kindPushPull, wireHeader{Nodes: 1})), 0x93, 1, 2, 3), false, reasonStreamForm},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, refused, err := through(t, c.b, c.dialed)
			if refused != c.want {
				t.Fatalf("refused for %v (%v), want %v", refused, err, c.want)
			}
			if c.want == none && !bytes.Equal(out, c.b) {
				t.Errorf("out: %x, in: %x", out, c.b)
			}
			// The same, a byte at a time.
			slow, refused, _ := through(t, c.b, c.dialed, iotest.OneByteReader)
			if refused != c.want || !bytes.Equal(slow, out) {
				t.Errorf("byte by byte: refused for %v after %d bytes, at once %d", refused, len(slow), len(out))
			}
			// What follows is not read.
			if c.want == none && len(out) > len(testGuard(t).label) {
				if more, _, _ := through(t, append(slices.Clone(c.b), "more"...), c.dialed); !bytes.Equal(more, out) {
					t.Errorf("%d bytes follow the message", len(more)-len(out))
				}
			}
		})
	}
}

func TestPoisonedEntriesAreVoid(t *testing.T) {
	for _, c := range []struct {
		name     string
		in, want func(*wireState)
	}{
		{"left", func(s *wireState) { s.State = stateLeft }, func(s *wireState) { s.State = stateDead }},
		{"dead", func(s *wireState) { s.State = stateDead }, func(s *wireState) { s.State = stateDead }},
		{"suspect with the last incarnation",
			func(s *wireState) { s.State, s.Incarnation = stateSuspect, math.MaxUint32 },
			func(s *wireState) { s.State, s.Incarnation = stateSuspect, 0 }},
		{"left with the last incarnation",
			func(s *wireState) { s.State, s.Incarnation = stateLeft, math.MaxUint32 },
			func(s *wireState) { s.State, s.Incarnation = stateDead, 0 }},
		{"alive with the last incarnation",
			func(s *wireState) { s.Incarnation = math.MaxUint32 },
			func(s *wireState) { s.Incarnation = 1 }},
	} {
		out, refused, err := through(t, labelled(pushPull(nil, edited(goodState(), c.in), goodState())), false)
		if err != nil || refused >= 0 {
			t.Fatalf("%s: %v, %v", c.name, refused, err)
		}
		_, rest, err := parse(out[len(labelled(nil))+1:], headerFields)
		if err != nil {
			t.Fatal(err)
		}
		m, _, err := parse(rest, stateFields)
		want := edited(goodState(), c.want)
		if err != nil || m.state != uint64(want.State) || m.incarnation != uint64(want.Incarnation) {
			t.Errorf("%s: state %d, incarnation %d, %v; want %d, %d", c.name, m.state, m.incarnation, err, want.State, want.Incarnation)
		}
	}
}

func FuzzStream(f *testing.F) {
	f.Add(labelled(pushPull([]byte("abc"), goodState(), goodState())), false)
	f.Add(pushPull(nil, goodState()), true)
	f.Add(wire(kindAck, wireAck{SeqNo: 1}), true)
	f.Add(labelled(wire(kindPing, wirePing{1, bob, []byte{10, 0, 0, 1}, 44201, alice})), false)
	f.Fuzz(func(t *testing.T, b []byte, dialed bool) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		out, refused, err := through(t, b, dialed)
		if refused < 0 && err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("error without a reason: %v", err)
		}
		if len(out) > len(b) {
			t.Fatalf("%d bytes out of %d", len(out), len(b))
		}
		slow, slowRefused, _ := through(t, b, dialed, iotest.OneByteReader)
		if !bytes.Equal(out, slow) || refused != slowRefused {
			t.Fatalf("byte by byte: %x %v, at once: %x %v", slow, slowRefused, out, refused)
		}
	})
}
