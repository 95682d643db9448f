package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/blob"
	"github.com/scagent/scagent/tasks/original"
)

// What an input or output is, when it is no regular file.
const (
	TypeDir     = "dir"
	TypeSymlink = "symlink"
)

const (
	// maxInlineTotal bounds what the contents of a task may carry inside it all
	// together; what is above goes into blobs, so that the task fits a frame.
	maxInlineTotal = 4 * tasks.MaxInlineBytes
	// maxSeconds bounds the durations of options, some 30 years.
	maxSeconds = 1e9
)

var blobName = regexp.MustCompile(`^[0-9a-f]{64}$`)

// parseSubmission reads the body of POST /v1/tasks.
func parseSubmission(ctx context.Context, b Backend, body []byte) (tasks.Submission, error) {
	var req SubmitRequest
	if is, err := originalRequest(body, &req); err != nil {
		return tasks.Submission{}, err
	} else if !is {
		if err := unmarshalBody(body, &req, "task.args", "task.env"); err != nil {
			return tasks.Submission{}, err
		}
	}
	return submission(ctx, b, &req)
}

// submission checks a request and makes a submission of it. Contents too large
// to travel inside the task go into the backend's blobs.
func submission(ctx context.Context, b Backend, req *SubmitRequest) (tasks.Submission, error) {
	s := tasks.Submission{Target: req.Target}
	var err error
	if s.Options, err = req.Options.options(); err != nil {
		return s, err
	}
	c := converter{ctx: ctx, b: b}
	if s.Task, err = c.task(&req.Task); err != nil {
		return s, err
	}
	return s, s.Validate()
}

func badTask(format string, a ...any) error {
	return fmt.Errorf("%w: %s", tasks.ErrBadTask, fmt.Sprintf(format, a...))
}

// options fills in the defaults; ranges are checked by tasks.Options.Validate.
func (o *OptionsSpec) options() (tasks.Options, error) {
	opt := tasks.DefaultOptions()
	opt.Retry, opt.Priority, opt.Expect, opt.Ephemeral = o.Retry, o.Priority, o.Expect, o.Ephemeral
	if o.Attempts != nil {
		opt.Attempts = *o.Attempts
	}
	if o.Slots != nil {
		opt.Slots = *o.Slots
	}
	var err error
	if opt.Timeout, err = duration("timeout_seconds", o.TimeoutSeconds); err != nil {
		return opt, err
	}
	if o.WaitWorkersSeconds != nil {
		opt.WaitWorkers, err = duration("wait_workers_seconds", *o.WaitWorkersSeconds)
	}
	return opt, err
}

func duration(field string, seconds float64) (time.Duration, error) {
	if !(seconds >= 0 && seconds <= maxSeconds) { // NaN is neither
		return 0, fmt.Errorf("%w: options.%s is %v; want 0 to %.0f", tasks.ErrBadOptions, field, seconds, maxSeconds)
	}
	return time.Duration(math.Ceil(seconds * float64(time.Second))), nil // so that little is not nothing
}

// converter makes a task of its spec.
type converter struct {
	ctx    context.Context
	b      Backend
	inline int // bytes of the contents that travel inside the task
}

func (c *converter) task(t *TaskSpec) (tasks.Task, error) {
	if err := t.check(); err != nil {
		return tasks.Task{}, err
	}
	out := tasks.Task{
		Kind: t.Kind, Argv: t.Argv, Shell: t.Shell, Name: t.Name, Args: t.Args, Interpreter: t.Interpreter,
		URL: t.URL, Ref: t.Ref, Pre: t.Pre, Post: t.Post, Source: t.Source, Env: t.Env, Dir: t.Dir, Outputs: t.Outputs,
	}
	var err error
	if t.Kind == tasks.File {
		if out.Content, err = c.content("task.content_base64", t.ContentBase64, "task.blob", t.Blob); err != nil {
			return out, err
		}
	}
	if t.StdinBase64 != nil || t.StdinBlob != "" {
		var in []byte
		if t.StdinBase64 != nil {
			in = *t.StdinBase64
		}
		if out.Stdin, err = c.content("task.stdin_base64", in, "task.stdin_blob", t.StdinBlob); err != nil {
			return out, err
		}
	}
	if len(t.Inputs) > tasks.MaxInputs {
		return out, badTask("task.inputs has %d files; want at most %d, pack them into an archive", len(t.Inputs), tasks.MaxInputs)
	}
	for i := range t.Inputs {
		in := &t.Inputs[i]
		at := fmt.Sprintf("task.inputs[%d].", i)
		content, err := c.content(at+"content_base64", in.ContentBase64, at+"blob", in.Blob)
		if err != nil {
			return out, err
		}
		mode := in.Mode
		switch in.Type {
		case "":
		case TypeDir:
			mode |= uint32(fs.ModeDir)
		case TypeSymlink:
			mode |= uint32(fs.ModeSymlink)
		default:
			return out, badTask("%stype is %.40q; want %s or %s, or nothing for a file", at, in.Type, TypeDir, TypeSymlink)
		}
		out.Inputs = append(out.Inputs, tasks.Input{Name: in.Name, Mode: mode, Content: *content})
	}
	return out, nil
}

