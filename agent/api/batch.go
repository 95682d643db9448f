package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/master"
)

// batchBeat is after how long without events an empty line is written. A client
// that is gone may not show in what is read from it: no more is read while the
// batch is full.
const batchBeat = 5 * time.Second

func (h *handler) batch(w http.ResponseWriter, r *http.Request) error {
	if err := h.checkType(r, NDJSON); err != nil {
		return err
	}
	rc := http.NewResponseController(w)
	// Where it is not supported there is no need for it, or the client gets its
	// answer when it has sent everything.
	rc.EnableFullDuplex()
	// Of a body that was not read whole, net/http may read the rest when this
	// returns, and then panics when it waits for another request.
	w.Header().Set("Connection", "close")
	in := &batchInput{lines: bufio.NewScanner(r.Body), b: h.b}
	in.lines.Buffer(nil, maxTaskBody)
	req, options, err := in.head()
	if err != nil {
		return err
	}
	b, f, err := h.b.APIBatch(req.Target, options, req.Limit)
	if err != nil {
		return err
	}
	defer f.Close()

	ctx, cancel := context.WithCancel(r.Context())
	failed, fail := context.WithCancelCause(ctx) // ended by an error in the input
	added := make(chan struct{})                 // closed when all tasks were added, or one was refused
	read := make(chan struct{})                  // closed when no more is read
	go func() {
		defer close(read)
		if err := in.add(ctx, b); err != nil {
			fail(err)
		}
		close(added)
		b.Seal()
		// A connection that is closed on what is still sent loses what was answered.
		io.Copy(io.Discard, r.Body)
	}()
	s := batchStream{ctx: ctx, failed: failed, f: f, rc: rc, out: bufio.NewWriterSize(w, 32<<10), kept: req.Kept}
	patience := batchBeat // for the end of what the client sends
	if !s.run(w, b, in) {
		b.Cancel(tasks.StopCancel) // nobody is there any more
		patience = 0
	}
	select {
	case <-added:
	default:
		if patience > 0 && !s.told { // it was sealed by others, and the client sends on
			encoder(s.out).Encode(StreamEvent{Type: StreamError, Error: ErrorOf(tasks.ErrSealed)})
			s.flush()
		}
	}
	select {
	case <-read:
	default:
		rc.SetReadDeadline(time.Now().Add(patience))
		cancel()
		<-read
	}
	cancel()
	fail(nil)
	return nil
}

// batchInput reads the body of a batch.
type batchInput struct {
	lines *bufio.Scanner
	b     Backend
	index uint32 // of the next task; read by others when add has returned
}

// next reads a line.
func (in *batchInput) next() ([]byte, error) {
	if in.lines.Scan() {
		return in.lines.Bytes(), nil
	}
	switch err := in.lines.Err(); {
	case err == nil:
		return nil, io.EOF
	case errors.Is(err, bufio.ErrTooLong):
		return nil, &Error{CodeTooLarge, fmt.Sprintf("a line is longer than %d bytes; send large contents with PUT /v1/blobs", maxTaskBody),
			http.StatusRequestEntityTooLarge}
	default:
		return nil, badRequest("the body did not arrive whole: %v", err)
	}
}

// head reads the first line.
func (in *batchInput) head() (req BatchRequest, options tasks.Options, err error) {
	line, err := in.next()
	if err != nil && err != io.EOF {
		return req, options, err
	}
	if err := unmarshalBody(line, &req); err != nil {
		return req, options, err
	}
	options, err = req.Options.options()
	return req, options, err
}

// add adds the other lines until there are no more.
func (in *batchInput) add(ctx context.Context, b Batch) error {
	for first := true; ; first = false {
		line, err := in.next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		var bt BatchTask
		if err := unmarshalBody(line, &bt, "args", "env"); err != nil {
			return err
		}
		if bt.Index != nil {
			in.index = *bt.Index
		}
		c := converter{ctx: ctx, b: in.b}
		t, err := c.task(&bt.TaskSpec)
		if err != nil {
			return err
		}
		if first {
			b.Hold(&t) // contents that it names, the others mostly name too
		}
		if _, err := b.AddAt(ctx, in.index, &t); err != nil {
			return err
		}
		in.index++
	}
}

// batchStream writes what happens to the tasks of a batch. What is there is
// written together, and at once when there is no more.
type batchStream struct {
	ctx    context.Context // ends when the client is gone
	failed context.Context // ends with an error in the input too
	told   bool            // of that error
	f      *master.Follower
	rc     *http.ResponseController
	out    *bufio.Writer
	kept   bool
}

// run reports whether everything was written.
func (s *batchStream) run(w http.ResponseWriter, b Batch, in *batchInput) bool {
	w.Header().Set("Content-Type", NDJSON)
	s.rc.SetWriteDeadline(time.Time{})
	e := encoder(s.out)
	if e.Encode(StreamEvent{Type: StreamSubmitted, Submitted: &Submitted{Run: b.ID(), Several: true, Tasks: []SubmittedTask{}}}) != nil {
		return false
	}
	for {
		ev, err := s.next()
		var out StreamEvent
		switch {
		case err == nil:
			if ev.Type == master.EventStarted || s.kept && ev.Type != master.EventResult {
				continue
			}
			if out = streamEvent(&ev); out.Result != nil && !s.kept {
				out.Result.dropOutput()
			}
		case !s.told && s.failed.Err() != nil && s.ctx.Err() == nil:
			s.told = true
			out = StreamEvent{Type: StreamError, Index: int(in.index), Error: ErrorOf(context.Cause(s.failed))}
		case err == io.EOF:
			return s.flush() == nil
		default:
			if s.ctx.Err() == nil { // the agent ends
				e.Encode(StreamEvent{Type: StreamError, Error: ErrorOf(err)})
				s.flush()
			}
			return false
		}
		if e.Encode(out) != nil {
			return false
		}
		if err == io.EOF {
			return s.flush() == nil
		}
	}
}

func (s *batchStream) flush() error {
	if err := s.out.Flush(); err != nil {
		return err
	}
	return s.rc.Flush()
}

// over is a context that has ended: with it, Next only gives what is there.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// next returns the next event. It writes what was encoded before it waits.
func (s *batchStream) next() (master.Event, error) {
	ev, err := s.f.Next(over)
	if err == nil || err == io.EOF {
		return ev, err
	}
	wait := s.failed
	if s.told {
		wait = s.ctx
	}
	for {
		if err := s.flush(); err != nil {
			return ev, err
		}
		beat, cancel := context.WithTimeout(wait, batchBeat)
		ev, err := s.f.Next(beat)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || wait.Err() != nil {
			return ev, err
		}
		s.out.WriteByte('\n') // an error shows in Flush
	}
}
