package tasks

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Kind says how a task is run.
type Kind string

// The kinds of task.
const (
	Command  Kind = "command"  // a program of the worker's, by argv or as a shell line
	File     Kind = "file"     // a file of the submitter's, run by an interpreter
	Git      Kind = "git"      // a command inside a checked-out repository
	Function Kind = "function" // a Go function registered on the worker
	JS       Kind = "js"       // the source of a JavaScript function
)

// Limits on what a task may carry. Content above MaxInlineBytes travels by hash.
const (
	MaxArgvBytes   = 128 << 10 // one argument or environment value: the kernel's MAX_ARG_STRLEN
	MaxSpecBytes   = 768 << 10 // a whole task with everything in it, so that it fits into one frame
	MaxInlineBytes = 64 << 10  // contents carried inside the task
	MaxInputs      = 10_000    // files in Inputs
	MaxNameBytes   = 4096      // the path of an input or output
	MaxNameParts   = 128       // the directories of that path, and the file
)

// Task is the unit of work: what is to be run, with what. Which of its fields
// count depends on its Kind. A Task is a plain value and is not changed once
// submitted.
type Task struct {
	Kind Kind

	Argv  []string // command, git: program and arguments
	Shell string   // command: a line for sh -c, in place of Argv

	// Name is the function's name, or the file's.
	Name string
	// Args are the arguments: any JSON for function and js, JSON strings for file.
	Args []json.RawMessage
	// Packed are the arguments of a function in msgpack, in place of Args, when
	// a Go program calls.
	Packed []byte

	Content     *Content // file: what to run
	Interpreter string   // file: with what

	URL  string     // git: the repository
	Ref  string     // git: branch, tag or commit
	Pre  [][]string // git: commands before Argv
	Post [][]string // git: commands after Argv

	Source string // js: the function's source

	Env     map[string]string // added to the clean environment
	Dir     string            // an existing directory of the worker's to run in
	Stdin   *Content          // nil: standard input is closed
	Inputs  []Input           // files put into the work directory
	Outputs []string          // patterns of files to bring back
}

// Content is bytes that a task carries, in place or by hash.
type Content struct {
	Inline []byte // at most MaxInlineBytes when Blob is empty
	Blob   string // hex SHA-256 of bytes in a blob store, in place of Inline; of an output on its way to the master, its name at the worker
	Size   int64  // of the blob, in bytes
}

// Input is a file that is put into the work directory before a task runs.
type Input struct {
	Name string // slash-separated, relative, inside the work directory
	// Mode has the permission bits, 0 meaning 0644, and for what is no regular
	// file fs.ModeDir (a directory, perhaps empty) or fs.ModeSymlink, whose
	// target is its content.
	Mode uint32
	Content
}

// FileModes are the bits that the mode of an input or output may have.
const FileModes = uint32(fs.ModePerm | fs.ModeDir | fs.ModeSymlink)

// Size returns how many bytes c stands for.
func (c *Content) Len() int64 {
	switch {
	case c == nil:
		return 0
	case c.Blob != "":
		return c.Size
	}
	return int64(len(c.Inline))
}

var (
	envName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	blobName = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Validate reports the first thing in t that no worker could run, as an error
// that wraps ErrBadTask and names the field.
func (t *Task) Validate() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", ErrBadTask, fmt.Sprintf(format, a...))
	}
	switch t.Kind {
	case Command:
		if (len(t.Argv) == 0) == (t.Shell == "") {
			return bad("a command needs argv or shell, one of the two")
		}
	case Function:
		if t.Name == "" {
			return bad("a function task needs the function's name")
		}
	case File, Git, JS:
	case "":
		return bad("kind is missing; want one of command, file, git, function, js")
	default:
		return bad("kind is %q; want one of command, file, git, function, js", t.Kind)
	}
	if len(t.Argv) > 0 && t.Argv[0] == "" {
		return bad("argv[0] is empty; want the program to run")
	}
	for i, a := range t.Argv {
		if err := checkText(a); err != nil {
			return bad("argv[%d] %v", i, err)
		}
	}
	if err := checkText(t.Shell); err != nil {
		return bad("shell %v", err)
	}
	for k, v := range t.Env {
		if !envName.MatchString(k) {
			return bad("env has the name %q; want letters, digits and _", k)
		}
		if err := checkText(v); err != nil {
			return bad("env %s %v", k, err)
		}
	}
	if t.Dir != "" && (!filepath.IsAbs(t.Dir) || strings.ContainsRune(t.Dir, 0)) {
		return bad("dir is %q; want an absolute path on the worker", t.Dir)
	}
	if err := t.Stdin.validate(); err != nil {
		return bad("stdin %v", err)
	}
	if err := t.Content.validate(); err != nil {
		return bad("content %v", err)
	}
	if len(t.Inputs) > MaxInputs {
		return bad("inputs has %d files; want at most %d, pack them into an archive", len(t.Inputs), MaxInputs)
	}
	seen := make(map[string]bool, len(t.Inputs))
	for i := range t.Inputs {
		in := &t.Inputs[i]
		if err := CheckName(in.Name); err != nil {
			return bad("inputs[%d]: %v", i, err)
		}
		if seen[path.Clean(in.Name)] {
			return bad("inputs[%d]: the name %q is there twice", i, in.Name)
		}
		seen[path.Clean(in.Name)] = true
		if in.Mode&^FileModes != 0 || fs.FileMode(in.Mode).Type() == fs.ModeDir|fs.ModeSymlink {
			return bad("inputs[%d]: mode is %s; want permission bits of a file, a directory or a symbolic link", i, fs.FileMode(in.Mode))
		}
		if err := in.validate(); err != nil {
			return bad("inputs[%d]: content %v", i, err)
		}
	}
	for i, o := range t.Outputs {
		if err := CheckName(o); err != nil {
			return bad("outputs[%d]: %v", i, err)
		}
		if _, err := path.Match(o, ""); err != nil {
			return bad("outputs[%d]: %q is not a pattern: a [ without its ]?", i, o)
		}
	}
	return nil
}

func (c *Content) validate() error {
	if c == nil || c.Blob == "" {
		return nil
	}
	if !blobName.MatchString(c.Blob) {
		return fmt.Errorf("has the blob %.80q; want 64 hexadecimal digits", c.Blob)
	}
	if c.Size < 0 {
		return fmt.Errorf("has a negative size")
	}
	return nil
}

func checkText(s string) error {
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("has a NUL byte, which no program can be given")
	}
	if len(s) >= MaxArgvBytes {
		return fmt.Errorf("is %d bytes long, at most %d; send it as standard input or a file", len(s), MaxArgvBytes-1)
	}
	return nil
}

// CheckName reports why name cannot be a file in a work directory: it must be
// relative, stay inside, be UTF-8 without control characters, and fit a path.
func CheckName(name string) error {
	switch {
	case name == "" || path.Clean(name) == ".":
		return fmt.Errorf("the file name is empty")
	case len(name) > MaxNameBytes:
		return fmt.Errorf("a file name is %d bytes long, at most %d", len(name), MaxNameBytes)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("the file name %q has control characters or is not UTF-8", name)
	case !filepath.IsLocal(filepath.FromSlash(name)):
		return fmt.Errorf("the file name %q leaves the work directory; want a relative path inside it", name)
	}
	if n := strings.Count(name, "/") + 1; n > MaxNameParts {
		return fmt.Errorf("the file name %.40q… is %d directories deep, at most %d; pack it into an archive", name, n, MaxNameParts)
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > 255 {
			return fmt.Errorf("the file name %.40q… has a part of more than 255 bytes", name)
		}
	}
	return nil
}
