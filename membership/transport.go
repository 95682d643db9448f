package membership

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/scagent/scagent/membership/seal"
)

// transport is memberlist's way to the network, with the guard in between.
type transport struct {
	listener  net.Listener
	packets   net.PacketConn
	dial      func(ctx context.Context, node, addr string) (net.Conn, error)
	sealer    *seal.Sealer // nil: packets are not sealed
	advertise netip.AddrPort
	timeout   time.Duration // of a whole stream
	guard     *guard
	counters  *counters

	packetCh chan *memberlist.Packet // unbuffered: what waits, waits in the kernel
	streamCh chan net.Conn           // unbuffered
	streams  *streamLimiter
	refusals refusals

	packetsIn, packetsOut atomic.Uint64

	ctx    context.Context // ends with Shutdown
	cancel context.CancelFunc
	wg     sync.WaitGroup // the reader and the acceptor
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(c *Config, timeout time.Duration, g *guard, n *counters) *transport {
	t := &transport{
		listener: c.Listener, packets: c.Packets, dial: c.Dial, advertise: c.Advertise, timeout: timeout,
		guard: g, counters: n,
		packetCh: make(chan *memberlist.Packet), streamCh: make(chan net.Conn),
		streams: newStreamLimiter(),
	}
	if c.GossipKeys != nil {
		t.sealer = seal.New(c.ID, session(c.Boot), c.GossipKeys)
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// session returns the number of a start for the seal. Boots grow from start to
// start; the random bits at the end keep two processes apart that run with the
// same, by a copied state directory.
func session(boot string) uint64 {
	n, _ := strconv.ParseUint(boot, 36, 52) // was checked: below 36^10
	return n<<12 | rand.Uint64N(1<<12)
}

// unseal returns what the guard shall see of a packet; opened is room for it.
func (t *transport) unseal(b, opened []byte) ([]byte, error) {
	if t.sealer == nil {
		return b, nil
	}
	b, err := t.sealer.Open(opened, b, t.advertise)
	switch {
	case errors.Is(err, seal.ErrUnknownKey):
		return nil, refusal(reasonUnknownKey)
	case errors.Is(err, seal.ErrForged):
		return nil, refusal(reasonForged)
	case errors.Is(err, seal.ErrReplayed):
		return nil, refusal(reasonReplayed)
	case err != nil:
		return nil, refusal(reasonUnsealed)
	}
	return b, nil
}

// start begins to read.
func (t *transport) start() {
	t.wg.Go(t.readPackets)
	t.wg.Go(t.accept)
}

func (t *transport) readPackets() {
	limits := newLimiter()
	buf := make([]byte, maxPacketBytes+1) // one more shows that a packet is too long
	opened := make([]byte, 0, maxPacketBytes)
	for {
		n, from, err := t.packets.ReadFrom(buf)
		now := time.Now()
		if err != nil {
			if !t.pause(err) {
				return
			}
			continue
		}
		t.packetsIn.Add(1)
		source := sourceOf(from)
		// The seal first: anybody can send as from a member's address, and what is
		// not from the pool must use up nothing of what its members may send. To
		// find a seal wrong costs little more than to receive it.
		b, err := t.unseal(buf[:n], opened)
		if err == nil {
			err = limits.allow(source, now)
		}
		if err == nil {
			b, err = t.guard.packet(b, source)
		}
		if err != nil {
			t.refuse(err)
			continue
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: from, Timestamp: now}
		select {
		case t.packetCh <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *transport) accept() {
	for t.streams.wait(t.ctx) {
		c, err := t.listener.Accept()
		if err != nil {
			t.streams.release()
			if !t.pause(err) {
				return
			}
			continue
		}
		from := sourceOf(c.RemoteAddr()).Addr()
		if !t.streams.enter(from) {
			t.streams.release()
			t.counters.add(reasonStreams)
			c.Close()
			continue
		}
		s := newStream(c, t.guard, t.counters, false)
		s.started = sync.OnceFunc(func() { t.streams.started(from) })
		s.closed = func() {
			t.streams.forget(s)
			t.streams.leave(from)
		}
		s.limit(t.timeout)
		t.streams.track(s)
		select {
		case t.streamCh <- s:
		case <-t.ctx.Done():
			s.Close()
			return
		}
	}
}

// pause waits a little after an error of a socket, such as too many open files,
// and reports whether to go on.
func (t *transport) pause(err error) bool {
	if errors.Is(err, net.ErrClosed) && t.ctx.Err() != nil {
		return false
	}
	select {
	case <-t.ctx.Done():
		return false
	case <-time.After(50 * time.Millisecond):
		return true
	}
}

func (t *transport) refuse(err error) {
	var why refusal
	if errors.As(err, &why) {
		t.counters.add(reason(why))
	}
}

// FinalAdvertiseAddr is part of memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

// WriteTo is part of memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress sends a packet. Once the transport is shut down it drops it, as
// networks do.
func (t *transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr.Addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send a packet: %w", err)
	}
	t.guard.suspicions(b)
	t.packetsOut.Add(1)
	if t.sealer != nil {
		b = t.sealer.Seal(make([]byte, 0, len(b)+seal.Overhead), b, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
	}
	_, err = t.packets.WriteTo(b, net.UDPAddrFromAddrPort(to))
	if err != nil && t.ctx.Err() != nil {
		err = nil
	}
	return time.Now(), err
}

// PacketCh is part of memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packetCh }

// StreamCh is part of memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streamCh }

// DialTimeout is part of memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout opens a stream, which closes itself when the time for
// streams is over.
func (t *transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.ctx, min(timeout, t.timeout))
	defer cancel()
	node, _, _ := splitGossipName(addr.Name) // none when joining by address alone
	c, err := t.dial(ctx, node, addr.Addr)
	t.refusals.dialled(addr.Name, err)
	if err != nil {
		return nil, err
	}
	s := newStream(c, t.guard, t.counters, true)
	s.closed = func() { t.streams.forget(s) }
	s.limit(t.timeout - time.Since(began))
	if !t.streams.track(s) {
		s.Close()
		return nil, net.ErrClosed
	}
	return s, nil
}

// Shutdown closes the sockets and all streams, and waits for the goroutines.
func (t *transport) Shutdown() error {
	t.cancel()
	err := errors.Join(t.listener.Close(), t.packets.Close())
	t.streams.closeAll()
	t.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// sourceOf returns the address of a peer; an invalid one when it has none.
func sourceOf(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	default:
		if a == nil {
			return ap
		}
		ap, _ = netip.ParseAddrPort(a.String())
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
