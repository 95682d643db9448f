package fabric

import (
	"container/heap"
	"io"
	"sync"
	"time"
)

// Device is what a port is connected to: a read gives one frame, and a write sends
// one. Close ends both.
type Device interface{ io.ReadWriteCloser }

const (
	maxFrameBytes = 64 << 10
	// maxQueuedBytes is how much may be on its way to one port; more is dropped, and counted.
	maxQueuedBytes = 64 << 20
	// maxAddresses is how many hardware addresses are learned; what is for others goes
	// to all ports.
	maxAddresses = 4096
)

type address [6]byte

// Switch passes frames between ports. It must be closed.
type Switch struct {
	seed uint64
	wg   sync.WaitGroup // a reader and a deliverer for each port

	mu    sync.RWMutex // guards the fields below; not held over I/O
	ports map[string]*port
	where map[address]*port
}

// port is one device.
type port struct {
	name string // constant
	dev  Device
	ways map[*port]*line // to the others; guarded by Switch.mu

	// mu guards the fields below: what is on its way to this port.
	mu     sync.Mutex
	late   queue
	bytes  int
	serial uint64
	wake   chan struct{} // holds one when the first of late has changed
	done   chan struct{} // closed by Close
}

// New returns a switch without ports.
func New(seed uint64) *Switch {
	return &Switch{seed: seed, ports: map[string]*port{}, where: map[address]*port{}}
}

// Add adds a port. The switch closes its device.
func (s *Switch) Add(name string, dev Device) {
	p := &port{name: name, dev: dev, ways: map[*port]*line{}, wake: make(chan struct{}, 1), done: make(chan struct{})}
	s.mu.Lock()
	for _, other := range s.ports {
		other.ways[p] = newLine(s.seed, other.name, name)
		p.ways[other] = newLine(s.seed, name, other.name)
	}
	s.ports[name] = p
	s.mu.Unlock()
	s.wg.Go(func() { s.read(p) })
	s.wg.Go(p.deliver)
}

// Set replaces the policy for packets from one port to another. Both must have
// been added.
func (s *Switch) Set(from, to string, p Policy) {
	l := s.line(from, to)
	if p == (Policy{}) && l.idle(time.Now()) {
		l.policy.Store(nil)
		return
	}
	l.policy.Store(&p)
}

// Policy returns what Set has set.
func (s *Switch) Policy(from, to string) Policy {
	if p := s.line(from, to).policy.Load(); p != nil {
		return *p
	}
	return Policy{}
}

// Stats returns what happened to packets from one port to another.
func (s *Switch) Stats(from, to string) Stats { return s.line(from, to).counted() }

func (s *Switch) line(from, to string) *line {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.ports[from].ways[s.ports[to]]
}

// Close closes the devices. Nothing is delivered afterwards.
func (s *Switch) Close() {
	s.mu.Lock()
	for name, p := range s.ports {
		close(p.done)
		p.dev.Close()
		delete(s.ports, name)
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// hop is where a frame goes.
type hop struct {
	to  *port
	way *line
}

// read passes on what a port sends, until its device is closed.
func (s *Switch) read(p *port) {
	buf := make([]byte, maxFrameBytes)
	var hops []hop
	for {
		n, err := p.dev.Read(buf)
		if err != nil {
			return
		}
		if n < headerBytes {
			continue
		}
		hops = s.route(p, buf[:n], hops[:0])
		for _, h := range hops {
			h.pass(buf[:n])
		}
	}
}

// route learns where the sender of a frame is, and appends where the frame goes.
func (s *Switch) route(from *port, frame []byte, hops []hop) []hop {
	dst, src := address(frame[:6]), address(frame[6:12])
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.where[src] != from && src[0]&1 == 0 {
		s.mu.RUnlock()
		s.mu.Lock()
		if _, known := s.where[src]; known || len(s.where) < maxAddresses {
			s.where[src] = from
		}
		s.mu.Unlock()
		s.mu.RLock()
	}
	if to := s.where[dst]; to == from {
		return hops
	} else if to != nil {
		return append(hops, hop{to, from.ways[to]})
	}
	for to, way := range from.ways {
		hops = append(hops, hop{to, way})
	}
	return hops
}

// pass passes a frame, which it does not keep.
func (h hop) pass(frame []byte) {
	policy := h.way.policy.Load()
	if policy == nil {
		h.way.passed.Add(1)
		h.to.dev.Write(frame) // an error: it is full, or closed; a lost packet
		return
	}
	now := time.Now()
	for _, d := range h.way.pass(policy, frame, now) {
		if !d.at.After(now) {
			h.to.dev.Write(d.frame)
		} else if !h.to.later(delivery{append([]byte(nil), d.frame...), d.at}) {
			h.way.mu.Lock()
			h.way.stats.Overflowed++
			h.way.mu.Unlock()
		}
	}
}

// later keeps a frame until its time, unless too much is kept already.
func (p *port) later(d delivery) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes+len(d.frame) > maxQueuedBytes {
		return false
	}
	p.bytes += len(d.frame)
	p.serial++
	heap.Push(&p.late, late{d, p.serial})
	if p.late[0].serial == p.serial {
		select {
		case p.wake <- struct{}{}:
		default: // it is awake
		}
	}
	return true
}

// deliver delivers what is late, until the port is closed.
func (p *port) deliver() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due, wait := p.due(time.Now())
		for _, frame := range due {
			p.dev.Write(frame)
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-p.wake:
		case <-p.done:
			return
		}
	}
}

// due takes what is to be delivered by now, and returns how long it is until
// there is more.
func (p *port) due(now time.Time) (frames [][]byte, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.late) > 0 {
		if wait := p.late[0].at.Sub(now); wait > 0 {
			return frames, wait
		}
		d := heap.Pop(&p.late).(late)
		p.bytes -= len(d.frame)
		frames = append(frames, d.frame)
	}
	return frames, time.Hour
}

// late is a frame on its way.
type late struct {
	delivery
	serial uint64 // keeps those of one time in order
}

// queue is a heap of frames, the next one first.
type queue []late

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].at.Equal(q[j].at) {
		return q[i].serial < q[j].serial
	}
	return q[i].at.Before(q[j].at)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(late)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = late{}
	*q = old[:len(old)-1]
	return last
}
