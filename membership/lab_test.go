package membership

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/scagent/scagent/agent/port/memnet"
	"github.com/scagent/scagent/test/bounds"
)

// lab is an in-memory network with nodes on it, for use in one bubble.
type lab struct {
	t   *testing.T
	net *memnet.Network
}

// memberlist has no way to wait for its goroutines; some end only with the probe
// under way.
const afterShutdown = time.Minute

func newLab(t *testing.T) *lab {
	t.Helper()
	t.Cleanup(func() { time.Sleep(afterShutdown) }) // runs last, in the bubble
	return &lab{t: t, net: memnet.New()}
}

// node is a Pool on the lab's network, with its events and messages.
type node struct {
	*Pool
	ip   string
	host *memnet.Host

	mu       sync.Mutex
	events   []Event
	messages []string
}

func (n *node) on(e Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
}

// seen returns the events about others so far, as "type name".
func (n *node) seen() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, e := range n.events {
		if !e.Member.Self {
			out = append(out, fmt.Sprintf("%s %s", e.Type, e.Member.Name))
		}
	}
	return out
}

func (n *node) heard() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.messages...)
}

func testID(i int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	b := []byte(strings.Repeat("a", idChars))
	for at := idChars - 1; i > 0; at-- {
		b[at] = letters[i%32]
		i /= 32
	}
	return string(b)
}

func testIP(i int) string { return fmt.Sprintf("10.0.%d.%d", i/250, 1+i%250) }

// httpPort is where lab nodes serve documents; a real port sorts instead.
const httpPort = DefaultPort + 1

// prepare returns a node with number i that is not started. edit may change its
// configuration.
func (l *lab) prepare(i int, edit func(*Config)) *node {
	l.t.Helper()
	n := &node{ip: testIP(i)}
	n.host = l.net.Host(n.ip)
	c := DefaultConfig()
	c.ID, c.Boot, c.Name = testID(i), "1", fmt.Sprintf("n%03d", i)
	c.Slots, c.Version = 4, "v1.2.3"
	c.Advertise = netip.MustParseAddrPort(fmt.Sprintf("%s:%d", n.ip, DefaultPort))
	c.Dial = func(ctx context.Context, _, addr string) (net.Conn, error) { return n.host.Dial(ctx, addr) }
	c.DialHTTP = func(ctx context.Context, addr string) (net.Conn, error) {
		at := netip.MustParseAddrPort(addr)
		return n.host.Dial(ctx, netip.AddrPortFrom(at.Addr(), httpPort).String())
	}
	c.OnEvent = n.on
	c.OnMessage = func(from string, msg []byte) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.messages = append(n.messages, from[idChars-2:]+" "+string(msg))
	}
	c.Logger = testLogger(l.t)
	if edit != nil {
		edit(&c)
	}
	var err error
	if c.Listener, c.Packets, err = n.host.Listen(l.t.Context(), c.Advertise.String()); err != nil {
		l.t.Fatalf("listen: %v", err)
	}
	if n.Pool, err = New(c); err != nil {
		l.t.Fatalf("New: %v", err)
	}
	web, packets, err := n.host.Listen(l.t.Context(), fmt.Sprintf("%s:%d", n.ip, httpPort))
	if err != nil {
		l.t.Fatalf("listen: %v", err)
	}
	packets.Close()
	server := &http.Server{Handler: n.DocumentHandler()}
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(web) }()
	l.t.Cleanup(func() {
		server.Close()
		<-served
		n.Close()
	})
	return n
}

func (l *lab) start(i int, edit func(*Config)) *node {
	l.t.Helper()
	n := l.prepare(i, edit)
	n.start(l.t)
	return n
}

func (n *node) start(t *testing.T) {
	t.Helper()
	if err := n.Start(t.Context()); err != nil {
		t.Fatalf("Start: %v", err)
	}
}

// pool starts count nodes that join at node 0, and waits until all see all.
func (l *lab) pool(count int, edit func(int, *Config)) []*node {
	l.t.Helper()
	nodes := make([]*node, count)
	for i := range nodes {
		nodes[i] = l.start(i, func(c *Config) {
			if i > 0 {
				c.Seeds = []string{testIP(0)}
			}
			if edit != nil {
				edit(i, c)
			}
		})
	}
	within(l.t, 5*time.Second, "all see all", func() bool { return allSee(nodes, count) })
	return nodes
}

func testLogger(t *testing.T) *log.Logger {
	to := io.Discard
	if os.Getenv("GOSSIP_LOG") != "" {
		to = t.Output()
	}
	return bounds.Log(t, to)
}

