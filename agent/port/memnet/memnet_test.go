package memnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/agent/port/memnet"
	"golang.org/x/net/nettest"
)

var _ port.Network = (*memnet.Host)(nil)

const (
	ipA = "10.0.0.1"
	ipB = "10.0.0.2"
	ipC = "fd00::3"
)

func listen(t *testing.T, h *memnet.Host, addr string) (net.Listener, net.PacketConn) {
	t.Helper()
	l, p, err := h.Listen(t.Context(), addr)
	if err != nil {
		t.Fatalf("Listen(%q) = %v", addr, err)
	}
	t.Cleanup(func() { l.Close(); p.Close() })
	return l, p
}

// connect returns both ends of a connection from a to l.
func connect(t *testing.T, a *memnet.Host, l net.Listener) (dialled, accepted net.Conn) {
	t.Helper()
	dialled, err := a.Dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatalf("Dial(%s) = %v", l.Addr(), err)
	}
	accepted, err = l.Accept()
	if err != nil {
		t.Fatalf("Accept() = %v", err)
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return dialled, accepted
}

// pair returns a new network with a connection from ipA to ipB.
func pair(t *testing.T) (n *memnet.Network, a, b net.Conn) {
	t.Helper()
	n = memnet.New()
	l, _ := listen(t, n.Host(ipB), ipB+":0")
	a, b = connect(t, n.Host(ipA), l)
	return n, a, b
}

func write(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("Write(%q) = %d, %v", text, n, err)
	}
}

func wantRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

// wantSilence checks that nothing arrives on c for a minute.
func wantSilence(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	defer c.SetReadDeadline(time.Time{})
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Read() = %d, %v; want silence", n, err)
	}
}

func wantReadError(t *testing.T, c net.Conn, want error) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
		t.Errorf("Read() = %d, %v; want %v", n, err, want)
	}
}

func wantWriteError(t *testing.T, c net.Conn, want error) {
	t.Helper()
	if _, err := c.Write([]byte("x")); !errors.Is(err, want) {
		t.Errorf("Write() = %v; want %v", err, want)
	}
}

func wantDialError(t *testing.T, h *memnet.Host, addr string, timeout time.Duration, want error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	c, err := h.Dial(ctx, addr)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, want) {
		t.Errorf("Dial(%s) = %v; want %v", addr, err, want)
	}
}

func send(t *testing.T, from net.PacketConn, to net.Addr, text string) {
	t.Helper()
	if n, err := from.WriteTo([]byte(text), to); n != len(text) || err != nil {
		t.Fatalf("WriteTo(%q) = %d, %v", text, n, err)
	}
}

func wantPacket(t *testing.T, at net.PacketConn, want string) net.Addr {
	t.Helper()
	b := make([]byte, 100)
	n, from, err := at.ReadFrom(b)
	if err != nil || string(b[:n]) != want {
		t.Fatalf("ReadFrom() = %q, %v; want %q", b[:n], err, want)
	}
	return from
}

// wantNoPacket checks that nothing arrives for a minute.
func wantNoPacket(t *testing.T, at net.PacketConn) {
	t.Helper()
	at.SetReadDeadline(time.Now().Add(time.Minute))
	defer at.SetReadDeadline(time.Time{})
	b := make([]byte, 100)
	if n, _, err := at.ReadFrom(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("ReadFrom() = %q, %v; want nothing", b[:n], err)
	}
}

func TestConnBehavesAsPackageNetSays(t *testing.T) {
	nettest.TestConn(t, func() (a, b net.Conn, stop func(), err error) {
		n := memnet.New()
		l, p, err := n.Host(ipB).Listen(context.Background(), ipB+":0")
		if err != nil {
			return nil, nil, nil, err
		}
		if a, err = n.Host(ipA).Dial(context.Background(), l.Addr().String()); err != nil {
			return nil, nil, nil, err
		}
		if b, err = l.Accept(); err != nil {
			return nil, nil, nil, err
		}
		return a, b, func() { a.Close(); b.Close(); l.Close(); p.Close() }, nil
	})
}

