package wire

import (
	"encoding/binary"
	"time"

	"github.com/scagent/scagent/tasks"
)

// How a connection starts, and the bounds on what it carries.
const (
	// Magic is the first byte that a dialer sends; agent/port sorts by it.
	Magic = 0x5C
	// Preamble is what a dialer sends before its hello.
	Preamble = "\x5cSCL"

	// MaxFrameBytes is the longest body of a frame.
	MaxFrameBytes = 1 << 20
	// MaxHelloBytes is the longest body of a frame of the handshake.
	MaxHelloBytes = 4 << 10
	// MaxListKeys is the longest list that Recall, GivenBack, Reattach and
	// State carry.
	MaxListKeys = 1 << 20
	// MaxTextBytes is the longest text of a reject or a close; the sender cuts
	// what is longer.
	MaxTextBytes = 2 << 10
)

const (
	headerBytes = 5
	keyBytes    = 20
	stateBytes  = keyBytes + 1 + 8
	heldBytes   = keyBytes + 16
	offerBytes  = 55 // before the spec
	pingBytes   = 37
	resultBytes = 64       // or less: of one without text, value and files
	listItems   = 16 << 10 // of a list, in one frame
	outputBytes = 32 << 10 // output in one frame
)

// frameType is the fifth byte of a frame. The numbers are written out,
// appended, and never reused.
type frameType uint8

const (
	typeHello frameType = 1
	typeClose frameType = 2
	typePing  frameType = 3

	// From a master.
	typeOffer    frameType = 16
	typeGrant    frameType = 17
	typeWindow   frameType = 18
	typeAck      frameType = 19
	typeRecall   frameType = 20
	typeCancel   frameType = 21
	typeReattach frameType = 22

	// From a worker.
	typeAccept    frameType = 32
	typeReject    frameType = 33
	typeStarted   frameType = 34
	typeOutput    frameType = 35
	typeResult    frameType = 36
	typeGivenBack frameType = 37
	typeState     frameType = 38
)

// Key names an attempt: the task, and the number of the attempt from 1.
type Key struct {
	Task tasks.ID
	N    uint32
}

// Offer is a task that a master would have a worker run.
type Offer struct {
	Key
	Run        tasks.ID
	Index      uint32        // place in the run, from 0
	Slots      uint32        // how many the task takes
	Priority   int16         // larger first
	Timeout    time.Duration // bounds the attempt's run; 0 is no bound
	AtMostOnce bool          // wait for a grant before starting
	Durable    bool          // the task is on the master's disk: keep the outcome on yours
	Spec       []byte        // see AppendTask; the same bytes in all offers of a run
}

// Load is how busy a node is, as a worker.
type Load struct {
	Slots, Busy, Queued uint32
	Draining            bool
}

// AttemptPhase is how far an attempt has come at its worker.
type AttemptPhase uint8

// The phases. They travel: append only.
const (
	Unknown       AttemptPhase = 0 // the worker knows nothing of it
	Queued        AttemptPhase = 1
	AwaitingGrant AttemptPhase = 2
	Running       AttemptPhase = 3
	Finished      AttemptPhase = 4 // its result follows, or waits for an ack
)

// String names the phase.
func (p AttemptPhase) String() string {
	switch p {
	case Queued:
		return "queued"
	case AwaitingGrant:
		return "awaiting grant"
	case Running:
		return "running"
	case Finished:
		return "finished"
	}
	return "unknown"
}

// Held is what a master has of an attempt that it believes to be at the worker.
type Held struct {
	Key
	Received uint64 // bytes of output, of both streams, that have arrived
	Taken    uint64 // of them, those whose room in the window is free again
}

// Window is how many bytes of output of an attempt, of both streams together,
// may be on their way when no Window was sent for any of them.
const Window = 256 << 10

// AttemptState is one line of a worker's answer to Reattach.
type AttemptState struct {
	Key
	State AttemptPhase
	From  uint64 // offset from which on output follows, as in Held
}

// Stream is one of the two that a task writes to.
type Stream uint8

// The streams. They travel: append only.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// String names the stream.
func (s Stream) String() string {
	switch s {
	case Stdout:
		return "stdout"
	case Stderr:
		return "stderr"
	}
	return "unknown"
}

// FromMaster is what reaches a node as a worker. The calls come from the one
// goroutine that reads the link, in the order in which they were sent; they
// must not block. What their pointers and slices refer to is valid only during
// the call.
type FromMaster interface {
	Offer(l *Link, o *Offer)
	// Grant: an at-most-once attempt may start now.
	Grant(l *Link, k Key)
	// Window: n more bytes of output, of both streams together, may be sent.
	Window(l *Link, k Key, n uint32)
	// Ack: the results are recorded, the worker may forget them.
	Ack(l *Link, ks []Key)
	// Recall: the master would have these back, if they have not started.
	Recall(l *Link, ks []Key)
	Cancel(l *Link, k Key, r tasks.StopReason)
	// Reattach: all that the master believes to be at this worker.
	Reattach(l *Link, hs []Held)
}

// FromWorker is what reaches a node as a master; the rules are those of
// FromMaster. Of an outcome, Value and the inline content of Outputs are valid
// only during the call; its strings may be kept.
type FromWorker interface {
	// Accept: an at-most-once attempt has slots (queued false); or in answer to a
	// Reattach, or to an offer of what is there already, how it waits.
	Accept(l *Link, k Key, queued bool)
	// Reject: not here. It does not count as an attempt.
	Reject(l *Link, k Key, c tasks.Code, text string)
	Started(l *Link, k Key)
	Output(l *Link, k Key, s Stream, b []byte)
	Result(l *Link, k Key, o *tasks.Outcome)
	// GivenBack: of those recalled, the ones that will not start.
	GivenBack(l *Link, ks []Key)
	// State: the answer to Reattach, with a line for each key.
	State(l *Link, ss []AttemptState)
}

