package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
	"github.com/scagent/scagent/tasks/runner/workdir"
)

// Config configures a Runner.
type Config struct {
	// Root is where work directories are made, an absolute path; it is made when
	// it is not there. With User, that user must be able to reach it.
	Root string
	// MirrorRoot is where mirrors are kept, as Root. Several agents of one user
	// may share it.
	MirrorRoot string
	// Base is what USER/REPO lies below. Default: DefaultBase.
	Base string
	// Git is the git program. Default: git, from the agent's PATH.
	Git string
	// Shell runs shell lines, with -c. Default: /bin/sh; on windows cmd, with /C.
	Shell string
	// AllowFile lets tasks name repositories on this machine, by file:// or an
	// absolute path: all that User can read.
	AllowFile bool
	// Schemes and Hosts bound what may be cloned; none: any. A host that begins
	// with *. stands for all below it.
	Schemes, Hosts []string
	// Grace is the time between asking a process to end and killing it.
	// Default: process.DefaultGrace, 5 s.
	Grace time.Duration
	// Linger is how long output is read after a process has exited when
	// something else holds it open. Default: process.DefaultLinger, 2 s.
	Linger time.Duration
	Nets   *process.Nets  // nil: none
	User   *process.User  // whom git and the commands run as; nil: the agent's own
	Limits process.Limits // of each process
}

// Stats count what a Runner has done since it was made.
type Stats struct {
	Clones  int64 // mirrors made
	Fetches int64 // updates of mirrors
	Hits    int64 // attempts that needed neither
}

// Runner runs commands in repositories. It may be used by any number of goroutines.
type Runner struct {
	cfg  Config         // constant
	work workdir.Config // constant

	clones, fetches, hits atomic.Int64

	// mu guards the field below. It is not held over I/O.
	mu      sync.Mutex
	mirrors map[string]*mirror // by URL: those in use by an attempt
}

// New checks the configuration and returns a Runner. It makes nothing on disk.
func New(cfg Config) (*Runner, error) {
	r := &Runner{cfg: cfg, mirrors: make(map[string]*mirror)}
	r.work = workdir.Config{Root: cfg.Root, Grace: cfg.Grace, Linger: cfg.Linger, Nets: cfg.Nets, User: cfg.User, Limits: cfg.Limits}
	if err := r.work.Check(); err != nil {
		return nil, fmt.Errorf("git: %w", err)
	}
	if !filepath.IsAbs(cfg.MirrorRoot) {
		return nil, fmt.Errorf("git: MirrorRoot is %q; want an absolute path", cfg.MirrorRoot)
	}
	if _, err := URL("user/repo", cfg.Base); err != nil {
		return nil, fmt.Errorf("git: Base: %w", err)
	}
	if cfg.Git == "" {
		r.cfg.Git = "git"
	}
	if cfg.Shell == "" {
		r.cfg.Shell = "/bin/sh"
		if runtime.GOOS == "windows" {
			r.cfg.Shell = "cmd"
		}
	}
	return r, nil
}

// Stats returns the counts.
func (r *Runner) Stats() Stats {
	return Stats{Clones: r.clones.Load(), Fetches: r.fetches.Load(), Hits: r.hits.Load()}
}

// Run runs the attempt and returns when nothing of it runs any more.
func (r *Runner) Run(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
	t := a.Task
	url, err := r.check(t)
	if err != nil {
		return workdir.Failed(ctx, err)
	}
	at := *a
	if t.Dir == "" { // inputs are put into the work tree, and outputs found there
		bare := *t
		bare.Inputs, bare.Outputs = nil, nil
		at.Task = &bare
	}
	return workdir.Run(ctx, &r.work, &at, func(d *workdir.Dir, s *process.Spec) tasks.Outcome {
		m, err := r.acquire(url)
		if err != nil {
			return process.Failure(ctx, err)
		}
		defer r.release(m)
		j := &job{r: r, ctx: ctx, a: a, dir: d}
		commit, err := j.commit(m, t.Ref)
		if err != nil {
			return process.Failure(ctx, err)
		}
		if t.Dir == "" {
			return j.inWorkDir(m, commit, s)
		}
		tree := filepath.Join(t.Dir, repoName(url)+"-"+filepath.Base(d.Path()))
		if err := d.Elsewhere(tree); err != nil {
			return process.Failure(ctx, err)
		}
		if err := j.checkout(m, commit, tree); err != nil {
			return process.Failure(ctx, err)
		}
		s.Dir = tree
		return j.commands(s)
	})
}

