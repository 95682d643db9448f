package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	writeTimeout   = 10 * time.Second // for writeBytes to be taken
	writeBytes     = 256 << 10        // in one system call
	bulkBatch      = 64 << 10         // of bulk between two looks at control
	goodbyeTimeout = time.Second
	keepBytes      = 64 << 10 // buffers above this are given back when they are not needed
	maxKeepBytes   = 1 << 20  // and above this at once
)

// write is the link's writer: it takes all control frames that are pending and
// up to bulkBatch of bulk, writes them at once, and begins again. It ends when
// the link is down.
func (l *Link) write() {
	for {
		batch, ping, ok := l.next()
		if ping != nil {
			ping.load = l.hub.load()
			batch = appendPing(batch, ping)
		}
		if !ok {
			l.goodbye(batch)
			return
		}
		if err := l.put(batch); err != nil {
			l.fail(err)
			return
		}
		l.mu.Lock()
		l.bytesOut += uint64(len(batch))
		l.writing = 0
		l.wrote, l.last = l.hub.now(), len(batch)
		if cap(batch) <= maxKeepBytes && l.err == nil {
			l.spare = batch[:0]
		}
		l.mu.Unlock()
	}
}

// next waits for something to write, and takes it. ok is false when the link
// is down and this is all that is to be written.
func (l *Link) next() (batch []byte, p *ping, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = true
	for l.inline || !l.pending() {
		l.work.Wait()
	}
	l.waiting = false
	batch = l.takeControl()
	if l.err != nil {
		if l.closing != nil {
			batch = append(batch, l.bulk[l.bulkAt:]...)
			batch = appendClose(batch, l.closing)
		}
		return batch, nil, false
	}
	batch = l.takeBulk(batch)
	l.peak, l.writing = max(l.peak, len(batch)), len(batch)
	if l.pingDue {
		p = l.nextPing()
	}
	return batch, p, true
}

// pending says that there is something for the writer to do. It needs mu.
func (l *Link) pending() bool {
	return l.err != nil || len(l.control) > 0 || l.ackDue || len(l.bulk) > 0 || l.pingDue
}

// takeControl takes the control frames that are pending, and the acks. It needs mu.
func (l *Link) takeControl() []byte {
	if len(l.acks) > 0 {
		l.control = appendKeys(l.control, typeAck, l.acks)
		l.acks, l.ackDue, l.weight = reuse(l.acks), false, 0
		l.framesOut++
	}
	batch := l.control
	l.control, l.spare = l.spare, nil
	return batch
}

// takeBulk moves whole frames from bulk to the end of batch: at most bulkBatch,
// or one that is longer. Output must be taken together with the control that
// was pending then, so that a Started stays ahead of it. It needs mu.
func (l *Link) takeBulk(batch []byte) []byte {
	if len(l.bulk) == 0 {
		return batch
	}
	from := l.bulkAt
	for l.bulkAt < len(l.bulk) {
		n := headerBytes + int(binary.BigEndian.Uint32(l.bulk[l.bulkAt:]))
		if l.bulkAt > from && l.bulkAt+n-from > bulkBatch {
			break
		}
		l.bulkAt += n
	}
	batch = append(batch, l.bulk[from:l.bulkAt]...)
	switch {
	case l.bulkAt == len(l.bulk):
		l.bulk, l.bulkAt = l.bulk[:0], 0
		clear(l.chatty)
		if cap(l.bulk) > maxKeepBytes {
			l.bulk = nil
		}
	case l.bulkAt >= maxBulkBytes/2:
		l.bulk, l.bulkAt = l.bulk[:copy(l.bulk, l.bulk[l.bulkAt:])], 0
	}
	l.room.Broadcast()
	return batch
}

// nextPing makes the ping that is due, and gives back buffers that a burst made
// and that were not needed since the last one. It needs mu.
func (l *Link) nextPing() *ping {
	l.pingDue = false
	now := l.hub.now()
	p := &ping{stamp: uint64(now), echo: l.echo, want: !l.echoed}
	if l.echo != 0 {
		p.hold = uint64(now - l.echoAt)
		l.echo = 0
	}
	if l.peak < keepBytes {
		if cap(l.control) > keepBytes && len(l.control) == 0 {
			l.control = nil
		}
		if cap(l.bulk) > keepBytes && len(l.bulk) == 0 {
			l.bulk = nil
		}
	}
	l.peak = 0
	return p
}

// put writes b in pieces, each with a time limit of its own, so that a slow
// network is no reason to give up and one that stands still is.
func (l *Link) put(b []byte) error {
	for len(b) > 0 {
		l.mu.Lock()
		l.writes++
		if l.closing == nil {
			l.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		}
		l.mu.Unlock()
		n, err := l.conn.Write(b[:min(len(b), writeBytes)])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("%w: nothing taken in %v", ErrSlowPeer, writeTimeout)
		}
		if err != nil {
			return fmt.Errorf("link to node %q: %w", l.peer.Name, err)
		}
		b = b[n:]
	}
	return nil
}

// goodbye writes the last batch of a link that Close closed, and tells the
// other side that it was the last; the reader ends when the other side hangs
// up. Of a link that failed there is nothing to say.
func (l *Link) goodbye(batch []byte) {
	if len(batch) == 0 || l.put(batch) != nil {
		l.conn.Close()
		return
	}
	if c, ok := l.conn.(interface{ CloseWrite() error }); !ok || c.CloseWrite() != nil {
		l.conn.Close()
	}
}
