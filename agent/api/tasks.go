package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/master"
)

// How many tasks GET /v1/tasks answers at once.
const (
	defaultListed = 1000
	maxListed     = 10_000
)

func (h *handler) submit(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	follow, err := flag(q, "follow")
	if err != nil {
		return err
	}
	dry, err := flag(q, "dry_run")
	if err != nil {
		return err
	}
	if follow && dry {
		return badRequest("follow and dry_run exclude each other; a dry run starts nothing")
	}
	body, err := h.readJSON(w, r, maxTaskBody)
	if err != nil {
		return err
	}
	s, err := parseSubmission(r.Context(), h.b, body)
	if err != nil {
		return err
	}
	switch {
	case dry:
		return h.dryRun(w, r, s)
	case follow:
		run, f, err := h.b.SubmitFollowed(r.Context(), s)
		if err != nil {
			return err
		}
		defer f.Close()
		stream(w, r, submitted(run), f)
		return nil
	}
	run, err := h.b.Submit(r.Context(), s)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, submitted(run))
	return nil
}

func submitted(run *master.Run) Submitted {
	rs := run.Tasks()
	s := Submitted{Run: run.ID(), Several: run.Several(), Tasks: make([]SubmittedTask, len(rs))}
	for i := range rs {
		s.Tasks[i] = SubmittedTask{ID: rs[i].ID, Worker: rs[i].Worker}
	}
	return s
}

func (h *handler) dryRun(w http.ResponseWriter, r *http.Request, s tasks.Submission) error {
	choices, err := h.b.DryRun(r.Context(), s)
	if err != nil && !errors.Is(err, tasks.ErrNoMatch) {
		return err
	}
	out := DryRun{Workers: make([]DryRunWorker, len(choices))}
	if err != nil {
		out.Error = ErrorOf(err)
	}
	for i, c := range choices {
		out.Workers[i] = DryRunWorker{ID: c.Worker.ID, Name: c.Worker.Name, Takes: c.Takes, Why: c.Why}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (h *handler) list(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	var err error
	var states []tasks.State
	if v := q.Get("state"); v != "" {
		known := []tasks.State{tasks.StateQueued, tasks.StateRunning, tasks.StateDone, tasks.StateFailed, tasks.StateCancelled, tasks.StateLost}
		for word := range strings.SplitSeq(v, ",") {
			if !slices.Contains(known, tasks.State(word)) {
				return badRequest("state has %.80q; want some of queued, running, done, failed, cancelled, lost", word)
			}
			states = append(states, tasks.State(word))
		}
	}
	limit := defaultListed
	if v := q.Get("limit"); v != "" {
		if limit, err = strconv.Atoi(v); err != nil || limit < 1 || limit > maxListed {
			return badRequest("limit is %.80q; want 1 to %d", v, maxListed)
		}
	}
	var after tasks.ID
	if v := q.Get("after"); v != "" {
		if after, err = tasks.ParseID(v); err != nil {
			return err
		}
	}
	last, err := flag(q, "newest")
	if err != nil {
		return err
	}
	list := h.b.Tasks
	if last {
		list = func(after tasks.ID, states []tasks.State, limit int) []tasks.Result {
			return newest(h.b, after, states, limit)
		}
	}
	rs := list(after, states, limit)
	out := make([]TaskStatus, len(rs))
	for i := range rs {
		out[i] = BriefOf(&rs[i])
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (h *handler) task(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	res, err := h.b.Task(id)
	if err == nil {
		writeJSON(w, http.StatusOK, StatusOf(&res))
		return nil
	}
	run, runErr := h.b.Run(id)
	if runErr != nil {
		return unknown(id, err)
	}
	writeRun(w, run)
	return nil
}

// unknown says which id is not known.
func unknown(id tasks.ID, err error) error {
	if !errors.Is(err, tasks.ErrUnknown) {
		return err
	}
	return &Error{CodeUnknownTask, "no task or run " + id.String() + " is known to the agent of node " + id.Owner() + ", which forgets the oldest", http.StatusNotFound}
}

// writeRun answers with a RunStatus, a task at a time, as the output that is kept
// of many tasks is large.
func writeRun(w http.ResponseWriter, run *master.Run) {
	head, _ := json.Marshal(RunStatus{Run: run.ID(), Several: run.Several(), Tasks: []TaskStatus{}}) // nothing in it can fail
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	e := encoder(w)
	w.Write(head[:len(head)-len("]}")]) // errors: the client is gone
	for i, res := range run.Tasks() {
		if i > 0 {
			io.WriteString(w, ",")
		}
		if e.Encode(StatusOf(&res)) != nil {
			return
		}
	}
	io.WriteString(w, "]}\n")
}

func (h *handler) cancel(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	body, err := h.readJSON(w, r, maxSmallBody)
	if err != nil {
		return err
	}
	var req CancelRequest
	if len(body) > 0 {
		if err := unmarshal(body, &req); err != nil {
			return err
		}
	}
	if req.Queued {
		if req.Reason != "" {
			return badRequest("reason and queued exclude each other: nothing that runs is stopped")
		}
		n, err := h.b.Drop(id)
		if err != nil {
			return unknown(id, err)
		}
		writeJSON(w, http.StatusOK, Stopped{n})
		return nil
	}
	reason := tasks.StopCancel
	switch req.Reason {
	case "", "cancel":
	case "interrupt":
		reason = tasks.StopInterrupt
	case "kill":
		reason = tasks.StopKill
	default:
		return badRequest("reason is %.80q; want cancel, interrupt or kill", req.Reason)
	}
	n, err := h.b.Cancel(id, reason)
	if err != nil {
		return unknown(id, err)
	}
	writeJSON(w, http.StatusOK, Stopped{n})
	return nil
}
