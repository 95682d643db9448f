package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"strings"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

// request makes what is to be submitted of the options. It reads files and the
// beginning of standard input; what is large is left to p.send. Nothing has been
// changed anywhere when it fails.
func (o *submitOptions) request(stdin io.Reader, p *packer) (*api.SubmitRequest, error) {
	r := &api.SubmitRequest{}
	if o.task != "" {
		if err := readTaskFile(o.task, stdin, p, r); err != nil {
			return nil, err
		}
	} else if err := o.what(&r.Task, p); err != nil {
		return nil, err
	}
	if err := o.with(&r.Task, stdin, p); err != nil {
		return nil, err
	}
	if o.targetSet {
		r.Target = o.target
	}
	o.how(&r.Options)
	return r, nil
}

// what fills in what is to be run.
func (o *submitOptions) what(t *api.TaskSpec, p *packer) error {
	switch {
	case o.shell != "":
		t.Kind, t.Shell = tasks.Command, o.shell
	case o.file != "":
		t.Kind, t.Name, t.Interpreter = tasks.File, filepath.Base(o.file), o.interpreter
		for _, a := range o.operands {
			t.Args = append(t.Args, jsonString(a))
		}
		if _, err := p.file(o.file, &t.ContentBase64, &t.Blob); err != nil {
			return fmt.Errorf("-file: %w", err)
		}
	case o.git != "":
		t.Kind, t.URL, t.Ref, t.Argv = tasks.Git, o.git, o.ref, o.operands
		t.Pre, t.Post = shellLines(o.pre), shellLines(o.post)
	case o.js != "":
		source, err := readSource(o.js)
		if err != nil {
			return fmt.Errorf("-js: %w", err)
		}
		t.Kind, t.Source, t.Args = tasks.JS, source, rawArgs(o.operands)
	case o.function != "":
		t.Kind, t.Name, t.Args = tasks.Function, o.function, rawArgs(o.operands)
	default:
		t.Kind, t.Argv = tasks.Command, o.operands
	}
	return nil
}

// with fills in what goes along.
func (o *submitOptions) with(t *api.TaskSpec, stdin io.Reader, p *packer) error {
	if len(o.env) > 0 {
		env := maps.Clone(t.Env)
		if env == nil {
			env = map[string]string{}
		}
		maps.Copy(env, o.env)
		t.Env = env
	}
	if o.dir != "" {
		t.Dir = o.dir
	}
	t.Outputs = append(t.Outputs, o.outputs...)
	var files []inputFile
	for _, in := range o.inputs {
		below, err := in.walk()
		if err != nil {
			return fmt.Errorf("-in: %w", err)
		}
		files = append(files, below...)
	}
	first := len(t.Inputs)
	t.Inputs = append(t.Inputs, make([]api.InputSpec, len(files))...)
	for i := range files {
		// The slice does not grow any more: p keeps pointers into it.
		if err := files[i].pack(&t.Inputs[first+i], p); err != nil {
			return fmt.Errorf("-in: %w", err)
		}
	}
	if o.stdin {
		return p.stream("standard input", stdin, &t.StdinBase64, &t.StdinBlob)
	}
	return nil
}

// how fills in the options that were given.
func (o *submitOptions) how(s *api.OptionsSpec) {
	if o.set["timeout"] {
		s.TimeoutSeconds = o.options.Timeout.Seconds()
	}
	if o.set["attempts"] {
		s.Attempts = &o.options.Attempts
	}
	if o.set["retry"] {
		s.Retry = o.options.Retry
	}
	if o.set["priority"] {
		s.Priority = o.options.Priority
	}
	if o.set["slots"] {
		s.Slots = &o.options.Slots
	}
	if o.set["wait-workers"] {
		seconds := o.options.WaitWorkers.Seconds()
		s.WaitWorkersSeconds = &seconds
	}
	if o.set["expect"] {
		s.Expect = o.options.Expect
	}
}

func jsonString(s string) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(s) // strings always can be
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func rawArgs(args []string) []json.RawMessage {
	var raw []json.RawMessage
	for _, a := range args {
		raw = append(raw, json.RawMessage(a))
	}
	return raw
}

// shellLines makes argument lists of lines for a shell.
func shellLines(lines []string) [][]string {
	var list [][]string
	for _, l := range lines {
		list = append(list, []string{"sh", "-c", l})
	}
	return list
}

// readSource returns JavaScript source, of a file when s begins with @.
func readSource(s string) (string, error) {
	path, ok := strings.CutPrefix(s, "@")
	if !ok {
		return s, nil
	}
	b, err := readLimited(path, tasks.MaxSpecBytes)
	if err == nil && strings.TrimSpace(string(b)) == "" {
		err = errors.New("the source is empty")
	}
	return string(b), err
}
