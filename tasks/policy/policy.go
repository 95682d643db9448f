// Package policy is what a worker lets tasks do, whatever a master asks. It comes
// from a file and flags of the worker's own host.
//
// The file is one JSON object. All of it may be left out, which allows everything
// and limits nothing; a key that is not known is an error.
//
//	{
//	  "kinds": ["command", "js"],        kinds of tasks; default: all
//	  "run_as": "builder",               user as whom tasks run
//	  "limits": {
//	    "wall_seconds": 3600,            an attempt's run
//	    "memory_bytes": 1073741824,      data of a process, RLIMIT_DATA; at least 16 MiB
//	    "processes": 512,                of the task's user in all, RLIMIT_NPROC
//	    "open_files": 1024,              of a process, RLIMIT_NOFILE; at least 16
//	    "file_bytes": 1073741824,        of a file that a process writes, RLIMIT_FSIZE
//	    "output_bytes": 67108864         of each of stdout and stderr; the rest is dropped,
//	                                     and the task has failed
//	  },
//	  "git": {
//	    "schemes": ["https", "ssh"],     default: all; file needs the kind command too
//	    "hosts": ["github.com", "*.example.org"]   default: all
//	  },
//	  "env": {
//	    "allow": ["CI", "APP_*"],        names that a task may set; default: all
//	    "refuse": ["LD_*"]               names that it may not
//	  },
//	  "dirs": ["/srv/work"]              where -dir may point, and below; default: anywhere
//	}
//
// Limits of memory, processes, files and file size need linux. A shell variable is
// no secret from a task that may run commands: env is for workers that run git or
// registered functions alone, and for keeping order.
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/scagent/scagent/tasks"
)

// MaxFileBytes bounds a policy file.
const MaxFileBytes = 1 << 20

// Policy is what tasks may do. The zero Policy allows everything.
type Policy struct {
	Kinds  []tasks.Kind `json:"kinds,omitempty"`
	RunAs  string       `json:"run_as,omitempty"`
	Limits Limits       `json:"limits,omitzero"`
	Git    Git          `json:"git,omitzero"`
	Env    Env          `json:"env,omitzero"`
	Dirs   []string     `json:"dirs,omitempty"`
}

// Limits bound an attempt; 0 is no bound.
type Limits struct {
	WallSeconds float64 `json:"wall_seconds,omitempty"`
	MemoryBytes int64   `json:"memory_bytes,omitempty"`
	Processes   int64   `json:"processes,omitempty"`
	OpenFiles   int64   `json:"open_files,omitempty"`
	FileBytes   int64   `json:"file_bytes,omitempty"`
	OutputBytes int64   `json:"output_bytes,omitempty"`
}

// Wall returns the bound on an attempt's run, 0 if there is none.
func (l Limits) Wall() time.Duration { return time.Duration(l.WallSeconds * float64(time.Second)) }

// Git says which repositories may be cloned; empty: any.
type Git struct {
	Schemes []string `json:"schemes,omitempty"`
	Hosts   []string `json:"hosts,omitempty"`
}

// Env says which variables a task may set. A name that ends with * stands for all
// that begin so.
type Env struct {
	Allow  []string `json:"allow,omitempty"`
	Refuse []string `json:"refuse,omitempty"`
}

// Refusal says why a task is not run here. Its text is one sentence behind the
// code, a stable word.
type Refusal struct{ Code, Text string }

// Codes of refusals.
const (
	KindNotAllowed = "kind_not_allowed"
	EnvNotAllowed  = "env_not_allowed"
	DirNotAllowed  = "dir_not_allowed"
)

// Error returns "code: text".
func (r *Refusal) Error() string { return r.Code + ": " + r.Text }

