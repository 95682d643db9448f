package bus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Path is where Handler is served.
const Path = "/scagent/v1/bus/"

// An event for one node is the body of a POST to Path+"event". The answer says that the
// event has been delivered there, or has the reply, and in clockHeader the Lamport time
// of then.
//
//	size      field
//	1         version, now 1
//	1         1: a request, else 0
//	1+n       id of the sender, 1+n its boot, their lengths first
//	uvarint   number of the event among those of the sender to one node, from 1
//	uvarint   after: seq of the sender's last event to all; it is delivered first
//	uvarint   ms that a reply is waited for
//	...       the event, see event.go
type letter struct {
	request    bool
	from, boot string
	number     uint64
	after      uint64
	patience   time.Duration
	item       item
}

const letterVersion = 1

const clockHeader = "Scagent-Lamport"

// maxLetterBytes is more than any letter has.
const maxLetterBytes = MaxDataBytes + 1024

func (l *letter) encode(now time.Time) []byte {
	b := []byte{letterVersion, 0, byte(len(l.from))}
	if l.request {
		b[1] = 1
	}
	b = append(b, l.from...)
	b = append(b, byte(len(l.boot)))
	b = append(b, l.boot...)
	b = binary.AppendUvarint(b, l.number)
	b = binary.AppendUvarint(b, l.after)
	b = binary.AppendUvarint(b, uint64(l.patience.Milliseconds()))
	return l.item.append(b, now)
}

func decodeLetter(b []byte) (l letter, err error) {
	r := &reader{b: b}
	if r.byte() != letterVersion {
		r.fail()
	}
	flags := r.byte()
	l.from, l.boot, l.number, l.after, l.patience = r.text(), r.text(), r.uvarint(), r.uvarint(), r.age()
	l.item, _ = r.item()
	if l.request = flags == 1; flags > 1 || l.item.seq != 0 || l.number == 0 {
		r.fail()
	}
	return l, r.end()
}

// maxPosts is to how many nodes an event is sent at once; to the others after that.
const maxPosts = 256

// DefaultPatience is how long a node is waited for whose ctx has no deadline.
const DefaultPatience = 10 * time.Second

// Result is what became of an event for one node. Err says why it, or its reply, is
// not there.
type Result struct {
	Peer Peer
	Data Data // of a request
	Err  error
}

// SendTo sends an event to nodes, this one may be among them, and waits until each
// has it. Each gets it after all that this node sent before, at most once; when ctx
// ends, or a connection breaks, while a node is waited for, it may have it or not.
// Events to other nodes that are sent at the same time come in any order.
func (b *Bus) SendTo(ctx context.Context, to []Peer, name string, d Data) ([]Result, error) {
	results, err := b.post(ctx, to, name, d, false)
	if err != nil {
		return nil, err
	}
	all := make([]Result, 0, len(to))
	for r := range results {
		all = append(all, r)
	}
	return all, nil
}

// Request sends an event to nodes and returns what each replies, or why it does not,
// as that comes; the channel is closed when it is known of all, at the end of ctx at
// the latest. Else it is as SendTo.
func (b *Bus) Request(ctx context.Context, to []Peer, name string, d Data) (<-chan Result, error) {
	return b.post(ctx, to, name, d, true)
}

func (b *Bus) post(ctx context.Context, to []Peer, name string, d Data, request bool) (<-chan Result, error) {
	if err := checkEvent(name, d); err != nil {
		return nil, err
	}
	if err := b.pay(ctx, d, len(to)); err != nil {
		return nil, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(DefaultPatience)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() != nil {
		cancel()
		return nil, ErrClosed
	}
	b.lamport++
	b.direct++
	b.stats.SentDirect++
	now := time.Now()
	l := letter{request: request, from: b.cfg.Self.ID, boot: b.cfg.Self.Boot, number: b.direct, after: b.log.last,
		patience: time.Until(deadline), item: item{lamport: b.lamport, at: now, name: name, data: d}}
	body := l.encode(now)
	results := make(chan Result, len(to))
	turns := make(chan struct{}, len(to))
	if !request { // which waits for its answers
		turns = make(chan struct{}, maxPosts)
	}
	var posts sync.WaitGroup
	for _, p := range to {
		posts.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			r := Result{Peer: p}
			if p.ID == b.cfg.Self.ID {
				if r.Data, r.Err = b.receive(ctx, &l); r.Err != nil && ctx.Err() != nil {
					r.Err = tooLate(ctx, now, request)
				}
			} else {
				r.Data, r.Err = b.postOne(ctx, p, body, request)
			}
			results <- r
		})
	}
	stop := context.AfterFunc(b.ctx, cancel)
	b.wg.Go(func() {
		posts.Wait()
		stop()
		cancel()
		close(results)
	})
	return results, nil
}

// postOne sends a letter, and once more if the connection broke: the receiver knows
// it by its number.
func (b *Bus) postOne(ctx context.Context, p Peer, body []byte, request bool) (Data, error) {
	began := time.Now()
	present, cancel := b.cfg.While(ctx, p.ID)
	defer cancel()
	var err error
	for range 2 {
		var d Data
		if d, err = b.postOnce(present, p, body); err == nil || !errors.Is(err, errBroken) {
			return d, err
		}
	}
	switch {
	case b.ctx.Err() != nil:
		err = ErrClosed
	case ctx.Err() != nil:
		err = tooLate(ctx, began, request)
	case present.Err() != nil:
		err = ErrGone
	}
	return Data{}, err
}

// tooLate is why ctx ended.
func tooLate(ctx context.Context, began time.Time, request bool) error {
	what := "word from it"
	if request {
		what = "reply"
	}
	return &lateError{fmt.Sprintf("no %s within %v", what, time.Since(began).Round(time.Millisecond)), context.Cause(ctx)}
}

// lateError is that of a wait that ended, with why it did.
type lateError struct {
	text  string
	cause error
}

func (e *lateError) Error() string { return e.text }
func (e *lateError) Unwrap() error { return e.cause }

// errBroken is the error of a connection that did not bring an answer.
var errBroken = errors.New("not reached")

func (b *Bus) postOnce(ctx context.Context, p Peer, body []byte) (Data, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.ID+Path+"event", bytes.NewReader(body))
	if err != nil {
		return Data{}, err
	}
	req.Header.Set("Content-Type", contentType)
	res, err := b.cfg.Client.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // its URL tells people nothing
		}
		return Data{}, fmt.Errorf("%w: %w", errBroken, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxLetterBytes))
	if err != nil {
		return Data{}, fmt.Errorf("%w: %w", errBroken, err)
	}
	if lamport, err := strconv.ParseUint(res.Header.Get(clockHeader), 10, 64); err == nil {
		b.mu.Lock()
		b.hearLocked(lamport)
		b.mu.Unlock()
	}
	text := strings.TrimSpace(fmt.Sprintf("%.500s", answer))
	switch res.StatusCode {
	case http.StatusOK:
		r := &reader{b: answer}
		d := r.data()
		return d, r.end()
	case http.StatusNotImplemented:
		return Data{}, ErrNoAnswer
	case http.StatusServiceUnavailable:
		return Data{}, ErrBusy
	case http.StatusUnprocessableEntity: // the answerer's own error
		return Data{}, &AnswerError{text}
	}
	return Data{}, fmt.Errorf("%s: %s", res.Status, text)
}

// AnswerError is the error that whoever answered a request returned.
type AnswerError struct{ Text string }

func (e *AnswerError) Error() string { return e.Text }