// begin appends the header of a frame whose length end fills in.
func begin(b []byte, t frameType) ([]byte, int) {
	return append(b, 0, 0, 0, 0, byte(t)), len(b) + headerBytes
}

// end sets the length of the frame whose body starts at body.
func end(b []byte, body int) []byte {
	binary.BigEndian.PutUint32(b[body-headerBytes:], uint32(len(b)-body))
	return b
}

func appendKey(b []byte, k Key) []byte {
	return binary.BigEndian.AppendUint32(append(b, k.Task[:]...), k.N)
}

// appendKeyFrame appends a frame that says no more than a key.
func appendKeyFrame(b []byte, t frameType, k Key) []byte {
	b, at := begin(b, t)
	return end(appendKey(b, k), at)
}

// appendKeyByte appends a frame that says a key and a byte.
func appendKeyByte(b []byte, t frameType, k Key, v byte) []byte {
	b, at := begin(b, t)
	return end(append(appendKey(b, k), v), at)
}

func appendOffer(b []byte, o *Offer) []byte {
	b, at := begin(b, typeOffer)
	b = appendKey(b, o.Key)
	b = append(b, o.Run[:]...)
	b = binary.BigEndian.AppendUint32(b, o.Index)
	b = binary.BigEndian.AppendUint32(b, o.Slots)
	b = binary.BigEndian.AppendUint16(b, uint16(o.Priority))
	b = append(b, boolByte(o.AtMostOnce)|boolByte(o.Durable)<<1)
	b = binary.BigEndian.AppendUint64(b, uint64(max(o.Timeout, 0)))
	return end(append(b, o.Spec...), at)
}

func decodeOffer(b []byte, o *Offer) bool {
	d := decoder{b: b}
	o.Key = d.key()
	o.Run = d.id()
	o.Index = d.u32()
	o.Slots = d.u32()
	o.Priority = int16(d.u16())
	f := d.u8()
	o.AtMostOnce, o.Durable = f&1 != 0, f&2 != 0
	o.Timeout = time.Duration(d.u64())
	o.Spec = d.b
	return !d.bad && f <= 3 && o.Timeout >= 0
}

func appendWindow(b []byte, k Key, n uint32) []byte {
	b, at := begin(b, typeWindow)
	return end(binary.BigEndian.AppendUint32(appendKey(b, k), n), at)
}

func appendReject(b []byte, k Key, c tasks.Code, text string) []byte {
	b, at := begin(b, typeReject)
	b = append(appendKey(b, k), byte(c))
	return end(append(b, cut(text)...), at)
}

func appendOutput(b []byte, k Key, s Stream, out []byte) []byte {
	b, at := begin(b, typeOutput)
	b = append(appendKey(b, k), byte(s))
	return end(append(b, out...), at)
}

// appendList appends as many frames as the list needs, at least one; all but
// the last say that more follows.
func appendList[T any](b []byte, t frameType, list []T, one func([]byte, T) []byte) []byte {
	for {
		part := list[:min(len(list), listItems)]
		list = list[len(part):]
		var at int
		b, at = begin(b, t)
		b = append(b, boolByte(len(list) > 0))
		for _, v := range part {
			b = one(b, v)
		}
		b = end(b, at)
		if len(list) == 0 {
			return b
		}
	}
}

func appendKeys(b []byte, t frameType, ks []Key) []byte { return appendList(b, t, ks, appendKey) }

func appendStates(b []byte, ss []AttemptState) []byte {
	return appendList(b, typeState, ss, func(b []byte, s AttemptState) []byte {
		return binary.BigEndian.AppendUint64(append(appendKey(b, s.Key), byte(s.State)), s.From)
	})
}

func appendHeld(b []byte, hs []Held) []byte {
	return appendList(b, typeReattach, hs, func(b []byte, h Held) []byte {
		b = binary.BigEndian.AppendUint64(appendKey(b, h.Key), h.Received)
		return binary.BigEndian.AppendUint64(b, h.Taken)
	})
}

// ping is the keep-alive. Both sides send it; what one stamped, the other
// echoes in its next, with how long it held it, which gives the round trip
// without a frame of its own.
type ping struct {
	stamp uint64 // nanoseconds by the sender's clock, not 0
	echo  uint64 // the peer's last stamp; 0: none since the last ping
	hold  uint64 // nanoseconds from the arrival of the stamp to its echo
	want  bool   // nothing was echoed to the sender yet: answer at once
	load  Load
}

func appendPing(b []byte, p *ping) []byte {
	b, at := begin(b, typePing)
	b = binary.BigEndian.AppendUint64(b, p.stamp)
	b = binary.BigEndian.AppendUint64(b, p.echo)
	b = binary.BigEndian.AppendUint64(b, p.hold)
	b = binary.BigEndian.AppendUint32(b, p.load.Slots)
	b = binary.BigEndian.AppendUint32(b, p.load.Busy)
	b = binary.BigEndian.AppendUint32(b, p.load.Queued)
	return end(append(b, boolByte(p.want)|boolByte(p.load.Draining)<<1), at)
}

func decodePing(b []byte, p *ping) bool {
	d := decoder{b: b}
	p.stamp, p.echo, p.hold = d.u64(), d.u64(), d.u64()
	p.load.Slots, p.load.Busy, p.load.Queued = d.u32(), d.u32(), d.u32()
	f := d.u8()
	p.want, p.load.Draining = f&1 != 0, f&2 != 0
	return d.done() && p.stamp != 0
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// cut shortens a text to what may travel.
func cut(s string) string { return s[:min(len(s), MaxTextBytes)] }
