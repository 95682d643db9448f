package bus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	maxAnswers = 64 // requests that are answered at once; further ones are refused
	// maxPatience bounds how long somebody can wait for a reply.
	maxPatience = time.Hour
)

// errUnknown is the answer to a letter whose sender is not known, or has events to all
// that come first and did not.
var errUnknown = errors.New("it does not know the sender, or has not got what that sent before")

// errTwice is the answer to a request that came before.
var errTwice = errors.New("the connection broke while it answered")

// Handler answers other nodes, below Path. sender says who sends a request, if the
// connection proves it; else it is empty.
func (b *Bus) Handler(sender func(*http.Request) string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path+"log", b.serveLog)
	mux.HandleFunc("POST "+Path+"event", func(w http.ResponseWriter, r *http.Request) { b.serveEvent(w, r, sender(r)) })
	return mux
}

// serveLog answers pullOne.
func (b *Bus) serveLog(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	from, err := strconv.ParseUint(q.Get("from"), 10, 64)
	age := logAge
	if s := q.Get("age"); s != "" && err == nil {
		var ms uint64
		ms, err = strconv.ParseUint(s, 10, 40)
		age = time.Duration(ms) * time.Millisecond
	}
	switch {
	case err != nil:
		http.Error(w, "want numbers", http.StatusBadRequest)
		return
	case q.Get("boot") != b.cfg.Self.Boot:
		http.Error(w, "this node has started anew", http.StatusGone)
		return
	}
	now := time.Now()
	b.mu.Lock()
	b.log.trim(now)
	items, last := b.log.since(now, from, age, pullBytes), b.log.last
	b.mu.Unlock()
	first := last + 1
	if len(items) > 0 {
		first = items[0].seq
	}
	head := binary.AppendUvarint(binary.AppendUvarint(nil, first), last)
	// The data is that of the log: many may ask for it at once.
	parts := net.Buffers{head}
	size := len(head)
	for i := range items {
		head := items[i].appendHead(nil, now)
		parts = append(parts, head, items[i].data.bytes)
		size += len(head) + items[i].data.Len()
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(size))
	parts.WriteTo(w) // an error: the other side asks again
}

// contentType is that of letters too: no page of a browser may send it without asking.
const contentType = "application/octet-stream"

// serveEvent takes a letter.
func (b *Bus) serveEvent(w http.ResponseWriter, r *http.Request, sender string) {
	if r.Header.Get("Content-Type") != contentType || r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		http.Error(w, "want "+contentType+", and no page of a browser", http.StatusForbidden)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLetterBytes))
	if err != nil {
		http.Error(w, "the event did not come whole, or is too large", http.StatusBadRequest)
		return
	}
	l, err := decodeLetter(body)
	if err != nil || l.from == b.cfg.Self.ID || sender != "" && sender != l.from {
		b.mu.Lock()
		b.stats.Malformed++
		b.mu.Unlock()
		http.Error(w, errForm.Error(), http.StatusBadRequest)
		return
	}
	// A reply takes as long as it takes, and the server's own limit is for bodies.
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(r.Context(), min(l.patience, maxPatience))
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()
	d, err := b.receive(ctx, &l)
	b.mu.Lock()
	w.Header().Set(clockHeader, strconv.FormatUint(b.lamport, 10))
	b.mu.Unlock()
	var mine *AnswerError
	switch {
	case err == nil:
	case errors.Is(err, ErrNoAnswer):
		http.Error(w, err.Error(), http.StatusNotImplemented)
		return
	case errors.Is(err, ErrBusy):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	case errors.As(err, &mine):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	default:
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Write(d.append(nil)) // an error: whoever asked has gone
}

// receive delivers a letter, or answers it.
func (b *Bus) receive(ctx context.Context, l *letter) (Data, error) {
	self := l.from == b.cfg.Self.ID
	if !self && !b.after(ctx, l.from, l.boot, l.after) {
		return Data{}, errUnknown
	}
	b.mu.Lock()
	if b.ctx.Err() != nil {
		b.mu.Unlock()
		return Data{}, ErrClosed
	}
	if !self {
		switch s := b.streams[l.from]; {
		case s == nil || s.peer.Boot != l.boot:
			b.mu.Unlock()
			return Data{}, errUnknown
		case s.letters.old(l.number):
			b.mu.Unlock()
			return Data{}, errors.New("it took too long on its way")
		case !s.letters.first(l.number):
			b.mu.Unlock()
			if l.request {
				return Data{}, errTwice
			}
			return Data{}, nil
		}
	}
	b.hearLocked(l.item.lamport)
	e := Event{Name: l.item.name, From: l.from, Lamport: l.item.lamport, Data: l.item.data, Request: l.request}
	if !self {
		b.stats.Received++
	}
	b.cfg.Deliver(e)
	b.mu.Unlock()
	if !l.request {
		return Data{}, nil
	}
	d, err := b.answer(ctx, e)
	switch {
	case err == nil && d.Len() > MaxDataBytes:
		err = &AnswerError{fmt.Sprintf("the reply has %d bytes; at most %d", d.Len(), MaxDataBytes)}
	case err != nil && !errors.Is(err, ErrNoAnswer) && !errors.Is(err, ErrBusy):
		err = &AnswerError{err.Error()}
	}
	return d, err
}

// answer answers a request until ctx ends. Whoever does not care about that goes on, and
// counts as one that answers until it returns.
func (b *Bus) answer(ctx context.Context, e Event) (Data, error) {
	select {
	case b.answers <- struct{}{}:
	default:
		return Data{}, ErrBusy
	}
	type answer struct {
		d   Data
		err error
	}
	done := make(chan answer, 1)
	go func() { // not waited for by Close, because it may be anybody's
		defer func() { <-b.answers }()
		d, err := b.cfg.Answer(ctx, e)
		done <- answer{d, err}
	}()
	select {
	case a := <-done:
		return a.d, a.err
	case <-ctx.Done():
		return Data{}, fmt.Errorf("it did not answer in time: %w", context.Cause(ctx))
	}
}
