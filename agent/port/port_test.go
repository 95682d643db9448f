package port_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/port"
)

// patience is for what should come at once, on a machine that does much else.
const patience = time.Minute

// open opens a Port that the test closes. On real sockets it waits for a first byte
// until the test writes it, however late that is.
func open(t *testing.T, config port.Config) *port.Port {
	t.Helper()
	if config.Network == nil && config.FirstByteTimeout == 0 {
		config.FirstByteTimeout = patience
	}
	p, err := port.Open(t.Context(), config)
	if err != nil {
		t.Fatalf("Open(%+v) = %v", config, err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return p
}

// dial connects to p and sends text.
func dial(t *testing.T, p *port.Port, text string) net.Conn {
	t.Helper()
	c, err := p.Dial(t.Context(), p.Addr().String())
	if err != nil {
		t.Fatalf("Dial(%s) = %v", p.Addr(), err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatalf("write %q: %v", text, err)
	}
	return c
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatalf("Accept() = %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func wantText(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Errorf("read %q, %v; want %q", got, err, want)
	}
}

// wantClosed waits until the other side has closed c.
func wantClosed(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.Read(make([]byte, 1))
	var timeout net.Error
	if n != 0 || err == nil || (errors.As(err, &timeout) && timeout.Timeout()) {
		t.Errorf("Read() = %d, %v; want the connection closed", n, err)
	}
}

func TestOpenChecksItsConfig(t *testing.T) {
	for _, c := range []struct {
		config port.Config
		want   string
	}{
		{port.Config{MaxStrangers: -1}, "MaxStrangers is -1; want at least 1"},
		{port.Config{MaxStrangersPerSource: -2}, "MaxStrangersPerSource is -2; want at least 1"},
		{port.Config{Backlog: -3}, "Backlog is -3; want at least 1"},
		{port.Config{FirstByteTimeout: -time.Second}, "FirstByteTimeout is -1s; want more than 0"},
		{port.Config{Bind: "nonsense"}, `bind address "nonsense": "nonsense" is not an IP address; ` +
			"write one of this host's, or 0.0.0.0 or [::] for all, and :PORT behind it"},
	} {
		if p, err := port.Open(t.Context(), c.config); err == nil || err.Error() != c.want {
			t.Errorf("Open(%+v) = %v, %v; want %q", c.config, p, err, c.want)
		}
	}
}

func TestTakenPort(t *testing.T) {
	first := open(t, port.Config{Bind: "127.0.0.1:0"})
	taken := first.Addr().String()

	var lines bytes.Buffer
	second := open(t, port.Config{Bind: taken, Logger: log.New(&lines, "", 0)})
	if second.Addr() == first.Addr() || second.Addr().Port() == 0 {
		t.Errorf("second Open on %s is at %s, want another port", taken, second.Addr())
	}
	want := "[INFO] port: taken, another is used: taken=" + taken + " used=" + second.Addr().String() + "\n"
	if lines.String() != want {
		t.Errorf("log = %q, want %q", lines.String(), want)
	}

	_, err := port.Open(t.Context(), port.Config{Bind: taken, Strict: true})
	want = "address " + taken + " is taken by another program; choose another port with -bind, or leave the port out"
	if err == nil || err.Error() != want || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("strict Open on %s = %v, want %q", taken, err, want)
	}
}

func TestAddressOfAnotherHost(t *testing.T) {
	_, err := port.Open(t.Context(), port.Config{Bind: "192.0.2.222:0"})
	if err == nil || !strings.HasPrefix(err.Error(), "address 192.0.2.222:0 is not this host's; ") {
		t.Errorf("Open = %v, want it to say that the address is not this host's", err)
	}
}

func TestPacketsAndStreamsHaveOneNumber(t *testing.T) {
	for _, bind := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
		t.Run(bind, func(t *testing.T) {
			p, err := port.Open(t.Context(), port.Config{Bind: bind, FirstByteTimeout: patience})
			if errors.Is(err, syscall.EAFNOSUPPORT) {
				t.Skip("no IPv6 here:", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			udp, ok := p.Packets().(*net.UDPConn)
			if !ok || udp.LocalAddr().(*net.UDPAddr).AddrPort().Port() != p.Addr().Port() {
				t.Fatalf("Packets() = %T at %s; want *net.UDPConn at the number of %s", p.Packets(), udp.LocalAddr(), p.Addr())
			}
			hosts := []string{"127.0.0.1"}
			if bind == "[::]:0" {
				hosts = append(hosts, "[::1]")
			}
			for _, host := range hosts {
				addr := host + ":" + strconv.Itoa(int(p.Addr().Port()))
				c, err := p.Dial(t.Context(), addr)
				if err != nil {
					t.Fatalf("Dial(%s) = %v", addr, err)
				}
				defer c.Close()
				io.WriteString(c, "GET")
				wantText(t, accept(t, p.HTTP()), "GET")

				sender, err := net.Dial("udp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer sender.Close()
				io.WriteString(sender, "packet")
				b := make([]byte, 10)
				if n, _, err := udp.ReadFrom(b); err != nil || string(b[:n]) != "packet" {
					t.Errorf("ReadFrom = %q, %v", b[:n], err)
				}
			}
		})
	}
}

// What is handed on by real sockets is the TCP connection itself.
func TestSortedConnectionIsUntouched(t *testing.T) {
	p := open(t, port.Config{Bind: "127.0.0.1:0"})
	for _, c := range []struct {
		text string
		from net.Listener
	}{
		{"GET / HTTP/1.1\r\n", p.HTTP()},
		{"\x5c\xa6\x01", p.Links()},
		{"\xf4\x07default", p.Gossip()},
	} {
		dial(t, p, c.text)
		got := accept(t, c.from)
		if _, ok := got.(*net.TCPConn); !ok {
			t.Errorf("%q arrives as %T, want *net.TCPConn", c.text, got)
		}
		wantText(t, got, c.text)
	}
}

func TestSilentStrangersAreClosed(t *testing.T) {
	p := open(t, port.Config{Bind: "127.0.0.1:0", FirstByteTimeout: 50 * time.Millisecond})
	wantClosed(t, dial(t, p, ""))
	if got := p.Stats().Refused[port.RefusedSilent]; got != 1 {
		t.Errorf("Refused[silent] = %d, want 1", got)
	}
}

// A connection that was handed on keeps no deadline: it may be silent for longer
// than a stranger.
func TestDeadlineEndsWithTheFirstByte(t *testing.T) {
	const timeout = 500 * time.Millisecond
	n := &heldBack{Network: port.Machine, let: make(chan struct{})}
	p := open(t, port.Config{Bind: "127.0.0.1:0", FirstByteTimeout: timeout, Network: n})
	c := dial(t, p, "G")
	close(n.let) // its byte is there before its time begins
	got := accept(t, p.HTTP())
	wantText(t, got, "G")
	timer := time.AfterFunc(2*timeout, func() { io.WriteString(c, "ET") })
	defer timer.Stop()
	wantText(t, got, "ET")
}

// heldBack is a network of which nothing is accepted until it is let.
type heldBack struct {
	port.Network
	let chan struct{}
}

func (n *heldBack) Listen(ctx context.Context, addr string) (net.Listener, net.PacketConn, error) {
	l, p, err := n.Network.Listen(ctx, addr)
	return &heldListener{l, n.let}, p, err
}

type heldListener struct {
	net.Listener
	let chan struct{}
}

func (l *heldListener) Accept() (net.Conn, error) {
	<-l.let
	return l.Listener.Accept()
}

func TestStrangersOfOneSourceAreLimited(t *testing.T) {
	p := open(t, port.Config{Bind: "0.0.0.0:0", MaxStrangersPerSource: 3})
	number := strings.TrimPrefix(p.Addr().String(), "0.0.0.0")
	var strangers []net.Conn
	for range 3 {
		strangers = append(strangers, dialFrom(t, "127.0.0.1", "127.0.0.1"+number))
	}
	wantRefused(t, "127.0.0.1", "127.0.0.1"+number)
	fromElsewhere := dialFrom(t, "127.0.0.2", "127.0.0.1"+number)
	io.WriteString(fromElsewhere, "GET")
	wantText(t, accept(t, p.HTTP()), "GET")
	if got := p.Stats(); got.Strangers != 3 || got.Refused[port.RefusedSource] != 1 {
		t.Errorf("Stats() = %+v; want 3 strangers, 1 refused for its source", got)
	}

	io.WriteString(strangers[0], "GET") // no longer a stranger, which makes room
	wantText(t, accept(t, p.HTTP()), "GET")
	io.WriteString(dialFrom(t, "127.0.0.1", "127.0.0.1"+number), "PUT")
	wantText(t, accept(t, p.HTTP()), "PUT")
}

// dialFrom connects to addr from a given local address.
func dialFrom(t *testing.T, from, addr string) net.Conn {
	t.Helper()
	c, err := tryFrom(t, from, addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantRefused connects, and waits for the reset. That can come so fast that
// already the dial has it.
func wantRefused(t *testing.T, from, addr string) {
	t.Helper()
	c, err := tryFrom(t, from, addr)
	if err == nil {
		wantClosed(t, c)
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Dial(%s) = %v; want it to be reset", addr, err)
	}
}

func tryFrom(t *testing.T, from, addr string) (net.Conn, error) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func TestEveryFirstByteIsSortedOrCounted(t *testing.T) {
	p := open(t, port.Config{Bind: "127.0.0.1:0", Backlog: 256})
	want := make(map[port.Sort]uint64)
	for first := range 256 {
		c := dial(t, p, string([]byte{byte(first), 0xff, 0, 0x16, 'G'}))
		sort, l := port.SortGossip, p.Gossip()
		switch {
		case first == 0x16:
			sort, l = port.SortTLS, nil
		case first >= 'A' && first <= 'Z':
			sort, l = port.SortHTTP, p.HTTP()
		case first == port.LinkMagic:
			sort, l = port.SortLink, p.Links()
		}
		want[sort]++
		if l == nil {
			wantClosed(t, c)
			continue
		}
		wantText(t, accept(t, l), string([]byte{byte(first), 0xff, 0, 0x16, 'G'}))
	}
	got := p.Stats()
	for sort, n := range want {
		if got.Sorted[sort] != n {
			t.Errorf("Sorted[%v] = %d, want %d", sort, got.Sorted[sort], n)
		}
	}
	for reason, n := range got.Refused {
		want := uint64(0)
		if reason == port.RefusedTLS {
			want = 1
		}
		if n != want {
			t.Errorf("Refused[%v] = %d, want %d", reason, n, want)
		}
	}
}

func TestRealCloseEndsEverything(t *testing.T) {
	p := open(t, port.Config{Bind: "127.0.0.1:0"})
	dial(t, p, "GET")
	accepted := accept(t, p.HTTP())
	stranger, waiting := dial(t, p, ""), dial(t, p, "\x5c")
	if err := p.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
	wantClosed(t, stranger)
	wantClosed(t, waiting)
	wantText(t, accepted, "GET")
	again := open(t, port.Config{Bind: p.Addr().String(), Strict: true})
	if again.Addr() != p.Addr() {
		t.Errorf("Open after Close is at %s, want %s", again.Addr(), p.Addr())
	}
}

func TestStringsOfUnknownValues(t *testing.T) {
	if got := port.Sort(-1).String() + port.Sort(99).String(); got != "sort(-1)sort(99)" {
		t.Errorf("String of unknown sorts = %s", got)
	}
	if got := port.Reason(-1).String() + port.Reason(99).String(); got != "reason(-1)reason(99)" {
		t.Errorf("String of unknown reasons = %s", got)
	}
}
