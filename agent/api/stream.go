package api

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/master"
	"github.com/scagent/scagent/tasks/wire"
)

// follower is what a stream is made of; *master.Follower is one.
type follower interface {
	// Next returns io.EOF when there is no more.
	Next(ctx context.Context) (master.Event, error)
}

// recorded is what a follower has been told.
type recorded []master.Event

// record returns what f is told by now. It takes what is there without waiting for
// anybody, so that tasks do not wait for who reads it.
func record(f *master.Follower) *recorded {
	var rs recorded
	for {
		ev, err := f.Next(over)
		if err != nil {
			return &rs
		}
		rs = append(rs, ev)
	}
}

func (r *recorded) Next(context.Context) (master.Event, error) {
	if len(*r) == 0 {
		return master.Event{}, io.EOF
	}
	ev := (*r)[0]
	*r = (*r)[1:]
	return ev, nil
}

// stream writes what a follower is told, a StreamEvent a line, until all results
// are written or the client is gone.
func stream(w http.ResponseWriter, r *http.Request, first Submitted, f follower) {
	w.Header().Set("Content-Type", NDJSON)
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Time{}) // where there is one: a stream takes as long as its tasks
	e := encoder(w)
	send := func(ev StreamEvent) bool { return e.Encode(ev) == nil && rc.Flush() == nil }
	if !send(StreamEvent{Type: StreamSubmitted, Submitted: &first}) {
		return
	}
	for {
		ev, err := f.Next(r.Context())
		if err == io.EOF {
			return
		}
		if err != nil && r.Context().Err() != nil { // nobody is there, or the agent ends: to whoever is, it hangs up
			panic(http.ErrAbortHandler)
		}
		if err != nil {
			send(StreamEvent{Type: StreamError, Error: ErrorOf(err)})
			return
		}
		if !send(streamEvent(&ev)) {
			return
		}
	}
}

var streamTypes = map[master.EventType]string{
	master.EventStarted: StreamStarted, master.EventOutput: StreamOutput, master.EventAgain: StreamAgain, master.EventResult: StreamResult,
}

var streamNames = map[wire.Stream]string{wire.Stdout: "stdout", wire.Stderr: "stderr"}

func streamEvent(ev *master.Event) StreamEvent {
	s := StreamEvent{Type: streamTypes[ev.Type], Task: ev.Task, Index: ev.Index, Worker: ev.Worker, WorkerID: ev.WorkerID, Attempt: ev.Attempt}
	switch ev.Type {
	case master.EventOutput:
		s.Stream, s.DataBase64, s.CutBytes = streamNames[ev.Stream], ev.Output, ev.Cut
	case master.EventResult:
		st := StatusOf(ev.Result)
		s.Result = &st
	}
	return s
}

func (h *handler) runEvents(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	follow, err := flagOr(q, "follow", true)
	if err != nil {
		return err
	}
	output, err := flagOr(q, "output", true)
	if err != nil {
		return err
	}
	id, err := pathID(r)
	if err != nil {
		return err
	}
	f, err := h.b.Follow(id)
	if err != nil {
		return unknown(id, err)
	}
	defer f.Close()
	first, err := h.submitted(id)
	if err != nil {
		return unknown(id, err)
	}
	if !output {
		f.Mute()
	}
	var from follower = f
	if !follow {
		from = record(f)
		f.Close()
	}
	stream(w, r, first, from)
	return nil
}

// submitted says what a run, or a task, was submitted as.
func (h *handler) submitted(id tasks.ID) (Submitted, error) {
	run, err := h.b.Run(id)
	if err == nil {
		return submitted(run), nil
	}
	t, err := h.b.Task(id)
	if err != nil {
		return Submitted{}, err
	}
	s := Submitted{Run: t.Run, Tasks: []SubmittedTask{{ID: t.ID, Worker: t.Worker}}}
	if run, err := h.b.Run(t.Run); err == nil {
		s.Several = run.Several()
	}
	return s, nil
}

func (h *handler) output(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	follow, err := flag(q, "follow")
	if err != nil {
		return err
	}
	from := wire.Stdout
	switch v := q.Get("stream"); v {
	case "", "stdout":
	case "stderr":
		from = wire.Stderr
	default:
		return badRequest("stream is %.80q; want stdout or stderr", v)
	}
	id, err := h.taskID(r)
	if err != nil {
		return err
	}
	res, err := h.b.Task(id)
	if err != nil {
		return unknown(id, err)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if res.State.Final() {
		b, cut := res.Stdout, res.StdoutCut
		if from == wire.Stderr {
			b, cut = res.Stderr, res.StderrCut
		}
		w.Header().Set("Scagent-Cut-Bytes", strconv.FormatInt(cut, 10))
		w.Write(b) // an error is that the client is gone
		return nil
	}
	f, err := h.b.Follow(id)
	if err != nil {
		return unknown(id, err)
	}
	defer f.Close()
	if follow {
		copyOutput(r.Context(), w, f, from)
		return nil
	}
	// What is there begins with at most its start, and what is kept of each stream.
	for range 3 {
		if ev, err := f.Next(over); err != nil || ev.Type == master.EventOutput && ev.Stream == from {
			w.Header().Set("Scagent-Cut-Bytes", strconv.FormatInt(ev.Cut, 10))
			w.Write(ev.Output)
			return nil
		}
	}
	return nil
}

// copyOutput writes one stream of a task until it ends or the client is gone.
func copyOutput(ctx context.Context, w http.ResponseWriter, f *master.Follower, from wire.Stream) {
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Time{})
	rc.Flush() // the headers; errors show when something is written
	for {
		ev, err := f.Next(ctx)
		if err != nil {
			return
		}
		if ev.Type != master.EventOutput || ev.Stream != from {
			continue
		}
		if _, err := w.Write(ev.Output); err != nil || rc.Flush() != nil {
			return
		}
	}
}

// taskID reads the id in the path. That of a run of one task stands for the task.
func (h *handler) taskID(r *http.Request) (tasks.ID, error) {
	id, err := pathID(r)
	if err != nil {
		return id, err
	}
	run, err := h.b.Run(id)
	if err != nil {
		return id, nil // not a run's
	}
	ts := run.Tasks()
	if len(ts) != 1 {
		return id, badRequest("%s is a run of %d tasks; want the id of one, such as %s", id, len(ts), ts[0].ID)
	}
	return ts[0].ID, nil
}