// Load reads a file.
func Load(path string) (Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return Policy{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return Policy{}, err
	}
	p, err := Parse(b)
	if err != nil {
		return Policy{}, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Parse reads the contents of a file.
func Parse(b []byte) (Policy, error) {
	if len(b) > MaxFileBytes {
		return Policy{}, fmt.Errorf("more than %d bytes", MaxFileBytes)
	}
	var p Policy
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		line := 1 + bytes.Count(b[:min(int(d.InputOffset()), len(b))], []byte("\n"))
		return Policy{}, fmt.Errorf("line %d: %s; the keys are in: scagent help policy", line, strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", " "), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return Policy{}, errors.New("there is something after the object")
	}
	return p, p.Validate()
}

// Validate reports the first setting that makes no sense.
func (p *Policy) Validate() error {
	for _, k := range p.Kinds {
		if !slices.Contains([]tasks.Kind{tasks.Command, tasks.File, tasks.Git, tasks.JS, tasks.Function}, k) {
			return fmt.Errorf("kinds: %.40q is none; want command, file, git, js or function", k)
		}
	}
	l := &p.Limits
	if l.WallSeconds < 0 || l.WallSeconds > 1e9 || l.WallSeconds != l.WallSeconds {
		return fmt.Errorf("limits: wall_seconds is %v; want 0 to 1e9", l.WallSeconds)
	}
	for _, n := range []struct {
		name         string
		value, least int64
	}{
		{"memory_bytes", l.MemoryBytes, 16 << 20}, {"processes", l.Processes, 1}, {"open_files", l.OpenFiles, 16},
		{"file_bytes", l.FileBytes, 1}, {"output_bytes", l.OutputBytes, 1},
	} {
		switch {
		case n.value != 0 && n.value < n.least:
			return fmt.Errorf("limits: %s is %d; want 0 for none, or at least %d", n.name, n.value, n.least)
		case n.value != 0 && n.name != "output_bytes" && runtime.GOOS != "linux":
			return fmt.Errorf("limits: %s needs linux", n.name)
		}
	}
	for _, s := range p.Git.Schemes {
		if !slices.Contains([]string{"https", "http", "ssh", "git", "file"}, s) {
			return fmt.Errorf("git: scheme %.40q; want https, http, ssh, git or file", s)
		}
	}
	for _, d := range p.Dirs {
		if !filepath.IsAbs(d) {
			return fmt.Errorf("dirs: %.80q is not an absolute path", d)
		}
	}
	for _, n := range slices.Concat(p.Env.Allow, p.Env.Refuse) {
		if n == "" || strings.Contains(strings.TrimSuffix(n, "*"), "*") || strings.ContainsAny(n, "=\x00") {
			return fmt.Errorf("env: %.40q is no name; want one, with * at its end for all that begin so", n)
		}
	}
	return nil
}

// Allows reports whether tasks of the kind are run.
func (p *Policy) Allows(k tasks.Kind) bool { return len(p.Kinds) == 0 || slices.Contains(p.Kinds, k) }

// Check says why the task is not run here, as a *Refusal; nil: it may run, if
// CheckDir has nothing against it. It waits for nothing.
func (p *Policy) Check(t *tasks.Task) error {
	if !p.Allows(t.Kind) {
		return &Refusal{KindNotAllowed, fmt.Sprintf("this worker runs no tasks of kind %s", t.Kind)}
	}
	for name := range t.Env {
		if len(p.Env.Allow) > 0 && !matches(p.Env.Allow, name) || matches(p.Env.Refuse, name) {
			return &Refusal{EnvNotAllowed, fmt.Sprintf("this worker lets no task set the variable %.80q", name)}
		}
	}
	return p.checkDir(t.Dir, filepath.Clean)
}

// CheckDir is the part of Check that looks at the directory itself, which can take
// as long as a file system does: links must not lead out of what is allowed. It is
// for keeping order: who may run things here can put a link in place afterwards.
func (p *Policy) CheckDir(t *tasks.Task) error {
	return p.checkDir(t.Dir, func(path string) string {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return real
		}
		return filepath.Clean(path)
	})
}

func (p *Policy) checkDir(dir string, resolve func(string) string) error {
	if dir == "" || len(p.Dirs) == 0 {
		return nil
	}
	for _, d := range p.Dirs {
		rel, err := filepath.Rel(resolve(d), resolve(dir))
		if err == nil && (rel == "." || filepath.IsLocal(rel)) {
			return nil
		}
	}
	return &Refusal{DirNotAllowed, fmt.Sprintf("this worker runs nothing in %.200q, only in %s and below", dir, strings.Join(p.Dirs, ", "))}
}

func matches(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		prefix, all := strings.CutSuffix(n, "*")
		return n == name || all && strings.HasPrefix(name, prefix)
	})
}
