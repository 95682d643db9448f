package membership

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	maxStreams          = 64 // of others, at once
	maxSourceStreams    = 32 // of them from one address, unless it is this host
	maxUnreadPerSource  = 8  // of them without a first message yet
	maxStreamBytes      = 24 << 20
	maxStreamNodes      = MaxMembers * 5 / 4 // some may have died lately
	maxStreamStateBytes = 1 << 20
	streamHeaderTimeout = 3 * time.Second
	streamBufferBytes   = 4096 // more than any message or node in a stream
)

// stream is a connection as memberlist gets it: what is read from it was checked
// message by message, before memberlist allocates anything for it. After the one
// message that a stream carries each way, reading ends.
//
// Reading belongs to the one goroutine of memberlist that handles the stream.
type stream struct {
	net.Conn
	guard    *guard
	counters *counters

	in     *bufio.Reader
	out    bytes.Buffer // checked, not read yet
	stage  stage
	dialed bool   // we opened it, so it carries an answer, without a label
	nodes  uint64 // of a push/pull, still to come
	state  uint64 // bytes of its user state, still to come
	total  uint64 // bytes let through

	expiry  *time.Timer // closes the connection, whatever happens
	until   time.Time   // when, once the first message is there
	started func()      // called once, at the first message or at the end
	closed  func()      // called once, at the end

	once sync.Once
}

type stage byte

const (
	stageLabel stage = iota
	stageFirst       // the message, or the header of a push/pull
	stageNodes
	stageState
	stageEnd
)

// newStream guards c. It is closed at the end of its lifetime, which begins with
// limit.
func newStream(c net.Conn, g *guard, n *counters, dialed bool) *stream {
	s := &stream{
		Conn: c, guard: g, counters: n, dialed: dialed, in: bufio.NewReaderSize(c, streamBufferBytes),
		started: func() {}, closed: func() {},
	}
	if dialed {
		s.stage = stageFirst
	}
	return s
}

// limit closes the stream after its lifetime, or earlier when another's first
// message does not come. It is called once, before anybody else knows the stream.
func (s *stream) limit(lifetime time.Duration) {
	s.until = time.Now().Add(lifetime)
	if !s.dialed {
		lifetime = min(lifetime, streamHeaderTimeout)
	}
	s.expiry = time.AfterFunc(lifetime, func() {
		s.counters.add(reasonStreamSlow)
		s.Conn.Close() // the reader notices and closes s
	})
}

func (s *stream) Close() error {
	var err error
	s.once.Do(func() {
		s.expiry.Stop()
		err = s.Conn.Close()
		s.started()
		s.closed()
	})
	return err
}

// Read hands out what was checked.
func (s *stream) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for s.out.Len() == 0 {
		if s.stage == stageEnd {
			return 0, io.EOF
		}
		if s.stage == stageState {
			return s.readState(b)
		}
		if err := s.advance(); err != nil {
			var why refusal
			if errors.As(err, &why) {
				s.counters.add(reason(why))
				s.Close()
			}
			s.stage = stageEnd
			return 0, err
		}
	}
	return s.out.Read(b)
}

// readState passes on the user state of a push/pull, whose length was checked.
func (s *stream) readState(b []byte) (int, error) {
	if uint64(len(b)) > s.state {
		b = b[:s.state]
	}
	n, err := s.in.Read(b)
	if s.state -= uint64(n); s.state == 0 {
		s.stage = stageEnd
	}
	return n, err
}

// advance checks the next piece and puts it into out.
func (s *stream) advance() error {
	switch s.stage {
	case stageLabel:
		b, err := s.in.Peek(len(s.guard.label))
		if !bytes.HasPrefix(s.guard.label, b) {
			return refusal(reasonLabel)
		}
		if err != nil {
			return err
		}
		s.stage = stageFirst
		return s.pass(len(b))
	case stageFirst:
		return s.first()
	default:
		return s.node()
	}
}