func TestConnectionHasTheAddressesOfItsMachines(t *testing.T) {
	n := memnet.New()
	l, _ := listen(t, n.Host(ipB), "0.0.0.0:44201")
	dialler, err := n.Host(ipA).Dial(t.Context(), ipB+":44201")
	if err != nil {
		t.Fatal(err)
	}
	acceptor, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []struct {
		name string
		got  net.Addr
		want string
	}{
		{"listener", l.Addr(), "0.0.0.0:44201"},
		{"dialler's remote", dialler.RemoteAddr(), ipB + ":44201"},
		{"acceptor's local", acceptor.LocalAddr(), ipB + ":44201"},
		{"acceptor's remote", acceptor.RemoteAddr(), dialler.LocalAddr().String()},
	} {
		if _, ok := end.got.(*net.TCPAddr); !ok || end.got.String() != end.want {
			t.Errorf("%s = %T %s, want *net.TCPAddr %s", end.name, end.got, end.got, end.want)
		}
	}
	if ip := dialler.LocalAddr().(*net.TCPAddr).IP.String(); ip != ipA {
		t.Errorf("dialler's local IP = %s, want %s", ip, ipA)
	}
}

func TestListenGivesOneNumberForBoth(t *testing.T) {
	n := memnet.New()
	h := n.Host(ipC)
	seen := make(map[int]bool)
	for range 10 {
		l, p := listen(t, h, "[::]:0")
		tcp, udp := l.Addr().(*net.TCPAddr).Port, p.LocalAddr().(*net.UDPAddr).Port
		if tcp != udp || tcp == 0 || seen[tcp] {
			t.Fatalf("Listen on port 0 = TCP %d, UDP %d; want a new one for both (had %v)", tcp, udp, seen)
		}
		seen[tcp] = true
	}
}

func TestListenRefuses(t *testing.T) {
	n := memnet.New()
	h := n.Host(ipA)
	l, p := listen(t, h, ipA+":44201")
	for _, c := range []struct {
		addr string
		want error
	}{
		{"0.0.0.0:44201", syscall.EADDRINUSE},
		{ipB + ":44201", syscall.EADDRNOTAVAIL},
	} {
		if _, _, err := h.Listen(t.Context(), c.addr); !errors.Is(err, c.want) {
			t.Errorf("Listen(%s) = %v, want %v", c.addr, err, c.want)
		}
	}
	l.Close()
	if _, _, err := h.Listen(t.Context(), ipA+":44201"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Listen while the packet socket is open = %v, want %v", err, syscall.EADDRINUSE)
	}
	p.Close()
	listen(t, h, ipA+":44201")
}

func TestDialWhereNobodyListensIsRefused(t *testing.T) {
	n := memnet.New()
	n.Host(ipB)
	wantDialError(t, n.Host(ipA), ipB+":1", time.Minute, syscall.ECONNREFUSED)
	wantDialError(t, n.Host(ipA), "10.9.9.9:1", time.Minute, syscall.EHOSTUNREACH)
}

func TestWriteWaitsWhenTheBufferIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		write(t, a, string(make([]byte, memnet.BufferBytes)))
		a.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := a.Write([]byte("more"))
		if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Write into a full buffer = %d, %v; want 0, %v", n, err, os.ErrDeadlineExceeded)
		}
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("Write error %v is no timeout", err)
		}
		a.SetWriteDeadline(time.Time{})
		done := make(chan struct{})
		go func() { defer close(done); write(t, a, "more") }()
		synctest.Wait()
		wantRead(t, b, string(make([]byte, memnet.BufferBytes)))
		wantRead(t, b, "more")
		<-done
	})
}

func TestWritesOfSeveralGoroutinesDoNotMix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		const writers, size = 4, memnet.BufferBytes + 1 // none fits at once
		for i := range writers {
			go a.Write(bytes.Repeat([]byte{byte(i)}, size))
		}
		got := make([]byte, writers*size)
		if _, err := io.ReadFull(b, got); err != nil {
			t.Fatal(err)
		}
		if pieces := len(slices.Compact(got)); pieces != writers {
			t.Errorf("%d writes arrived in %d pieces", writers, pieces)
		}
	})
}

