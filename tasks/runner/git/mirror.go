package git

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/scagent/scagent/tasks"
)

// headRef is where a mirror has the HEAD of its repository.
const headRef = "refs/scagent/HEAD"

// fetching is a file in a mirror while it is updated: when it is there before,
// somebody was killed.
const fetching = "scagent-fetching"

// freshSuffix ends the name of a mirror that is being made.
const freshSuffix = ".new"

// mirror is the local copy of a repository.
type mirror struct {
	url, scheme string
	name        string // of its directory
	parent      string // of its directory
	dir         string // parent and name
	lockPath    string

	users int // attempts that have it; guarded by Runner.mu

	lock    chan struct{} // cap 1; full while someone holds it
	fetched time.Time     // when the last fetch that went well was begun; guarded by lock
}

// gitconfig returns the path of the configuration of our git.
func (r *Runner) gitconfig() string { return filepath.Join(r.cfg.MirrorRoot, "gitconfig") }

// repositories returns the directory with the mirrors: a user's own.
func (r *Runner) repositories() string {
	if u := r.cfg.User; u != nil {
		return filepath.Join(r.cfg.MirrorRoot, fmt.Sprintf("uid-%d", u.UID))
	}
	return filepath.Join(r.cfg.MirrorRoot, "own")
}

// lockPath returns the path of the lock of a mirror.
func (r *Runner) lockPath(name string) string {
	return filepath.Join(r.cfg.MirrorRoot, strings.TrimSuffix(name, ".git")+".lock")
}

// acquire returns the mirror of a URL, which need not be on disk yet. It must be
// released.
func (r *Runner) acquire(url string) (*mirror, error) {
	if err := r.makeDirs(); err != nil {
		return nil, &failure{tasks.Internal, fmt.Sprintf("mirrors: %v", err)}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.mirrors[url]
	if m == nil {
		sum := sha256.Sum256([]byte(url))
		m = &mirror{url: url, name: hex.EncodeToString(sum[:16]) + ".git", parent: r.repositories(), lock: make(chan struct{}, 1)}
		m.scheme, _ = scheme(url)
		m.dir, m.lockPath = filepath.Join(m.parent, m.name), r.lockPath(m.name)
		r.mirrors[url] = m
	}
	m.users++
	return m, nil
}

func (r *Runner) release(m *mirror) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.users--; m.users == 0 {
		delete(r.mirrors, m.url)
	}
}