// check returns the URL of a task that can be run.
func (r *Runner) check(t *tasks.Task) (string, error) {
	url, err := URL(t.URL, r.cfg.Base)
	if err == nil {
		err = checkRef(t.Ref)
	}
	switch {
	case err != nil:
	case (len(t.Argv) == 0) == (t.Shell == ""):
		err = errors.New("a git task needs a command: argv or shell, one of the two")
	default:
		for _, argv := range append(t.Pre[:len(t.Pre):len(t.Pre)], t.Post...) {
			if len(argv) == 0 || argv[0] == "" {
				err = errors.New("a command of pre or post is empty; want the program to run")
			}
		}
	}
	if err != nil {
		return "", badInput("%v", err)
	}
	return url, r.allowed(url)
}

// allowed says why a repository is not cloned here.
func (r *Runner) allowed(url string) error {
	s, err := scheme(url)
	if err != nil {
		return badInput("%v", err)
	}
	refuse := func(code, what string) error {
		return &failure{tasks.Refused, fmt.Sprintf("%s: repository %.200q: this worker clones none %s", code, url, what)}
	}
	switch {
	case s == schemeFile && !r.cfg.AllowFile:
		return refuse("git_file_not_allowed", "of its own files")
	case len(r.cfg.Schemes) > 0 && !slices.Contains(r.cfg.Schemes, s):
		return refuse("git_scheme_not_allowed", "over "+s)
	case len(r.cfg.Hosts) > 0 && s != schemeFile && !slices.ContainsFunc(r.cfg.Hosts, func(h string) bool { return isHost(h, hostOf(url)) }):
		return refuse("git_host_not_allowed", "from "+hostOf(url))
	}
	return nil
}

// isHost reports whether a host is the one that is allowed, or below it.
func isHost(allowed, host string) bool {
	if below, ok := strings.CutPrefix(allowed, "*."); ok {
		return len(host) > len(below)+1 && strings.EqualFold(host[len(host)-len(below)-1:], "."+below)
	}
	return strings.EqualFold(allowed, host)
}

// inWorkDir runs the commands in a work tree that is the work directory.
func (j *job) inWorkDir(m *mirror, commit string, s *process.Spec) tasks.Outcome {
	name := repoName(m.url)
	if err := j.checkout(m, commit, filepath.Join(j.dir.Path(), name)); err != nil {
		return process.Failure(j.ctx, err)
	}
	tree, err := j.dir.Sub(name)
	if err != nil {
		return process.Failure(j.ctx, err)
	}
	defer tree.Close()
	for i := range j.a.Task.Inputs {
		in := &j.a.Task.Inputs[i]
		st, err := os.Lstat(filepath.Join(tree.Path(), filepath.FromSlash(in.Name)))
		if err == nil && !(st.IsDir() && fs.FileMode(in.Mode).IsDir()) {
			return process.Failure(j.ctx, badInput("input %.80q: the repository has something of this name; choose another", in.Name))
		}
	}
	if err := tree.Place(j.ctx, j.a); err != nil {
		return process.Failure(j.ctx, err)
	}
	if u := j.r.cfg.User; u != nil && len(j.a.Task.Inputs) > 0 {
		if err := tree.Give(int(u.UID), int(u.GID)); err != nil {
			return process.Failure(j.ctx, err)
		}
	}
	s.Dir = tree.Path()
	if s.Env, err = tree.Env(j.a); err != nil {
		return process.Failure(j.ctx, err)
	}
	out := j.commands(s)
	tree.CollectInto(j.ctx, j.a, &out)
	return out
}

// checkout makes a work tree of a commit of the mirror. Its origin is the real
// repository.
func (j *job) checkout(m *mirror, commit, tree string) error {
	_, err := j.git(schemeFile, "", "clone", "--quiet", "--shared", "--no-checkout", "--no-recurse-submodules", noTemplate(), "--", m.dir, tree)
	var failed *gitError
	if errors.As(err, &failed) && failed.says("could not create") {
		return badInput("dir %s: no directory for the repository can be made there: %s", filepath.Dir(tree), failed.line())
	}
	if err == nil {
		_, err = j.git(schemeFile, "", "-C", tree, "config", "remote.origin.url", m.url)
	}
	if err == nil {
		_, err = j.git(schemeFile, "", "-C", tree, "checkout", "--quiet", "--detach", "--no-recurse-submodules", commit, "--")
	}
	return err
}