// within waits, in the bubble's time, until cond holds, and returns how long that
// took.
func within(t *testing.T, limit time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !cond() {
		if time.Since(began) > limit {
			t.Fatalf("%s: not within %v", what, limit)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}

// during checks that cond holds for a while.
func during(t *testing.T, d time.Duration, what string, cond func() bool) {
	t.Helper()
	for began := time.Now(); time.Since(began) < d; time.Sleep(10 * time.Millisecond) {
		if !cond() {
			t.Fatalf("%s: not after %v", what, time.Since(began))
		}
	}
}

func (n *node) present() int {
	count := 0
	for _, m := range n.view.all() {
		if m.Status.Present() {
			count++
		}
	}
	return count
}

func allSee(nodes []*node, count int) bool {
	for _, n := range nodes {
		if n.present() != count {
			return false
		}
	}
	return true
}

func (n *node) status(id string) Status {
	m, ok := n.Member(id)
	if !ok {
		return "unknown"
	}
	return m.Status
}

// The messages of memberlist, for writing them by hand.
type (
	wirePing struct {
		SeqNo      uint32
		Node       string
		SourceAddr []byte `codec:",omitempty"`
		SourcePort uint16 `codec:",omitempty"`
		SourceNode string `codec:",omitempty"`
	}
	wireIndirectPing struct {
		SeqNo      uint32
		Target     []byte
		Port       uint16
		Node       string
		Nack       bool
		SourceAddr []byte `codec:",omitempty"`
		SourcePort uint16 `codec:",omitempty"`
		SourceNode string `codec:",omitempty"`
	}
	wireAck struct {
		SeqNo   uint32
		Payload []byte
	}
	wireNack       struct{ SeqNo uint32 }
	wireAccusation struct {
		Incarnation uint32
		Node, From  string
	}
	wireAlive struct {
		Incarnation uint32
		Node        string
		Addr        []byte
		Port        uint16
		Meta        []byte
		Vsn         []uint8
	}
	wireHeader struct {
		Nodes        int
		UserStateLen int
		Join         bool
	}
	wireUserHeader struct{ UserMsgLen int }
	wireState      struct {
		Name        string
		Addr        []byte
		Port        uint16
		Meta        []byte
		Incarnation uint32
		State       int
		Vsn         []uint8
	}
	wireCompress struct {
		Algo uint8
		Buf  []byte
	}
)

func msgpack(v any) []byte {
	var b bytes.Buffer
	if err := codec.NewEncoder(&b, &codec.MsgpackHandle{}).Encode(v); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func wire(k kind, v any) []byte { return append([]byte{byte(k)}, msgpack(v)...) }

func compound(parts ...[]byte) []byte {
	b := []byte{byte(kindCompound), byte(len(parts))}
	for _, p := range parts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
	}
	return append(b, bytes.Join(parts, nil)...)
}

func labelled(b []byte) []byte {
	label := (&Config{Cluster: "default"}).label()
	return append(append([]byte{byte(kindLabel), byte(len(label))}, label...), b...)
}

var goodVsn = []uint8{1, 5, 2, 1, 1, 1}

// stranger is a machine that sends what it likes.
type stranger struct {
	t       *testing.T
	host    *memnet.Host
	packets net.PacketConn
}

func (l *lab) stranger() *stranger {
	l.t.Helper()
	s := &stranger{t: l.t, host: l.net.Host("10.9.9.9")}
	listener, packets, err := s.host.Listen(l.t.Context(), "10.9.9.9:44201")
	if err != nil {
		l.t.Fatalf("listen: %v", err)
	}
	s.packets = packets
	l.t.Cleanup(func() { listener.Close(); packets.Close() })
	return s
}

func (s *stranger) send(n *node, b []byte) {
	s.t.Helper()
	if _, err := s.packets.WriteTo(b, net.UDPAddrFromAddrPort(n.config.Advertise)); err != nil {
		s.t.Fatalf("send: %v", err)
	}
}

func (s *stranger) dial(n *node) net.Conn {
	s.t.Helper()
	c, err := s.host.Dial(s.t.Context(), n.config.Advertise.String())
	if err != nil {
		s.t.Fatalf("dial: %v", err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

func allowOnly(ip string) func(netip.Addr) error {
	return func(a netip.Addr) error {
		if a.String() != ip {
			return fmt.Errorf("only %s is allowed", ip)
		}
		return nil
	}
}