// makeDirs makes what is needed before the first mirror, where it is not there.
func (r *Runner) makeDirs() error {
	if err := os.MkdirAll(filepath.Dir(r.cfg.MirrorRoot), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(r.cfg.MirrorRoot, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chmod(r.cfg.MirrorRoot, 0o711); err != nil { // whatever the umask
		return err
	}
	repos := r.repositories()
	if err := os.Mkdir(repos, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if u := r.cfg.User; u != nil {
		if err := os.Lchown(repos, int(u.UID), int(u.GID)); err != nil {
			return err
		}
	}
	return writeConfiguration(r.gitconfig())
}

// writeConfiguration writes the file whole or not at all: another agent may use it.
func writeConfiguration(path string) error {
	if b, err := os.ReadFile(path); err == nil && bytes.Equal(b, []byte(configuration)) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".gitconfig-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(configuration)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// commit returns the id of the commit that ref names in the repository; the
// mirror has it.
func (j *job) commit(m *mirror, ref string) (string, error) {
	if ref == "HEAD" {
		ref = ""
	}
	if id, err := j.here(m, ref); id != "" || err != nil {
		return id, err
	}
	asked := time.Now()
	unlock, err := j.lock(m)
	if err != nil {
		return "", err
	}
	defer unlock()
	if id, err := j.here(m, ref); id != "" || err != nil { // another has fetched it
		return id, err
	}
	if m.fetched.After(asked) {
		j.r.hits.Add(1)
	} else if err := j.update(m); err != nil {
		return j.instead(m, ref, err)
	}
	id, err := j.resolve(m, ref)
	if id == "" && err == nil && fullID(ref) {
		id, err = j.fetchID(m, ref)
	}
	switch {
	case err != nil || id != "":
		return id, err
	case ref == "":
		return "", badInput("repository %.200s: it has no commits, or its HEAD leads nowhere; name a branch, tag or commit", m.url)
	}
	return "", badInput("repository %.200s: it has no branch, tag or commit %q", m.url, ref)
}

// here returns the commit of a full id if the mirror has it: no fetch is needed.
func (j *job) here(m *mirror, ref string) (id string, err error) {
	if fullID(ref) {
		if id, err = j.resolve(m, ref); id != "" {
			j.r.hits.Add(1)
		}
	}
	return id, err
}

// fetchID fetches a commit that no branch or tag has, "" if the server does not
// have it, or gives nothing by its id. The lock is held.
func (j *job) fetchID(m *mirror, id string) (string, error) {
	_, err := j.fetch(m, m.dir, id)
	var failed *gitError
	switch {
	case err == nil:
		return j.resolve(m, id)
	case errors.As(err, &failed) && failed.unreachable():
		return "", failed.explain(m.url)
	case failed != nil:
		return "", nil
	}
	return "", err
}

// instead returns the commit of a ref that is sure to be what it was, after the
// mirror could not be updated because of err.
func (j *job) instead(m *mirror, ref string, err error) (string, error) {
	var failed *gitError
	if !errors.As(err, &failed) {
		return "", err
	}
	explained := failed.explain(m.url)
	if explained == error(failed) && j.exists(m) {
		failed.hint = "; should the mirror here be broken, remove " + m.dir
	}
	if tag := "refs/tags/" + strings.TrimPrefix(ref, "refs/tags/"); ref != "" && failed.unreachable() && j.exists(m) {
		if id, err := j.ask(m, tag); err == nil && id != "" {
			fmt.Fprintf(j.a.Stderr, "scagent: %v; tag %s is used as it was fetched before\n", explained, ref)
			return id, nil
		}
	}
	return "", explained
}

// exists reports whether the mirror is on disk; then it is whole.
func (j *job) exists(m *mirror) bool {
	st, err := os.Lstat(m.dir)
	return err == nil && st.IsDir()
}

// resolve returns the commit that ref names in the mirror, "" if there is none.
func (j *job) resolve(m *mirror, ref string) (string, error) {
	switch {
	case !j.exists(m):
		return "", nil
	case ref == "":
		return j.ask(m, headRef)
	case fullID(ref):
		return j.ask(m, ref)
	}
	names := []string{"refs/tags/" + ref, "refs/heads/" + ref}
	if strings.HasPrefix(ref, "refs/tags/") || strings.HasPrefix(ref, "refs/heads/") {
		names = append(names, ref)
	}
	if abbrevID.MatchString(ref) {
		names = append(names, ref)
	}
	return j.ask(m, names...)
}

// ask returns the commit of the first of the names that has one.
func (j *job) ask(m *mirror, names ...string) (string, error) {
	out, err := j.git(schemeFile, strings.Join(names, "^{commit}\n")+"^{commit}\n", "-C", m.dir, "cat-file", "--batch-check")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 && f[1] == "commit" && fullID(f[0]) {
			return f[0], nil
		} else if len(f) == 2 && f[1] == "ambiguous" {
			return "", badInput("repository %.200s: several commits begin with %s; write more of the id", m.url, strings.TrimSuffix(f[0], "^{commit}"))
		}
	}
	return "", nil
}

// update makes the mirror, or fetches what is new. The lock is held.
func (j *job) update(m *mirror) error {
	root, err := os.OpenRoot(m.parent)
	if err != nil {
		return err
	}
	defer root.Close()
	begun := time.Now()
	if j.exists(m) {
		j.r.fetches.Add(1)
		err = j.refresh(m, root)
	} else {
		j.r.clones.Add(1)
		err = j.clone(m, root)
	}
	if err == nil {
		m.fetched = begun
	}
	return err
}

// clone makes the mirror.
func (j *job) clone(m *mirror, root *os.Root) error {
	fresh := m.name + freshSuffix
	if err := root.RemoveAll(fresh); err != nil { // of somebody who was killed
		return err
	}
	defer root.RemoveAll(fresh)
	dir := filepath.Join(m.parent, fresh)
	if _, err := j.git(schemeFile, "", "init", "--quiet", "--bare", noTemplate(), dir); err != nil {
		return err
	}
	if err := j.fetchAll(m, dir); err != nil {
		return err
	}
	return root.Rename(fresh, m.name)
}

// refresh fetches into a mirror that is there.
func (j *job) refresh(m *mirror, root *os.Root) error {
	mark := filepath.Join(m.name, fetching)
	if _, err := root.Lstat(mark); err == nil {
		clean(root, m.name)
		root.Remove(mark)
	}
	// A new one: what a task has put there might be a pipe.
	f, err := root.OpenFile(mark, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	err = j.fetchAll(m, m.dir)
	if failed := (*gitError)(nil); err == nil || errors.As(err, &failed) && failed.signal == "" {
		root.Remove(mark) // if that fails, the next one cleans in vain
	}
	return err
}

// Clear removes what a git that was killed, of an agent that has died, has left in
// mirrors. Those that are in use are left alone.
func (r *Runner) Clear() {
	root, err := os.OpenRoot(r.repositories())
	if err != nil {
		return // there are none yet
	}
	defer root.Close()
	entries, _ := fs.ReadDir(root.FS(), ".")
	for _, e := range entries {
		name, fresh := strings.CutSuffix(e.Name(), freshSuffix)
		mark := filepath.Join(name, fetching)
		if _, err := root.Lstat(mark); !fresh && err != nil {
			continue
		}
		lock, err := os.OpenFile(r.lockPath(name), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			continue
		}
		if locked, err := tryLock(lock); err == nil && locked {
			if fresh {
				root.RemoveAll(e.Name())
			} else {
				clean(root, name)
				root.Remove(mark)
			}
			unlockFile(lock)
		}
		lock.Close()
	}
}

// clean removes the locks and parts of a git that was killed.
func clean(root *os.Root, name string) {
	dir, err := root.OpenRoot(name)
	if err != nil {
		return
	}
	defer dir.Close()
	fs.WalkDir(dir.FS(), ".", func(p string, e fs.DirEntry, err error) error {
		part := strings.HasPrefix(p, "objects/") && strings.HasPrefix(e.Name(), "tmp_") // below refs it is a name that somebody chose
		if err == nil && !e.IsDir() && (strings.HasSuffix(p, ".lock") || part) {
			dir.Remove(filepath.FromSlash(p)) // git says what is in its way
		}
		return nil
	})
}

// fetchAll brings branches, tags and HEAD up to date in dir.
func (j *job) fetchAll(m *mirror, dir string) error {
	refs := []string{"+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"}
	_, err := j.fetch(m, dir, append(refs, "+HEAD:"+headRef)...)
	if failed := (*gitError)(nil); errors.As(err, &failed) && failed.says("couldn't find remote ref head") {
		if _, err = j.fetch(m, dir, refs...); err == nil {
			_, err = j.git(schemeFile, "", "-C", dir, "update-ref", "-d", headRef)
		}
	}
	return err
}

func (j *job) fetch(m *mirror, dir string, refs ...string) (string, error) {
	args := []string{"-C", dir, "fetch", "--quiet", "--no-tags", "--prune", "--no-recurse-submodules", "--no-write-fetch-head", "--", m.url}
	return j.git(m.scheme, "", append(args, refs...)...)
}
