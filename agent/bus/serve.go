package bus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	maxAnswers = 64   // requests that are answered at once; further ones are refused
	maxRecent  = 4096 // letters that are remembered, so that each is taken once
	// maxPatience bounds how long somebody can wait for a reply.
	maxPatience = time.Hour
)

// errTwice is the answer to a request that came before.
var errTwice = errors.New("the connection broke while it answered")

// letterID tells letters apart.
type letterID struct {
	from, boot string
	number     uint64
}

// recent knows the last letters.
type recent struct {
	set  map[letterID]struct{}
	ring []letterID
	next int
}

// first notes a letter and reports whether it is new.
func (r *recent) first(id letterID) bool {
	if _, ok := r.set[id]; ok {
		return false
	}
	if r.set == nil {
		r.set = make(map[letterID]struct{})
	}
	if len(r.ring) < maxRecent {
		r.ring = append(r.ring, id)
	} else {
		delete(r.set, r.ring[r.next])
		r.ring[r.next] = id
		r.next = (r.next + 1) % maxRecent
	}
	r.set[id] = struct{}{}
	return true
}

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
	body := binary.AppendUvarint(binary.AppendUvarint(nil, first), last)
	for i := range items {
		body = items[i].append(body, now)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body) // an error: the other side asks again
}

// serveEvent takes a letter.
func (b *Bus) serveEvent(w http.ResponseWriter, r *http.Request, sender string) {
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
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(d.append(nil)) // an error: whoever asked has gone
}

// receive delivers a letter, or answers it.
func (b *Bus) receive(ctx context.Context, l *letter) (Data, error) {
	self := l.from == b.cfg.Self.ID
	if !self && !b.after(ctx, l.from, l.boot, l.after) {
		return Data{}, errors.New("the sender's earlier events did not come in time, or it is not known here")
	}
	b.mu.Lock()
	if b.ctx.Err() != nil {
		b.mu.Unlock()
		return Data{}, ErrClosed
	}
	if !b.seen.first(letterID{l.from, l.boot, l.number}) {
		b.mu.Unlock()
		if l.request {
			return Data{}, errTwice
		}
		return Data{}, nil
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
