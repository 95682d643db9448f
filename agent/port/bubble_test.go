package port_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/agent/port/memnet"
)

const (
	ipA = "10.0.0.1"
	ipB = "10.0.0.2"
)

func TestStrangerHasFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := open(t, port.Config{Bind: ipA, Network: n.Host(ipA)})
		started := time.Now()
		wantClosed(t, dial(t, p, ""))
		if took := time.Since(started); took != 5*time.Second {
			t.Errorf("a silent stranger is closed after %v, want 5s", took)
		}

		late := dial(t, p, "")
		time.Sleep(4999 * time.Millisecond)
		io.WriteString(late, "GET")
		got := accept(t, p.HTTP())
		wantText(t, got, "G")
		time.Sleep(time.Hour)
		wantText(t, got, "ET")
	})
}

func TestStrangersAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		var lines bytes.Buffer
		p := open(t, port.Config{Bind: ipA, Network: n.Host(ipA), Logger: log.New(&lines, "", 0)})
		from := func(host int) net.Conn {
			c, err := n.Host(fmt.Sprintf("10.1.0.%d", host)).Dial(t.Context(), p.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			synctest.Wait()
			return c
		}
		var most []net.Conn
		for range 32 {
			most = append(most, from(1))
		}
		wantClosed(t, from(1))
		for i := range 256 - 32 {
			from(2 + i%8)
		}
		// 28 of each of the others are fewer than 32. The newcomers get the places
		// of the oldest of that one, and are heard.
		for i := range 3 {
			c := from(10 + i)
			wantClosed(t, most[i])
			io.WriteString(c, "GET")
			wantText(t, accept(t, p.HTTP()), "GET")
			from(20 + i)
		}
		got := p.Stats()
		if got.Strangers != 256 || got.Refused[port.RefusedSource] != 1 || got.Refused[port.RefusedStrangers] != 3 {
			t.Errorf("Stats() = %+v; want 256 strangers, 1 refused for its source and 3 for the total", got)
		}
		if got := strings.Count(lines.String(), "\n"); got != 1 {
			t.Errorf("4 refusals within a minute are %d lines, want 1:\n%s", got, &lines)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := p.Stats(); got.Strangers != 0 || got.Refused[port.RefusedSilent] != 256 {
			t.Errorf("after 5s Stats() = %+v; want no strangers, 256 refused for silence", got)
		}
	})
}

func TestBacklogIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := open(t, port.Config{Bind: ipA, Network: n.Host(ipA), Backlog: 2})
		dial(t, p, "\x5c1")
		synctest.Wait()
		dial(t, p, "\x5c2")
		synctest.Wait()
		wantClosed(t, dial(t, p, "\x5c3"))
		dial(t, p, "\x04") // gossip has a backlog of its own
		wantText(t, accept(t, p.Gossip()), "\x04")
		wantText(t, accept(t, p.Links()), "\x5c1")
		wantText(t, accept(t, p.Links()), "\x5c2")
		if got := p.Stats(); got.Refused[port.RefusedBacklog] != 1 || got.Sorted[port.SortLink] != 3 {
			t.Errorf("Stats() = %+v; want 1 refused for the backlog of 3 links", got)
		}
	})
}

func TestStrangersThatLeaveAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := open(t, port.Config{Bind: ipA, Network: n.Host(ipA)})
		dial(t, p, "").Close()
		reset, err := n.Host(ipB).Dial(t.Context(), p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		n.Reset(ipA, ipB)
		synctest.Wait()
		if got := p.Stats(); got.Refused[port.RefusedGone] != 2 || got.Strangers != 0 {
			t.Errorf("Stats() = %+v; want 2 that have gone, no strangers", got)
		}
		wantClosed(t, reset)
	})
}

// The wrapper around what is not TCP gives back the first byte, whole reads
// afterwards, and the end of each direction.
func TestWrappedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := open(t, port.Config{Bind: ipA, Network: n.Host(ipA)})
		c := dial(t, p, "GET /")
		got := accept(t, p.HTTP())
		if n, err := got.Read(nil); n != 0 || err != nil {
			t.Errorf("Read of nothing = %d, %v", n, err)
		}
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(got); string(text) != "GET /" || err != nil {
			t.Errorf("ReadAll = %q, %v", text, err)
		}
		io.WriteString(got, "200")
		if err := got.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatalf("CloseWrite() = %v", err)
		}
		if text, err := io.ReadAll(c); string(text) != "200" || err != nil {
			t.Errorf("ReadAll = %q, %v", text, err)
		}
	})
}

func TestClosingOneListenerSparesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := open(t, port.Config{Bind: ipA, Network: n.Host(ipA)})
		waiting := dial(t, p, "GET")
		synctest.Wait()
		accepts := make(chan error)
		go func() {
			for {
				if _, err := p.HTTP().Accept(); err != nil {
					accepts <- err
					return
				}
			}
		}()
		synctest.Wait()
		p.HTTP().Close()
		if err := <-accepts; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept during Close = %v, want %v", err, net.ErrClosed)
		}
		if err := p.HTTP().Close(); err != nil {
			t.Errorf("second Close = %v", err)
		}
		waiting.Close()
		wantClosed(t, dial(t, p, "GET"))
		if got := p.Stats().Refused[port.RefusedClosed]; got != 1 {
			t.Errorf("Refused[closed] = %d, want 1", got)
		}
		dial(t, p, "\x5c")
		wantText(t, accept(t, p.Links()), "\x5c")
	})
}

func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := open(t, port.Config{Bind: ipA, Network: n.Host(ipA)})
		accepting := make(chan error)
		go func() {
			_, err := p.Gossip().Accept()
			accepting <- err
		}()
		dial(t, p, "GET")
		accepted := accept(t, p.HTTP())
		stranger, waiting := dial(t, p, ""), dial(t, p, "\x5c")
		synctest.Wait()
		closed := make(chan error)
		for range 2 {
			go func() { closed <- p.Close() }()
		}
		for range 2 {
			if err := <-closed; err != nil {
				t.Errorf("Close() = %v", err)
			}
		}
		if err := <-accepting; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept during Close = %v, want %v", err, net.ErrClosed)
		}
		wantClosed(t, stranger)
		wantClosed(t, waiting)
		wantText(t, accepted, "GET")
		if _, _, err := p.Packets().ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("ReadFrom after Close = %v, want %v", err, net.ErrClosed)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := n.Host(ipB).Dial(ctx, p.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Dial after Close = %v, want %v", err, syscall.ECONNREFUSED)
		}
	})
}

func TestAgentsOfOneHostShareIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		first := open(t, port.Config{Bind: ipA, Network: n.Host(ipA)})
		second := open(t, port.Config{Bind: ipA, Network: n.Host(ipA)})
		if first.Addr().String() != ipA+":44201" || second.Addr().Port() == first.Addr().Port() {
			t.Errorf("two agents are at %s and %s; want the first at the default port", first.Addr(), second.Addr())
		}
		_, err := port.Open(t.Context(), port.Config{Bind: ipA, Strict: true, Network: n.Host(ipA)})
		if err == nil || !strings.Contains(err.Error(), "taken by another program") {
			t.Errorf("a third that is strict = %v, want that the port is taken", err)
		}
	})
}

// failing is a network whose listener has no file descriptors for a while.
type failing struct {
	*memnet.Host
	listener *failingListener
}

type failingListener struct {
	net.Listener
	failures int // to come; belongs to the accepting goroutine
	tries    []time.Time
}

func (f *failing) Listen(ctx context.Context, addr string) (net.Listener, net.PacketConn, error) {
	l, p, err := f.Host.Listen(ctx, addr)
	f.listener.Listener = l
	return f.listener, p, err
}

func (l *failingListener) Accept() (net.Conn, error) {
	l.tries = append(l.tries, time.Now())
	if l.failures > 0 {
		l.failures--
		return nil, os.NewSyscallError("accept", syscall.EMFILE)
	}
	return l.Listener.Accept()
}

func TestAcceptErrorsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		l := &failingListener{failures: 20}
		p := open(t, port.Config{Bind: ipA, Network: &failing{n.Host(ipA), l}})
		dial(t, p, "GET")
		wantText(t, accept(t, p.HTTP()), "GET")
		if got := p.Stats().AcceptErrors; got != 20 {
			t.Errorf("AcceptErrors = %d, want 20", got)
		}
		p.Close()
		for i, longest := 1, time.Duration(0); i <= 20; i++ {
			pause := l.tries[i].Sub(l.tries[i-1])
			if pause < 5*time.Millisecond || pause < longest || pause > time.Second {
				t.Errorf("pause %d is %v; want 5ms growing to 1s", i, pause)
			}
			longest = pause
		}
	})
}

func TestCloseDuringAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := open(t, port.Config{Bind: ipA, Network: &failing{n.Host(ipA), &failingListener{failures: 1 << 30}}})
		time.Sleep(10500 * time.Millisecond)
		started := time.Now()
		p.Close()
		if took := time.Since(started); took != 0 {
			t.Errorf("Close took %v, want none", took)
		}
	})
}

func TestDroppedPacketsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := open(t, port.Config{Bind: ipA, Network: n.Host(ipA)})
		q := open(t, port.Config{Bind: ipB, Network: n.Host(ipB)})
		for range memnet.QueuePackets + 7 {
			q.Packets().WriteTo([]byte("x"), net.UDPAddrFromAddrPort(p.Addr()))
		}
		if got := p.Stats().PacketsDropped; got != 7 {
			t.Errorf("PacketsDropped = %d, want 7", got)
		}
	})
}
