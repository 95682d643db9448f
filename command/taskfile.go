package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

// maxTaskFileBytes bounds the file of -task.
const maxTaskFileBytes = 64 << 20

// readTaskFile reads the file of -task, which has one of
//
//	{"task": …, "target": …, "options": …}   the body of POST /v1/tasks
//	{"kind": …}                              the task in it alone
//	{"type": …}                              a task object of strongloop/supercluster
func readTaskFile(path string, stdin io.Reader, p *packer, r *api.SubmitRequest) error {
	b, err := []byte(nil), error(nil)
	if path == "-" {
		b, err = io.ReadAll(io.LimitReader(stdin, maxTaskFileBytes+1))
	} else {
		b, err = readLimited(path, maxTaskFileBytes)
	}
	switch {
	case err != nil:
		return fmt.Errorf("-task: %w", err)
	case len(b) > maxTaskFileBytes:
		return fmt.Errorf("-task: more than %d bytes; send large contents with -in", maxTaskFileBytes)
	}
	var form struct {
		Task json.RawMessage
		Kind *string
		Type *string
	}
	if err := json.Unmarshal(b, &form); err != nil {
		return fmt.Errorf("-task: %s: want a JSON object: %w", path, err)
	}
	switch {
	case form.Task != nil:
		err = strictJSON(b, r)
	case form.Kind != nil:
		err = strictJSON(b, &r.Task)
	case form.Type != nil:
		err = original(*form.Type, b, filepath.Dir(path), p, &r.Task)
	default:
		err = errors.New(`want an object with "task" or "kind", or with "type" for a task of the original's`)
	}
	if err != nil {
		return fmt.Errorf("-task: %s: %w", path, err)
	}
	return nil
}

// strictJSON decodes one value; unknown keys are errors.
func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// originalCommand is a command of the original's task objects.
type originalCommand struct {
	Cmd  string            `json:"cmd"`
	Args []json.RawMessage `json:"args"`
}

func (c *originalCommand) argv() ([]string, error) {
	if c.Cmd == "" {
		return nil, errors.New("a command has no cmd")
	}
	argv := []string{c.Cmd}
	for _, a := range c.Args {
		s, err := originalArg(a)
		if err != nil {
			return nil, err
		}
		argv = append(argv, s)
	}
	return argv, nil
}

// originalArg returns an argument as the original passes it to a program:
// numbers become strings.
func originalArg(a json.RawMessage) (string, error) {
	var s string
	if json.Unmarshal(a, &s) == nil {
		return s, nil
	}
	var n json.Number
	if json.Unmarshal(a, &n) == nil {
		return n.String(), nil
	}
	return "", fmt.Errorf("the argument %s is neither a string nor a number", shorten(string(a), 80))
}

// original makes a task of one of the original's task objects. Names of files in
// it are relative to dir.
func original(kind string, b []byte, dir string, p *packer, t *api.TaskSpec) error {
	var o struct {
		Type     string            `json:"type"`
		Args     []json.RawMessage `json:"args"`
		FileName string            `json:"fileName"` // file
		User     string            `json:"user"`     // github
		Repo     string            `json:"repo"`
		Dir      string            `json:"dir"`
		Cmds     struct {
			Pre  []originalCommand `json:"pre"`
			Cmd  originalCommand   `json:"cmd"`
			Post []originalCommand `json:"post"`
		} `json:"cmds"`
		Source string `json:"source"` // function
	}
	if err := strictJSON(b, &o); err != nil {
		return err
	}
	switch kind {
	case "file":
		if o.FileName == "" {
			return errors.New("fileName is missing")
		}
		path := o.FileName
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		t.Kind, t.Name = tasks.File, filepath.Base(path)
		for _, a := range o.Args {
			s, err := originalArg(a)
			if err != nil {
				return err
			}
			t.Args = append(t.Args, jsonString(s))
		}
		_, err := p.file(path, &t.ContentBase64, &t.Blob)
		return err
	case "github":
		if o.User == "" || o.Repo == "" {
			return errors.New("user or repo is missing")
		}
		t.Kind, t.URL, t.Dir = tasks.Git, o.User+"/"+o.Repo, o.Dir
		var err error
		if t.Argv, err = o.Cmds.Cmd.argv(); err != nil {
			return err
		}
		if t.Pre, err = argvs(o.Cmds.Pre); err != nil {
			return err
		}
		t.Post, err = argvs(o.Cmds.Post)
		return err
	case "function":
		if o.Source == "" {
			return errors.New("source is missing")
		}
		t.Kind, t.Source, t.Args = tasks.JS, o.Source, o.Args
		return nil
	}
	return fmt.Errorf("type is %q; want file, github or function", shorten(kind, 40))
}

func argvs(cs []originalCommand) ([][]string, error) {
	var list [][]string
	for i := range cs {
		argv, err := cs[i].argv()
		if err != nil {
			return nil, err
		}
		list = append(list, argv)
	}
	return list, nil
}

// readLimited reads a file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return b, err
}
