package workdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/scagent/scagent/tasks"
)

// MaxOutputs is the most files that one attempt may bring back.
const MaxOutputs = 10_000

// Collected is what Collect found.
type Collected struct {
	Files []tasks.OutputFile
	// Missing are the patterns that no file was found for.
	Missing []string
	// Notes say, a line each, what was found and left out.
	Notes []string
}

// Text returns what is wrong as one line, empty if nothing is.
func (c *Collected) Text() string {
	var parts []string
	for _, p := range c.Missing {
		parts = append(parts, fmt.Sprintf("output %q was not made", p))
	}
	const most = 5
	parts = append(parts, c.Notes...)
	if len(parts) > most {
		parts = append(parts[:most], fmt.Sprintf("and %d more", len(parts)-most))
	}
	return strings.Join(parts, "; ")
}

// Collect takes the files that the task's output patterns name out of the
// directory and hands them to a.Keep. Each element of a pattern is matched as
// by path.Match, but a name that begins with a dot only by one that does too. A
// pattern that matches a directory brings everything in it. Nothing of the task
// may run any more.
//
// The error is an *Error, or the cause of ctx when that has ended; what was
// collected so far is returned too.
func (d *Dir) Collect(ctx context.Context, a *tasks.Attempt) (Collected, error) {
	if len(a.Task.Outputs) == 0 {
		return Collected{}, nil
	}
	root, err := d.open()
	if err != nil {
		return Collected{}, err
	}
	c := &collector{ctx: ctx, root: root, seen: make(map[string]bool)}
	for _, pattern := range a.Task.Outputs {
		before := c.hits
		if err := tasks.CheckName(pattern); err != nil {
			return c.out, badInput("output: %v", err)
		}
		if err := c.match(".", strings.Split(path.Clean(pattern), "/")); err != nil {
			return c.out, err
		}
		if c.hits == before {
			c.out.Missing = append(c.out.Missing, pattern)
		}
	}
	return c.out, c.keep(d, a)
}

// collector finds files, and then hands them over.
type collector struct {
	ctx   context.Context
	root  *os.Root
	seen  map[string]bool // names found
	names []string        // files to be kept, in the order found
	links map[string]bool // those of names that are symbolic links
	hits  int             // matches so far, including those seen before and those left out
	out   Collected
}

func (c *collector) note(format string, a ...any) {
	c.hits++
	c.out.Notes = append(c.out.Notes, fmt.Sprintf(format, a...))
}

// match looks in dir for what the elements of a pattern match.
func (c *collector) match(dir string, elems []string) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if !strings.ContainsAny(elems[0], `*?[\`) {
		return c.matched(path.Join(dir, elems[0]), elems[1:])
	}
	entries, err := fs.ReadDir(c.root.FS(), dir)
	if err != nil {
		return nil // not a directory, or not to be read: nothing matches
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(elems[0], ".") {
			continue
		}
		if ok, err := path.Match(elems[0], e.Name()); err != nil {
			return badInput("output %q: %v", elems[0], err)
		} else if !ok {
			continue
		}
		if err := c.matched(path.Join(dir, e.Name()), elems[1:]); err != nil {
			return err
		}
	}
	return nil
}

// matched goes on with the rest of a pattern at name, or takes it.
func (c *collector) matched(name string, rest []string) error {
	st, err := c.root.Lstat(filepath.FromSlash(name))
	if err != nil {
		return nil
	}
	if len(rest) == 0 {
		return c.take(name, st)
	}
	if st.IsDir() {
		return c.match(name, rest)
	}
	return nil
}

// take adds the file of that name, or everything in the directory of that name.
func (c *collector) take(name string, st fs.FileInfo) error {
	if !st.IsDir() {
		return c.add(name, st.Mode())
	}
	c.hits++
	return fs.WalkDir(c.root.FS(), name, func(p string, e fs.DirEntry, err error) error {
		switch {
		case c.ctx.Err() != nil:
			return context.Cause(c.ctx)
		case err != nil:
			c.note("output %q: cannot be read", shorten(p))
			return nil
		case e.IsDir():
			return nil
		}
		return c.add(p, e.Type())
	})
}

// add adds one file, or notes why not.
func (c *collector) add(name string, mode fs.FileMode) error {
	link := mode&fs.ModeSymlink != 0
	if link {
		st, err := c.root.Stat(filepath.FromSlash(name)) // fails on what leads outside
		switch {
		case err != nil:
			c.note("output %q is a symbolic link that leads nowhere inside the work directory: left out", shorten(name))
			return nil
		case st.IsDir():
			c.note("output %q is a symbolic link to a directory: left out", shorten(name))
			return nil
		}
		mode = st.Mode()
	}
	if !mode.IsRegular() {
		c.note("output %q is not a regular file: left out", shorten(name))
		return nil
	}
	if err := tasks.CheckName(name); err != nil {
		c.note("an output is left out: %v", err)
		return nil
	}
	c.hits++
	if c.seen[name] {
		return nil
	}
	if len(c.names) == MaxOutputs {
		return badInput("the outputs are more than %d files; pack them into an archive", MaxOutputs)
	}
	c.seen[name] = true
	c.names = append(c.names, name)
	if link {
		if c.links == nil {
			c.links = make(map[string]bool)
		}
		c.links[name] = true
	}
	return nil
}

// keep hands the files found to a.Keep, from a directory that the task's user
// cannot reach, so that nothing can be put in their place.
func (c *collector) keep(d *Dir, a *tasks.Attempt) (err error) {
	if len(c.names) == 0 {
		return nil
	}
	parent, err := os.OpenRoot(filepath.Dir(d.path))
	if err != nil {
		return internal("collect outputs", err)
	}
	defer parent.Close()
	work := filepath.Base(d.path)
	stage := work + ".out"
	if err := parent.Mkdir(stage, 0o700); err != nil {
		return internal("collect outputs", err)
	}
	defer parent.RemoveAll(stage)

	// Links first: what they lead to is moved away with the rest.
	for _, links := range []bool{true, false} {
		for i, name := range c.names {
			if c.links[name] != links {
				continue
			}
			if c.ctx.Err() != nil {
				return context.Cause(c.ctx)
			}
			staged := filepath.Join(stage, fmt.Sprint(i))
			if links {
				err = copyFile(parent, staged, c.root, filepath.FromSlash(name))
			} else {
				err = parent.Rename(filepath.Join(work, filepath.FromSlash(name)), staged)
			}
			if err != nil {
				return internal(fmt.Sprintf("output %q", shorten(name)), err)
			}
			st, err := parent.Lstat(staged)
			if err != nil || !st.Mode().IsRegular() {
				return internal(fmt.Sprintf("output %q", shorten(name)), errors.Join(err, errors.New("changed while it was collected")))
			}
			if st.Mode()&0o400 == 0 { // the task may have taken away the right to read it
				if err := parent.Chmod(staged, st.Mode().Perm()|0o400); err != nil {
					return internal(fmt.Sprintf("output %q", shorten(name)), err)
				}
			}
			content, err := a.Keep(filepath.Join(filepath.Dir(d.path), staged))
			if err != nil {
				return internal(fmt.Sprintf("output %q", shorten(name)), err)
			}
			c.out.Files = append(c.out.Files, tasks.OutputFile{Name: name, Mode: uint32(st.Mode().Perm()), Content: content})
		}
	}
	return nil
}

func copyFile(to *os.Root, toName string, from *os.Root, name string) error {
	in, err := from.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := to.OpenFile(toName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(st.Mode().Perm()), out.Close())
}