func TestCloseWriteEndsOneDirection(t *testing.T) {
	_, a, b := pair(t)
	write(t, a, "question")
	if err := a.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatalf("CloseWrite() = %v", err)
	}
	wantWriteError(t, a, syscall.EPIPE)
	if got, err := io.ReadAll(b); string(got) != "question" || err != nil {
		t.Fatalf("ReadAll = %q, %v", got, err)
	}
	write(t, b, "answer")
	wantRead(t, a, "answer")
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.SetDelay(time.Second)
		write(t, a, "last words")
		if err := a.Close(); err != nil {
			t.Fatalf("Close() = %v", err)
		}
		if err := a.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second Close() = %v, want %v", err, net.ErrClosed)
		}
		wantReadError(t, a, net.ErrClosed)
		wantWriteError(t, a, net.ErrClosed)
		write(t, b, "too late, but b cannot know")
		if got, err := io.ReadAll(b); string(got) != "last words" || err != nil {
			t.Errorf("ReadAll = %q, %v", got, err)
		}
		wantWriteError(t, b, syscall.EPIPE)
	})
}

func TestListenerCloseResetsWhatWasNotAccepted(t *testing.T) {
	n := memnet.New()
	l, _ := listen(t, n.Host(ipB), ipB+":0")
	waiting, err := n.Host(ipA).Dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
	wantReadError(t, waiting, syscall.ECONNRESET)
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept() = %v, want %v", err, net.ErrClosed)
	}
	wantDialError(t, n.Host(ipA), l.Addr().String(), time.Minute, syscall.ECONNREFUSED)
}

func TestDialWaitsForRoomInTheBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		a := n.Host(ipA)
		l, _ := listen(t, n.Host(ipB), ipB+":0")
		var last error
		dials := 0
		for last == nil {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, last = a.Dial(ctx, l.Addr().String())
			cancel()
			dials++
		}
		if dials < 2 || !errors.Is(last, context.DeadlineExceeded) {
			t.Fatalf("dial %d = %v, want %v after some have got in", dials, last, context.DeadlineExceeded)
		}
		dialled := make(chan error)
		go func() {
			_, err := a.Dial(t.Context(), l.Addr().String())
			dialled <- err
		}()
		synctest.Wait()
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
		if err := <-dialled; err != nil {
			t.Errorf("Dial once there is room = %v", err)
		}
	})
}

func TestPackets(t *testing.T) {
	n := memnet.New()
	_, a := listen(t, n.Host(ipA), "0.0.0.0:7")
	_, b := listen(t, n.Host(ipB), ipB+":8")
	send(t, a, b.LocalAddr(), "hello")
	from := wantPacket(t, b, "hello")
	if udp, ok := from.(*net.UDPAddr); !ok || udp.String() != ipA+":7" {
		t.Errorf("source = %T %v, want *net.UDPAddr %s:7", from, from, ipA)
	}
	send(t, b, from, "and back")
	wantPacket(t, a, "and back")

	send(t, a, &net.UDPAddr{IP: net.ParseIP(ipB), Port: 99}, "to nobody")
	send(t, a, &net.UDPAddr{IP: net.ParseIP("10.9.9.9"), Port: 8}, "to nowhere")
	if _, err := a.WriteTo(make([]byte, memnet.MaxPacketBytes+1), b.LocalAddr()); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("WriteTo of too much = %v, want %v", err, syscall.EMSGSIZE)
	}
	send(t, a, b.LocalAddr(), "0123456789")
	short := make([]byte, 4)
	if n, _, err := b.ReadFrom(short); n != 4 || err != nil {
		t.Errorf("ReadFrom into 4 bytes = %d, %v", n, err)
	}
	a.Close()
	if _, err := a.WriteTo([]byte("x"), b.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("WriteTo after Close = %v, want %v", err, net.ErrClosed)
	}
	if _, _, err := a.ReadFrom(short); !errors.Is(err, net.ErrClosed) {
		t.Errorf("ReadFrom after Close = %v, want %v", err, net.ErrClosed)
	}
}

func TestPacketsBeyondTheQueueAreDropped(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Second} {
		t.Run("delay="+delay.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := memnet.New()
				n.SetDelay(delay)
				_, a := listen(t, n.Host(ipA), ipA+":7")
				_, b := listen(t, n.Host(ipB), ipB+":8")
				for range memnet.QueuePackets + 5 {
					send(t, a, b.LocalAddr(), "x")
				}
				for range memnet.QueuePackets {
					wantPacket(t, b, "x")
				}
				wantNoPacket(t, b)
				if got := b.(interface{ Dropped() uint64 }).Dropped(); got != 5 {
					t.Errorf("Dropped() = %d, want 5", got)
				}
			})
		})
	}
}
