package workdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/scagent/scagent/tasks"
)

// MaxOutputs is the most files and links that one attempt may bring back, and
// the most directories.
const MaxOutputs = 10_000

// Collected is what Collect found.
type Collected struct {
	Files []tasks.OutputFile
	// Missing are the patterns that no file was found for.
	Missing []string
	// Notes say, a line each, what was found and left out, as far as they are few.
	Notes []string

	unnoted int // what was left out beyond that
}

// maxNotes bounds Notes: a task can make any number of what is left out.
const maxNotes = 100

// Text returns what is wrong as one line, empty if nothing is.
func (c *Collected) Text() string {
	var parts []string
	for _, p := range c.Missing {
		parts = append(parts, fmt.Sprintf("output %q was not made", p))
	}
	const most = 5
	parts = append(parts, c.Notes...)
	if n := len(parts) + c.unnoted; n > most {
		parts = append(parts[:most], fmt.Sprintf("and %d more", n-most))
	}
	return strings.Join(parts, "; ")
}

// Collect takes what the task's output patterns name out of the directory and
// hands the files to a.Keep. Each element of a pattern is matched as by
// path.Match, but a name that begins with a dot only by one that does too; the
// element ** stands for any number of directories. A pattern that matches a
// directory brings everything in it.
//
// Files come with exactly their bytes and mode. A symbolic link comes as one
// when what it leads to is inside the directory, or would be, and is left out
// with a note otherwise; an absolute one that leads inside becomes relative.
// Directories come along where they are more than the parent of something with
// the usual mode 0755. In a directory that was given to another user, what is not
// that user's is left out: the agent could read what the task could not. Nothing of
// the task may run any more.
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
	c := &collector{ctx: ctx, dir: d, root: root, found: make(map[string]bool), opened: make(map[string]fs.FileMode)}
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
	return c.out, c.keep(a)
}

// collector finds files, and then hands them over.
type collector struct {
	ctx    context.Context
	dir    *Dir
	root   *os.Root
	found  map[string]bool        // by name
	opened map[string]fs.FileMode // directories that had to be made readable, and how they were
	items  []item                 // in the order found: directories before what is in them
	files  int                    // how many of items are no directories
	hits   int                    // matches so far, including those found before and those left out
	out    Collected
}

// item is something found. Only a regular file has neither directory nor link
// bits in its mode.
type item struct {
	name   string
	mode   fs.FileMode // type and permissions
	target string      // of a symbolic link
}

func (c *collector) note(format string, a ...any) {
	c.hits++
	if len(c.out.Notes) == maxNotes {
		c.out.unnoted++
		return
	}
	c.out.Notes = append(c.out.Notes, fmt.Sprintf(format, a...))
}

