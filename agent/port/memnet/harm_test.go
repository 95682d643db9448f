package memnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/port/memnet"
)

func TestCutIsSilentAndHealLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.Cut(ipA, ipB)
		write(t, a, "one ")
		write(t, b, "back")
		wantSilence(t, b)
		wantSilence(t, a)
		write(t, a, "two")
		n.Heal(ipB, ipA)
		wantRead(t, b, "one two")
		wantRead(t, a, "back")
		n.Cut(ipA, ipB)
		a.Close()
		wantSilence(t, b)
		n.HealAll()
		wantReadError(t, b, io.EOF)
	})
}

func TestWriteIntoACutStopsAtTheBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.Cut(ipA, ipB)
		a.SetWriteDeadline(time.Now().Add(time.Minute))
		sent, err := a.Write(make([]byte, 2*memnet.BufferBytes))
		if sent != memnet.BufferBytes || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write = %d, %v; want %d, %v", sent, err, memnet.BufferBytes, os.ErrDeadlineExceeded)
		}
		n.Heal(ipA, ipB)
		wantRead(t, b, string(make([]byte, memnet.BufferBytes)))
	})
}

func TestCutOneWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		l, atB := listen(t, n.Host(ipB), ipB+":8")
		_, atA := listen(t, n.Host(ipA), ipA+":7")
		n.CutOneWay(ipA, ipB)
		write(t, b, "heard")
		wantRead(t, a, "heard")
		write(t, a, "unheard")
		wantSilence(t, b)
		send(t, atB, atA.LocalAddr(), "heard")
		wantPacket(t, atA, "heard")
		send(t, atA, atB.LocalAddr(), "unheard")
		wantNoPacket(t, atB)
		wantDialError(t, n.Host(ipA), l.Addr().String(), time.Minute, context.DeadlineExceeded)
		wantDialError(t, n.Host(ipB), ipA+":7", time.Minute, context.DeadlineExceeded)
	})
}

func TestCutSparesOthers(t *testing.T) {
	n, a, b := pair(t)
	n.Cut(ipA, ipC)
	n.Cut(ipB, ipC)
	write(t, a, "still here")
	wantRead(t, b, "still here")
}

func TestDialThroughACutWaitsForHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		l, _ := listen(t, n.Host(ipB), ipB+":8")
		n.Cut(ipA, ipB)
		started := time.Now()
		time.AfterFunc(time.Hour, func() { n.Heal(ipA, ipB) })
		connect(t, n.Host(ipA), l)
		if took := time.Since(started); took != time.Hour {
			t.Errorf("Dial through a cut of 1h took %v", took)
		}
	})
}

func TestResetBreaksBothEndsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		l, _ := listen(t, n.Host(ipC), "["+ipC+"]:8")
		spared, far := connect(t, n.Host(ipA), l)
		got := make(chan error)
		go func() {
			_, err := a.Read(make([]byte, 1))
			got <- err
		}()
		synctest.Wait()
		n.Reset(ipB, ipA)
		if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Read during Reset = %v, want %v", err, syscall.ECONNRESET)
		}
		wantReadError(t, b, syscall.ECONNRESET)
		wantWriteError(t, a, syscall.ECONNRESET)
		wantWriteError(t, b, syscall.ECONNRESET)
		write(t, spared, "fine")
		wantRead(t, far, "fine")
		l2, _ := listen(t, n.Host(ipB), ipB+":9")
		connect(t, n.Host(ipA), l2)
	})
}