// SpecOf returns the spec of a task that names no blobs.
func SpecOf(t *tasks.Task) TaskSpec {
	s := TaskSpec{
		Kind: t.Kind, Argv: t.Argv, Shell: t.Shell, Name: t.Name, Args: t.Args, Interpreter: t.Interpreter,
		URL: t.URL, Ref: t.Ref, Pre: t.Pre, Post: t.Post, Source: t.Source, Env: t.Env, Dir: t.Dir, Outputs: t.Outputs,
	}
	if t.Content != nil {
		s.ContentBase64 = t.Content.Inline
	}
	if t.Stdin != nil {
		s.StdinBase64 = &t.Stdin.Inline
	}
	for i := range t.Inputs {
		in := &t.Inputs[i]
		s.Inputs = append(s.Inputs, InputSpec{Name: in.Name, Mode: in.Mode & uint32(fs.ModePerm), Type: fileType(in.Mode), ContentBase64: in.Inline})
	}
	return s
}

// originalRequest reads a request whose task is one of the original's task
// objects, or reports that it is none. A file in it is read here, so its name
// must be absolute.
func originalRequest(body []byte, req *SubmitRequest) (bool, error) {
	var form struct {
		Task json.RawMessage `json:"task"`
	}
	if json.Unmarshal(body, &form) != nil || !original.Is(form.Task) {
		return false, nil
	}
	var rest struct {
		Task    json.RawMessage `json:"task"`
		Target  tasks.Target    `json:"target"`
		Options OptionsSpec     `json:"options"`
	}
	if err := unmarshal(body, &rest, "task"); err != nil {
		return true, err
	}
	task, err := original.Task(form.Task, func(name string) (tasks.Content, error) {
		if !filepath.IsAbs(name) {
			return tasks.Content{}, fmt.Errorf("fileName is %.200q; want an absolute path here", name)
		}
		b, err := original.ReadFile(name, maxTaskBody)
		return tasks.Content{Inline: b}, err
	})
	*req = SubmitRequest{Task: SpecOf(&task), Target: rest.Target, Options: rest.Options}
	return true, err
}

// content makes a content of one of two fields.
func (c *converter) content(field string, in []byte, blobField, hash string) (*tasks.Content, error) {
	switch {
	case hash != "" && len(in) > 0:
		return nil, badTask("%s and %s are both there; want one of the two", field, blobField)
	case hash != "":
		return c.blob(blobField, hash)
	case len(in) <= tasks.MaxInlineBytes && c.inline+len(in) <= maxInlineTotal:
		c.inline += len(in)
		return &tasks.Content{Inline: in}, nil
	}
	hash, size, err := c.b.PutBlob(c.ctx, bytes.NewReader(in))
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", field, err)
	}
	return &tasks.Content{Blob: hash, Size: size}, nil
}

// blob finds a content that was put here before.
func (c *converter) blob(field, hash string) (*tasks.Content, error) {
	if !blobName.MatchString(hash) {
		return nil, badTask("%s is %.80q; want the 64 hexadecimal digits that PUT /v1/blobs answered", field, hash)
	}
	f, size, err := c.b.OpenBlob(hash)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, &Error{CodeUnknownBlob, fmt.Sprintf("%s is %s, which is not here (any more); send it with PUT /v1/blobs first", field, hash), http.StatusBadRequest}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	f.Close() // it was opened for reading only
	return &tasks.Content{Blob: hash, Size: size}, nil
}

// check refuses what the spec lacks for its kind, and what means nothing there.
func (t *TaskSpec) check() error {
	kinds := []tasks.Kind{tasks.Command, tasks.File, tasks.Git, tasks.Function, tasks.JS}
	if !slices.Contains(kinds, t.Kind) {
		return badTask("task.kind is %.80q; want one of command, file, git, function, js", t.Kind)
	}
	for _, f := range []struct {
		name  string
		there bool
		kinds []tasks.Kind // where it means something
		must  bool         // it must be there for these
	}{
		{"argv", len(t.Argv) > 0, []tasks.Kind{tasks.Command, tasks.Git}, false},
		{"shell", t.Shell != "", []tasks.Kind{tasks.Command}, false},
		{"name", t.Name != "", []tasks.Kind{tasks.File, tasks.Function}, false},
		{"args", len(t.Args) > 0, []tasks.Kind{tasks.File, tasks.Function, tasks.JS}, false},
		{"content_base64 or blob", t.ContentBase64 != nil || t.Blob != "", []tasks.Kind{tasks.File}, true},
		{"interpreter", t.Interpreter != "", []tasks.Kind{tasks.File}, false},
		{"url", t.URL != "", []tasks.Kind{tasks.Git}, true},
		{"ref", t.Ref != "", []tasks.Kind{tasks.Git}, false},
		{"pre", len(t.Pre) > 0, []tasks.Kind{tasks.Git}, false},
		{"post", len(t.Post) > 0, []tasks.Kind{tasks.Git}, false},
		{"source", t.Source != "", []tasks.Kind{tasks.JS}, true},
	} {
		means := slices.Contains(f.kinds, t.Kind)
		switch {
		case f.there && !means:
			words := make([]string, len(f.kinds))
			for i, k := range f.kinds {
				words[i] = string(k)
			}
			return badTask("task.%s means nothing for a %s, only for %s; leave it out", f.name, t.Kind, strings.Join(words, ", "))
		case f.must && means && !f.there:
			return badTask("task.%s is missing; a %s needs it", f.name, t.Kind)
		}
	}
	return t.checkArgs()
}

func (t *TaskSpec) checkArgs() error {
	size := 0
	for i, a := range t.Args {
		size += len(a) + 1
		if t.Kind != tasks.File {
			continue
		}
		var s *string
		if err := json.Unmarshal(a, &s); err != nil || s == nil {
			return badTask("task.args[%d] is %.80s; the arguments of a file are strings", i, a)
		}
	}
	if size > tasks.MaxValueBytes {
		return badTask("task.args take %d bytes, at most %d; send them as an input file", size, tasks.MaxValueBytes)
	}
	return nil
}
