package api

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"time"
	"unicode/utf8"

	"github.com/scagent/scagent/tasks"
)

// StatusOf returns a task as clients see it. Output that is not UTF-8 is in the
// Base64 fields.
func StatusOf(r *tasks.Result) TaskStatus {
	s := BriefOf(r)
	s.Stdout, s.StdoutBase64 = text(r.Stdout)
	s.Stderr, s.StderrBase64 = text(r.Stderr)
	v, err := r.JSONValue()
	if err == nil && (!json.Valid(v) || !utf8.Valid(v)) { // Valid minds no bytes inside strings
		err = fmt.Errorf("it is not JSON")
	}
	if err == nil {
		s.Result = v
	} else if s.Error == "" {
		s.Error = oneLine(fmt.Sprintf("the result cannot be shown: %v", err))
	}
	for i := range r.Outputs {
		o := &r.Outputs[i]
		s.Outputs = append(s.Outputs, OutputStatus{Name: o.Name, Mode: o.Mode & uint32(fs.ModePerm), Type: fileType(o.Mode), Size: o.Len(), ContentBase64: o.Inline, Blob: o.Blob})
	}
	for _, st := range r.Steps {
		s.Steps = append(s.Steps, StepStatus{Stage: st.Stage, Command: st.Command, ExitCode: st.Exit, Signal: st.Signal})
	}
	return s
}

// fileType returns the word for what a mode says, empty for a regular file.
func fileType(mode uint32) string {
	switch fs.FileMode(mode).Type() {
	case fs.ModeDir:
		return TypeDir
	case fs.ModeSymlink:
		return TypeSymlink
	}
	return ""
}

// BriefOf is StatusOf without output, result and files: what lists and events show.
func BriefOf(r *tasks.Result) TaskStatus {
	finished := r.FinishedAt
	if !r.Finished.IsZero() {
		finished = r.Finished // by the same clock as Started
	}
	return TaskStatus{
		ID: r.ID, Run: r.Run, Index: r.Index,
		Worker: r.Worker, WorkerID: r.WorkerID,
		Kind: r.Kind, State: r.State, Reason: r.Code,
		ExitCode: r.Exit, Code: r.Exit, Signal: r.Signal,
		StdoutCutBytes: r.StdoutCut, StderrCutBytes: r.StderrCut,
		Error: r.Text, Attempt: r.Attempt,
		QueuedAt: timeOf(r.QueuedAt), StartedAt: timeOf(r.Started), FinishedAt: timeOf(finished),
		UserSeconds: r.User.Seconds(), SystemSeconds: r.System.Seconds(), MaxRSSBytes: r.MaxRSS,
	}
}

// text returns output as a string if it is one.
func text(b []byte) (*string, []byte) {
	if !utf8.Valid(b) {
		return nil, b
	}
	s := string(b)
	return &s, nil
}

// timeOf returns nil for a time that is not known, and for one that RFC 3339
// cannot write, as a worker's clock may say anything.
func timeOf(t time.Time) *Time {
	if y := t.UTC().Year(); t.IsZero() || y < 1 || y > 9999 {
		return nil
	}
	return &Time{t}
}

// dropOutput leaves out what was kept of the output.
func (s *TaskStatus) dropOutput() {
	s.Stdout, s.StdoutBase64, s.Stderr, s.StderrBase64 = nil, nil, nil, nil
}