func TestResetLeavesWhatHasArrived(t *testing.T) {
	n, a, b := pair(t)
	write(t, a, "arrived")
	n.Reset(ipA, ipB)
	wantRead(t, b, "arrived")
	wantReadError(t, b, syscall.ECONNRESET)
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const delay = 40 * time.Millisecond
		n := memnet.New()
		n.SetDelay(delay)
		l, atB := listen(t, n.Host(ipB), ipB+":8")
		_, atA := listen(t, n.Host(ipA), ipA+":7")
		started := time.Now()
		lap := func(what string, want time.Duration) {
			t.Helper()
			if took := time.Since(started); took != want {
				t.Errorf("%s took %v, want %v", what, took, want)
			}
			started = time.Now()
		}
		wantDialError(t, n.Host(ipA), ipB+":99", time.Minute, syscall.ECONNREFUSED)
		lap("refused dial", 2*delay)
		a, b := connect(t, n.Host(ipA), l)
		lap("dial", 2*delay)
		for i := range 100 {
			write(t, a, strconv.Itoa(i)+" ")
			n.SetDelay(delay - time.Duration(i)) // order is kept
		}
		lap("100 writes", 0)
		for i := range 100 {
			wantRead(t, b, strconv.Itoa(i)+" ")
		}
		lap("stream", delay)
		n.SetDelay(delay)
		send(t, atA, atB.LocalAddr(), "x")
		wantPacket(t, atB, "x")
		lap("packet", delay)
		send(t, atA, atA.LocalAddr(), "x")
		wantPacket(t, atA, "x")
		lap("packet to oneself", 0)
		n.SetDelay(0)
		write(t, a, "x")
		wantRead(t, b, "x")
		lap("stream without delay", 0)
	})
}

func TestLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// arrivals returns which of 1000 packets arrive.
		arrivals := func(fraction float64, seed uint64) (got []byte) {
			n := memnet.New()
			n.SetLoss(fraction, seed)
			_, a := listen(t, n.Host(ipA), ipA+":7")
			_, b := listen(t, n.Host(ipB), ipB+":8")
			for i := range 1000 {
				send(t, a, b.LocalAddr(), string([]byte{byte(i)}))
			}
			b.SetReadDeadline(time.Now().Add(time.Second))
			for one := make([]byte, 1); ; {
				if _, _, err := b.ReadFrom(one); err != nil {
					return got
				}
				got = append(got, one[0])
			}
		}
		if got := arrivals(0.2, 1); len(got) < 700 || len(got) > 900 {
			t.Errorf("with a loss of 0.2, %d of 1000 arrive", len(got))
		}
		first, equal, other := arrivals(0.2, 1), arrivals(0.2, 1), arrivals(0.2, 2)
		if !bytes.Equal(first, equal) {
			t.Errorf("equal seeds lose different packets")
		}
		if bytes.Equal(first, other) {
			t.Errorf("different seeds lose the same packets")
		}
		if got := len(arrivals(1, 1)); got != 0 {
			t.Errorf("with a loss of 1, %d of 1000 arrive", got)
		}
	})
}

func TestKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		killed, other := n.Host(ipB), n.Host(ipB).Another()
		l, p := listen(t, killed, ipB+":8")
		l2, _ := listen(t, other, ipB+":9")
		a, b := connect(t, n.Host(ipA), l)
		a2, b2 := connect(t, n.Host(ipA), l2)
		accept := make(chan error)
		go func() {
			_, err := l.Accept()
			accept <- err
		}()
		synctest.Wait()

		killed.Kill()
		wantReadError(t, a, syscall.ECONNRESET)
		wantWriteError(t, a, syscall.ECONNRESET)
		wantReadError(t, b, net.ErrClosed)
		if err := <-accept; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept of a killed process = %v, want %v", err, net.ErrClosed)
		}
		if _, _, err := p.ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("ReadFrom of a killed process = %v, want %v", err, net.ErrClosed)
		}
		wantDialError(t, n.Host(ipA), ipB+":8", time.Minute, syscall.ECONNREFUSED)
		wantDialError(t, killed, ipB+":9", time.Minute, net.ErrClosed)
		if _, _, err := killed.Listen(t.Context(), ipB+":0"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Listen of a killed process = %v, want %v", err, net.ErrClosed)
		}
		write(t, a2, "another process lives")
		wantRead(t, b2, "another process lives")

		again := n.Host(ipB)
		if again == killed {
			t.Fatal("Host after Kill returns the killed process")
		}
		l, _ = listen(t, again, ipB+":8")
		connect(t, n.Host(ipA), l)
	})
}

func TestKillBehindACutIsFeltWhenItHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, _ := pair(t)
		n.Cut(ipA, ipB)
		n.Host(ipB).Kill()
		wantSilence(t, a)
		write(t, a, "to nobody")
		n.Heal(ipA, ipB)
		wantReadError(t, a, syscall.ECONNRESET)
	})
}

func TestKillDeliversWhatWasClosedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.SetDelay(time.Second)
		write(t, b, "bye")
		b.Close()
		n.Host(ipB).Kill()
		if got, err := io.ReadAll(a); string(got) != "bye" || err != nil {
			t.Errorf("ReadAll = %q, %v; want %q", got, err, "bye")
		}
	})
}

func TestVanishIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		_, atA := listen(t, n.Host(ipA), ipA+":7")
		h := n.Host(ipB)
		l, atB := listen(t, h, ipB+":8")
		h.Vanish()
		write(t, a, "hello?")
		write(t, b, "hello?")
		wantSilence(t, a)
		wantSilence(t, b)
		send(t, atA, atB.LocalAddr(), "hello?")
		send(t, atB, atA.LocalAddr(), "hello?")
		wantNoPacket(t, atB)
		wantNoPacket(t, atA)
		wantDialError(t, n.Host(ipA), ipB+":8", time.Minute, context.DeadlineExceeded)
		wantDialError(t, h, ipA+":7", time.Minute, context.DeadlineExceeded)
		n.HealAll()
		wantSilence(t, a)

		dialled := make(chan error)
		go func() {
			_, err := n.Host(ipA).Dial(t.Context(), ipB+":8")
			dialled <- err
		}()
		synctest.Wait()
		n.Host(ipB) // booted again, and nobody listens yet
		wantReadError(t, a, syscall.ECONNRESET)
		wantReadError(t, b, net.ErrClosed)
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept from before the power loss = %v, want %v", err, net.ErrClosed)
		}
		if err := <-dialled; !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Dial after the boot = %v, want %v", err, syscall.ECONNREFUSED)
		}
		l, _ = listen(t, n.Host(ipB), ipB+":8")
		connect(t, n.Host(ipA), l)
	})
}

// Every host sends one a packet, and has a conversation with it.
func TestThousandHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hosts = 1000
		n := memnet.New()
		n.SetDelay(time.Millisecond)
		l, hub := listen(t, n.Host(ipA), ipA+":7")
		var servers sync.WaitGroup
		servers.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				servers.Go(func() {
					defer c.Close()
					io.Copy(c, c)
				})
			}
		})
		done := make(chan error, hosts)
		for i := range hosts {
			ip := net.IPv4(10, 1, byte(i>>8), byte(i)).String()
			_, p := listen(t, n.Host(ip), ip+":7")
			go func() {
				p.WriteTo([]byte("x"), hub.LocalAddr())
				c, err := n.Host(ip).Dial(t.Context(), ipA+":7")
				if err == nil {
					defer c.Close()
					_, err = c.Write([]byte(ip))
				}
				if err == nil {
					_, err = io.ReadFull(c, make([]byte, len(ip)))
				}
				done <- err
			}()
		}
		for range hosts {
			if err := <-done; err != nil {
				t.Error(err)
			}
			wantPacket(t, hub, "x")
		}
		l.Close()
		servers.Wait()
	})
}

func BenchmarkPacket(b *testing.B) {
	n := memnet.New()
	_, from, err := n.Host(ipA).Listen(b.Context(), ipA+":7")
	if err != nil {
		b.Fatal(err)
	}
	_, to, err := n.Host(ipB).Listen(b.Context(), ipB+":8")
	if err != nil {
		b.Fatal(err)
	}
	packet, addr := make([]byte, 200), to.LocalAddr()
	b.ReportAllocs()
	for b.Loop() {
		from.WriteTo(packet, addr)
		to.ReadFrom(packet)
	}
}

func BenchmarkStream(b *testing.B) {
	n := memnet.New()
	l, _, err := n.Host(ipB).Listen(b.Context(), ipB+":8")
	if err != nil {
		b.Fatal(err)
	}
	c, err := n.Host(ipA).Dial(b.Context(), ipB+":8")
	if err != nil {
		b.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	go io.Copy(io.Discard, accepted)
	chunk := make([]byte, 32<<10)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		c.Write(chunk)
	}
	c.Close()
}
