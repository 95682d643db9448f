package master

import (
	"errors"
	"fmt"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/journal"
	"github.com/scagent/scagent/tasks/wire"
)

// What is on disk of a submission. Numbers are appended, never reused; from 16 on they
// are package worker's.
const (
	kindRun     journal.Kind = 1 // by the run's id: what was submitted
	kindAttempt journal.Kind = 2 // by the task's: its newest attempt, while it has not ended
	kindEnd     journal.Kind = 3 // by the task's: how it ended
	kindCancel  journal.Kind = 4 // by the task's: it is to be stopped, and why
)

// recordVersion is the first byte of each. Msgpack of the struct follows, in which
// fields may be added.
const recordVersion = 1

var errRecord = errors.New("not a record of this version of scagent")

// runRecord is a submission.
type runRecord struct {
	Spec     []byte
	Target   tasks.Target
	Options  tasks.Options
	Needs    []string
	QueuedAt stamp
	Tasks    []taskRecord
}

// taskRecord is one task of a run. Its index is its place.
type taskRecord struct {
	ID     tasks.ID
	Worker string // id of the one that it is bound to, empty if none
	Name   string // of that worker
}

// attemptRecord is written before the attempt leaves, and again before the grant of
// one that is granted.
type attemptRecord struct {
	N       uint32
	Starts  uint16 // attempts that have, or may have, started once it has left
	Retries uint16
	Granted bool
	Over    bool // it ran and failed, and another is to be made
	Deaths  uint8
	Worker  string // its id
	Name    string
	Boot    string
	Lost    []lostRecord
}

type lostRecord struct {
	N    uint32
	Node string
}

// endRecord is a result.
type endRecord struct {
	Run                  tasks.ID
	Index                uint32
	Kind                 tasks.Kind
	State                tasks.State
	Worker, WorkerID     string
	Attempt              uint32
	QueuedAt, FinishedAt stamp
	Outcome              []byte // as it travels
	Stdout, Stderr       []byte
	StdoutCut, StderrCut int64
}

func encodeRecord(v any) []byte {
	b, err := tasks.Pack(v)
	if err != nil {
		panic(fmt.Sprintf("master: %v", err)) // plain fields only
	}
	return append([]byte{recordVersion}, b...)
}

func decodeRecord(b []byte, v any) error {
	if len(b) == 0 || b[0] != recordVersion {
		return errRecord
	}
	return tasks.Unpack(b[1:], v)
}

// encode returns the record of r and its tasks, of which s is the submission.
func (r *Run) encode(s *tasks.Submission, spec []byte) []byte {
	rec := runRecord{Spec: spec, Target: s.Target, Options: s.Options, Needs: s.Needs, QueuedAt: r.tasks[0].queuedAt, Tasks: make([]taskRecord, len(r.tasks))}
	for i, t := range r.tasks {
		rec.Tasks[i].ID = t.id
		if t.bound != nil {
			rec.Tasks[i].Worker, rec.Tasks[i].Name = t.bound.id, t.bound.info.Name
		}
	}
	return encodeRecord(&rec)
}

func encodeEnd(r *tasks.Result) []byte {
	return encodeRecord(&endRecord{
		Run: r.Run, Index: uint32(r.Index), Kind: r.Kind, State: r.State, Worker: r.Worker, WorkerID: r.WorkerID, Attempt: r.Attempt,
		QueuedAt: stampOf(r.QueuedAt), FinishedAt: stampOf(r.FinishedAt), Outcome: wire.AppendOutcome(nil, &r.Outcome),
		Stdout: r.Stdout, Stderr: r.Stderr, StdoutCut: r.StdoutCut, StderrCut: r.StderrCut,
	})
}

// decodeEnd returns the result of a task.
func decodeEnd(id tasks.ID, b []byte) (*tasks.Result, error) {
	var e endRecord
	if err := decodeRecord(b, &e); err != nil {
		return nil, fmt.Errorf("result of task %s: %w", id, err)
	}
	r := &tasks.Result{
		ID: id, Run: e.Run, Index: int(e.Index), Kind: e.Kind, State: e.State, Worker: e.Worker, WorkerID: e.WorkerID, Attempt: e.Attempt,
		QueuedAt: e.QueuedAt.time(), FinishedAt: e.FinishedAt.time(), Stdout: e.Stdout, Stderr: e.Stderr, StdoutCut: e.StdoutCut, StderrCut: e.StderrCut,
	}
	if !wire.DecodeOutcome(e.Outcome, &r.Outcome) || !r.State.Final() {
		return nil, fmt.Errorf("result of task %s: %w", id, errRecord)
	}
	return r, nil
}
