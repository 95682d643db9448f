package bus

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// Limits of events.
const (
	MaxDataBytes = 1 << 20 // of the data of an event or a reply
	// InlineBytes is the largest event, with its name, that travels inside gossip.
	// Larger ones to all are fetched from their sender.
	InlineBytes = 512
)

// ErrTooLarge is returned for data above MaxDataBytes.
var ErrTooLarge = errors.New("too much data for an event")

// Event is one that came over the bus, or the word that some did not.
type Event struct {
	Name    string
	From    string // id of the node that sent it
	Lamport uint64 // larger than that of every event that its sender had sent or seen before
	Data    Data
	Request bool // the sender waits for a reply

	// Missed is how many events of the sender to all were not to be had any more when this
	// node asked for them. Such an Event is nothing else.
	Missed uint64
}

// Peer is another node, or this one.
type Peer struct {
	ID, Name string
	Boot     string        // changes with each start
	Known    time.Duration // how long this node has known this start of it
}

// item is an event as its sender keeps it: what is sent of it, and what is not.
type item struct {
	seq, lamport uint64 // of events to one node, seq is 0
	at           time.Time
	name         string
	data         Data
}

// The bytes of an event, everywhere. A uvarint is that of encoding/binary.
//
//	size     field
//	uvarint  age: ms since it was sent
//	uvarint  seq: number among the sender's events to all, from 1; 0 of others
//	uvarint  lamport
//	1+n      name, its length first
//	1        how the data is written: 0 there is none, 1 JSON, 2 msgpack
//	uvarint+n data, its length first
func (it *item) append(b []byte, now time.Time) []byte {
	return append(it.appendHead(b, now), it.data.bytes...)
}

// appendHead appends all but the data's bytes.
func (it *item) appendHead(b []byte, now time.Time) []byte {
	b = binary.AppendUvarint(b, uint64(max(0, now.Sub(it.at).Milliseconds())))
	b = binary.AppendUvarint(b, it.seq)
	b = binary.AppendUvarint(b, it.lamport)
	b = append(b, byte(len(it.name)))
	b = append(b, it.name...)
	b = append(b, byte(it.data.encoding))
	return binary.AppendUvarint(b, uint64(it.data.Len()))
}

// size is at most how many bytes append adds.
func (it *item) size() int { return 24 + len(it.name) + len(it.data.bytes) }

func (d Data) append(b []byte) []byte {
	b = append(b, byte(d.encoding))
	b = binary.AppendUvarint(b, uint64(len(d.bytes)))
	return append(b, d.bytes...)
}

var errForm = errors.New("not what the bus sends")

// reader reads what other nodes sent. After the first mistake it returns zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) fail() { r.bad, r.b = true, nil }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) text() string { return string(r.take(uint64(r.byte()))) }

// data shares what is read.
func (r *reader) data() Data {
	e := Encoding(r.byte())
	b := r.take(r.uvarint())
	if e > Msgpack || len(b) > MaxDataBytes || e == None && len(b) > 0 || e == JSON && !json.Valid(b) {
		r.fail()
	}
	if r.bad || e == None {
		return Data{}
	}
	return Data{e, b}
}

// age reads milliseconds.
func (r *reader) age() time.Duration {
	return time.Duration(min(r.uvarint(), math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
}

// item reads an event, which was sent so long ago.
func (r *reader) item() (it item, age time.Duration) {
	age = r.age()
	it.seq, it.lamport, it.name = r.uvarint(), r.uvarint(), r.text()
	it.data = r.data()
	if !r.bad && CheckName(it.name) != nil {
		r.fail()
	}
	return it, age
}

// end returns errForm unless all was read without a mistake.
func (r *reader) end() error {
	if r.bad || len(r.b) > 0 {
		return errForm
	}
	return nil
}

// check says what keeps an event from being sent.
func checkEvent(name string, d Data) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if d.Len() > MaxDataBytes {
		return fmt.Errorf("%w: %d bytes, at most %d; send a file with a task, or a name under which it can be fetched", ErrTooLarge, d.Len(), MaxDataBytes)
	}
	return nil
}
