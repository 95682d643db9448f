// Package original reads the task objects of strongloop/supercluster, whose idea
// scagent revives, and makes tasks of them. They run unchanged:
//
//	{"type":"file","fileName":"exFile.js","args":["--port",9997]}
//
//	{"type":"github","user":"strongloop","repo":"slc","dir":"/tmp",
//	 "cmds":{"pre":[{"cmd":"git","args":["checkout","v1.1"]}],
//	         "cmd":{"cmd":"./bin/slc","args":["help"]},
//	         "post":[]}}
//
//	{"type":"function","func":"function(a,b){return a+b}","args":[1,2]}
//
// A repository is cloned from GitHub, or from below "git_base", a URL, when the
// object has one. Numbers among the arguments of programs become strings, as
// they did there. A key that is not known is an error.
package original

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/scagent/scagent/tasks"
)

// GitHub is where repositories are, without a "git_base".
const GitHub = "https://github.com/"

// object has the keys of all three types.
type object struct {
	Type     string            `json:"type"`
	Args     []json.RawMessage `json:"args"`
	FileName string            `json:"fileName"`
	User     string            `json:"user"`
	Repo     string            `json:"repo"`
	Dir      string            `json:"dir"`
	GitBase  string            `json:"git_base"`
	Cmds     struct {
		Pre  []command `json:"pre"`
		Cmd  command   `json:"cmd"`
		Post []command `json:"post"`
	} `json:"cmds"`
	Func string `json:"func"`
}

type command struct {
	Cmd  string            `json:"cmd"`
	Args []json.RawMessage `json:"args"`
}

// Is reports whether a JSON object is one of the original's: it has a type.
func Is(b []byte) bool {
	var o struct {
		Type *string `json:"type"`
	}
	return json.Unmarshal(b, &o) == nil && o.Type != nil
}

// Task makes a task of a task object. The file of a file task is opened by
// open, see InDir. Errors wrap tasks.ErrBadTask and are one line.
func Task(b []byte, open func(fileName string) (tasks.Content, error)) (tasks.Task, error) {
	t, err := task(b, open)
	if err != nil {
		return tasks.Task{}, fmt.Errorf("%w: %w", tasks.ErrBadTask, err)
	}
	return t, nil
}

func task(b []byte, open func(string) (tasks.Content, error)) (t tasks.Task, err error) {
	var o object
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return t, err
	}
	if _, err := d.Token(); err != io.EOF {
		return t, errors.New("there is something after the object")
	}
	switch o.Type {
	case "file":
		if o.FileName == "" {
			return t, errors.New("a task of type file needs fileName")
		}
		t.Kind, t.Name = tasks.File, filepath.Base(o.FileName)
		words, err := words(o.Args)
		if err != nil {
			return t, err
		}
		for _, w := range words {
			s, err := json.Marshal(w)
			if err != nil {
				return t, err
			}
			t.Args = append(t.Args, s)
		}
		c, err := open(o.FileName)
		t.Content = &c
		return t, err
	case "github":
		if o.User == "" || o.Repo == "" {
			return t, errors.New("a task of type github needs user and repo")
		}
		base := GitHub
		if o.GitBase != "" {
			base = strings.TrimSuffix(o.GitBase, "/") + "/"
		}
		t.Kind, t.URL, t.Dir = tasks.Git, base+o.User+"/"+o.Repo, o.Dir
		if t.Argv, err = o.Cmds.Cmd.argv(); err != nil {
			return t, fmt.Errorf("cmds.cmd: %w", err)
		}
		if t.Pre, err = argvs(o.Cmds.Pre); err != nil {
			return t, fmt.Errorf("cmds.pre: %w", err)
		}
		if t.Post, err = argvs(o.Cmds.Post); err != nil {
			return t, fmt.Errorf("cmds.post: %w", err)
		}
		return t, nil
	case "function":
		if o.Func == "" {
			return t, errors.New("a task of type function needs func, its source")
		}
		t.Kind, t.Source, t.Args = tasks.JS, o.Func, o.Args
		return t, nil
	}
	return t, fmt.Errorf("type is %.40q; want file, github or function", o.Type)
}

func argvs(cs []command) ([][]string, error) {
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

func (c *command) argv() ([]string, error) {
	if c.Cmd == "" {
		return nil, errors.New("a command needs cmd")
	}
	args, err := words(c.Args)
	return append([]string{c.Cmd}, args...), err
}

// words returns arguments as programs get them.
func words(args []json.RawMessage) ([]string, error) {
	var ws []string
	for _, a := range args {
		var s string
		var n json.Number
		switch {
		case json.Unmarshal(a, &s) == nil:
			ws = append(ws, s)
		case json.Unmarshal(a, &n) == nil:
			ws = append(ws, n.String())
		default:
			return nil, fmt.Errorf("the argument %.80s is neither a string nor a number", a)
		}
	}
	return ws, nil
}

// InDir opens files by names relative to a directory, into memory: they may have
// at most tasks.MaxInlineBytes. Larger ones go as blobs, see Agent.PutBlob.
func InDir(dir string) func(string) (tasks.Content, error) {
	return func(name string) (tasks.Content, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		b, err := ReadFile(name, tasks.MaxInlineBytes)
		return tasks.Content{Inline: b}, err
	}
}

// ReadFile reads a file that a task object names. Whoever wrote the object need
// not be who reads the file, so it is a regular one, which ends and keeps nobody
// waiting, and has at most limit bytes.
func ReadFile(name string, limit int64) ([]byte, error) {
	st, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("fileName %.200q is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1)) // files of /proc say that they are empty
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("fileName %.200q has more than %d bytes; send it as a task of kind file with a blob", name, limit)
	}
	return b, err
}