// first checks the first message. Which ones may come depends on who asked.
func (s *stream) first() error {
	b, err := s.in.Peek(1)
	if err != nil {
		return err
	}
	s.stage = stageEnd
	want := headerFields
	switch k := kind(b[0]); {
	case k == kindPushPull:
		s.stage = stageNodes
	case k == kindPing && !s.dialed:
		want = pingFields
	case k == kindAck && s.dialed:
		want = ackFields
	case k == kindErr && s.dialed:
		want = errFields
	default:
		// Above all user messages, which nobody here sends in streams, and
		// anything compressed or encrypted.
		return refusal(reasonType)
	}
	m, n, err := s.peek(1, want)
	if err != nil {
		return err
	}
	if m.nodes > maxStreamNodes || m.userStateLen > maxStreamStateBytes {
		return refusal(reasonStreamLimits)
	}
	s.nodes, s.state = m.nodes, m.userStateLen
	s.nextPart()
	if !s.dialed {
		s.expiry.Reset(time.Until(s.until))
		s.started()
	}
	return s.pass(n)
}

// nextPart moves on when all nodes, or all of the state, were read.
func (s *stream) nextPart() {
	if s.stage == stageNodes && s.nodes == 0 {
		s.stage = stageState
	}
	if s.stage == stageState && s.state == 0 {
		s.stage = stageEnd
	}
}

// node checks one node of a push/pull.
func (s *stream) node() error {
	m, n, err := s.peek(0, stateFields)
	if err != nil {
		return err
	}
	if m.state == stateAlive {
		if m.incarnation > maxAnnouncedIncarnation {
			// Made void, as obituaries are. Who was announced by another with the highest
			// number says more of itself from then on: each of its streams has this.
			clear(m.incarnationAt[1:])
			m.incarnationAt[len(m.incarnationAt)-1], m.incarnation = 1, 1
		}
		if err = s.guard.announcement(m.name, &m); err == nil {
			s.guard.heard(m.name, &m)
		}
	} else {
		err = s.guard.obituary(&m)
	}
	if err != nil {
		return err
	}
	s.nodes--
	s.nextPart()
	return s.pass(n)
}

// obituary checks what a push/pull says about a node that is not alive.
//
// An accusation that is out of bounds is made void, rather than refused with all
// the rest: one poisoned entry at one node must not keep it from the others. And
// as in packets, nobody says for others that they left.
func (g *guard) obituary(m *message) error {
	incarnation := m.incarnation
	m.incarnation = 0
	if err := g.announcement(m.name, m); err != nil {
		return err
	}
	if incarnation > maxAccusedIncarnation {
		clear(m.incarnationAt[1:])
	}
	if m.state == stateLeft {
		if len(m.stateAt) != 1 {
			return refusal(reasonStreamForm)
		}
		m.stateAt[0] = stateDead
	}
	return nil
}

// peek parses a message that begins skip bytes from here, waiting for as much of
// it as it takes. Slices in m are valid until the next read. n is its length,
// skip included.
func (s *stream) peek(skip int, want field) (m message, n int, err error) {
	have := max(skip+1, s.in.Buffered())
	for {
		b, readErr := s.in.Peek(min(have, streamBufferBytes))
		if len(b) > skip {
			var rest []byte
			m, rest, err = parse(b[skip:], want)
			if err == nil {
				return m, len(b) - len(rest), nil
			}
			if !errors.Is(err, errShort) || have >= streamBufferBytes {
				return m, 0, refusal(reasonStreamForm)
			}
		}
		if readErr != nil {
			return m, 0, readErr
		}
		have = max(len(b)+1, s.in.Buffered())
	}
}

// pass lets the next n bytes through.
func (s *stream) pass(n int) error {
	if s.total += uint64(n); s.total > maxStreamBytes {
		return refusal(reasonStreamLimits)
	}
	b, err := s.in.Peek(n)
	if err != nil {
		return err
	}
	s.out.Write(b)
	_, err = s.in.Discard(n)
	return err
}