// match looks in dir for what the elements of a pattern match.
func (c *collector) match(dir string, elems []string) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if elems[0] == "**" {
		return c.matchAny(dir, elems)
	}
	if !strings.ContainsAny(elems[0], `*?[\`) {
		return c.matched(path.Join(dir, elems[0]), elems[1:])
	}
	return c.entries(dir, elems[0], func(name string) error { return c.matched(name, elems[1:]) })
}

// matchAny looks in dir, and in all directories below it, for what follows the
// ** that elems begins with.
func (c *collector) matchAny(dir string, elems []string) error {
	switch rest := elems[1:]; {
	case len(rest) > 0 && rest[0] == "**":
		return c.matchAny(dir, rest)
	case len(rest) > 0:
		if err := c.match(dir, rest); err != nil {
			return err
		}
	case dir != ".":
		return c.matched(dir, nil)
	default:
		return c.match(dir, []string{"*"})
	}
	return c.entries(dir, "*", func(name string) error {
		if st, err := c.root.Lstat(filepath.FromSlash(name)); err != nil || !st.IsDir() {
			return nil
		}
		return c.match(name, elems)
	})
}

// entries calls do for the entries of dir that match one element of a pattern.
func (c *collector) entries(dir, elem string, do func(name string) error) error {
	c.open(dir)
	entries, err := fs.ReadDir(c.root.FS(), dir)
	if err != nil {
		return nil // not a directory, or not to be read: nothing matches
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(elem, ".") {
			continue
		}
		if ok, err := path.Match(elem, e.Name()); err != nil {
			return badInput("output %q: %v", elem, err)
		} else if !ok {
			continue
		}
		if err := do(path.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// open gives the owner the right to read a directory that the task took away.
func (c *collector) open(dir string) {
	name := filepath.FromSlash(dir)
	if st, err := c.root.Lstat(name); err == nil && st.IsDir() && st.Mode()&0o500 != 0o500 {
		c.opened[dir] = st.Mode()
		c.root.Chmod(name, st.Mode().Perm()|0o700) // an error: it cannot be read then
	}
}

// matched goes on with the rest of a pattern at name, or takes it.
func (c *collector) matched(name string, rest []string) error {
	st, err := c.root.Lstat(filepath.FromSlash(name))
	switch {
	case err != nil:
		return nil
	case len(rest) == 0:
		return c.take(name, st)
	case st.IsDir():
		return c.match(name, rest)
	}
	return nil
}

// take adds the file of that name, or everything in the directory of that name.
func (c *collector) take(name string, st fs.FileInfo) error {
	if !st.IsDir() {
		return c.add(name, st.Mode())
	}
	return fs.WalkDir(c.root.FS(), name, func(p string, e fs.DirEntry, err error) error {
		switch {
		case c.ctx.Err() != nil:
			return context.Cause(c.ctx)
		case err != nil:
			c.note("output %q: cannot be read", shorten(p))
			return nil
		case !e.IsDir():
			return c.add(p, e.Type())
		}
		st, err := c.root.Lstat(filepath.FromSlash(p))
		if err != nil {
			c.note("output %q: cannot be read", shorten(p))
			return fs.SkipDir
		}
		err = c.add(p, st.Mode())
		c.open(p)
		return err
	})
}

// add adds what has that name, or notes why not.
func (c *collector) add(name string, mode fs.FileMode) error {
	it := item{name: name, mode: mode & (fs.ModeType | fs.ModePerm)}
	switch it.mode.Type() {
	case 0:
	case fs.ModeDir:
		if was, ok := c.opened[name]; ok {
			it.mode = was & (fs.ModeType | fs.ModePerm)
		}
	case fs.ModeSymlink:
		it.mode = fs.ModeSymlink | fs.ModePerm
		if it.target = c.target(name); it.target == "" {
			c.note("output %q is a symbolic link that leads nowhere inside the work directory: left out", shorten(name))
			return nil
		}
	default:
		c.note("output %q is not a regular file: left out", shorten(name))
		return nil
	}
	if err := tasks.CheckName(name); err != nil {
		c.note("an output is left out: %v", err)
		return nil
	}
	c.hits++
	if c.found[name] {
		return nil
	}
	if !it.mode.IsDir() {
		c.files++
	}
	if c.files > MaxOutputs || len(c.items)-c.files >= MaxOutputs {
		return badInput("the outputs are more than %d files or directories; pack them into an archive", MaxOutputs)
	}
	c.found[name] = true
	c.items = append(c.items, it)
	return nil
}

// target returns where a symbolic link leads, relative to its own directory;
// empty if that is outside.
func (c *collector) target(name string) string {
	target, err := c.root.Readlink(filepath.FromSlash(name))
	if err != nil {
		return ""
	}
	dir := path.Dir(name)
	if filepath.IsAbs(target) {
		if target, err = filepath.Rel(filepath.Join(c.dir.path, filepath.FromSlash(dir)), target); err != nil {
			return ""
		}
	}
	target = filepath.ToSlash(target)
	if !leadsInside(name, target) {
		return ""
	}
	// It may go through another link. A Root does not follow it outside.
	if _, err := c.root.Stat(filepath.FromSlash(dir + "/" + target)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return target
}

// keep hands the files found to a.Keep, from a directory that the task's user
// cannot reach, so that nothing can be put in their place.
func (c *collector) keep(a *tasks.Attempt) error {
	if len(c.items) == 0 {
		return nil
	}
	parent, work, err := c.dir.fromRoot()
	if err != nil {
		return err
	}
	defer parent.Close()
	stage := filepath.Base(c.dir.base) + ".out"
	if err := parent.Mkdir(stage, 0o700); err != nil {
		return internal("collect outputs", err)
	}
	defer parent.RemoveAll(stage)

	filled := make(map[string]bool) // directories that something else makes be there
	for i := range c.items {
		filled[path.Dir(c.items[i].name)] = true
	}
	for i, it := range c.items {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		out := tasks.OutputFile{Name: it.name, Mode: uint32(it.mode)}
		switch it.mode.Type() {
		case fs.ModeDir:
			if filled[it.name] && it.mode.Perm() == parentMode {
				continue
			}
		case fs.ModeSymlink:
			out.Inline = []byte(it.target)
		default:
			from := filepath.Join(work, filepath.FromSlash(it.name))
			switch err := c.keepFile(a, &out, parent, from, filepath.Join(stage, fmt.Sprint(i))); {
			case err == errAnothers:
				c.note("output %q belongs to another user: left out", shorten(it.name))
				continue
			case err != nil:
				return internal(fmt.Sprintf("output %q", shorten(it.name)), err)
			}
		}
		c.out.Files = append(c.out.Files, out)
	}
	return nil
}

var errAnothers = errors.New("belongs to another user")

// keepFile moves one file to staged and hands it over. Both names are relative
// to parent. Who owns it is looked at where the task's user cannot put something
// else in its place.
func (c *collector) keepFile(a *tasks.Attempt, out *tasks.OutputFile, parent *os.Root, from, staged string) error {
	err := parent.Rename(from, staged)
	if errors.Is(err, fs.ErrPermission) { // out of a read-only directory
		if err := parent.Chmod(filepath.Dir(from), 0o700); err != nil {
			return err
		}
		err = parent.Rename(from, staged)
	}
	if err != nil {
		return err
	}
	st, err := parent.Lstat(staged)
	if err != nil || !st.Mode().IsRegular() {
		return errors.Join(err, errors.New("changed while it was collected"))
	}
	if u := c.dir.user; u != nil && !ownedBy(st, *u) {
		return errAnothers
	}
	if st.Mode()&0o400 == 0 { // the task may have taken away the right to read it
		if err := parent.Chmod(staged, st.Mode().Perm()|0o400); err != nil {
			return err
		}
	}
	out.Mode = uint32(st.Mode().Perm())
	out.Content, err = a.Keep(filepath.Join(filepath.Dir(c.dir.base), staged))
	return err
}
