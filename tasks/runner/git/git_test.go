//go:build unix

package git_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/git"
)

// repo is a repository to clone.
type repo struct {
	t   *testing.T
	dir string
}

// newRepo makes a repository with two commits: v1.1 has "one" in f, main "two",
// and the branch feature/x "three".
func newRepo(t *testing.T) *repo {
	t.Helper()
	pattern.Do(func() {
		r := &repo{t, filepath.Join(patternDir, "repo")}
		if err := os.Mkdir(r.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		r.git("init", "-q", "-b", "main", "--template=")
		r.commit("f", "one")
		r.git("tag", "v1.0")
		r.git("tag", "-a", "-m", "annotated", "v1.1")
		r.git("checkout", "-q", "-b", "feature/x")
		r.commit("f", "three")
		r.git("checkout", "-q", "main")
		r.commit("f", "two")
	})
	r := &repo{t, filepath.Join(t.TempDir(), "user", "project.git")}
	if err := os.CopyFS(r.dir, os.DirFS(filepath.Join(patternDir, "repo"))); err != nil {
		t.Fatal(err)
	}
	return r
}

// pattern is made in patternDir once, and copied for each newRepo.
var (
	pattern    sync.Once
	patternDir string
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if patternDir, err = os.MkdirTemp("", "scagent-git-test-"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(patternDir)
		return m.Run()
	}())
}

func (r *repo) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@x", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@x"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *repo) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		r.t.Fatal(err)
	}
}

// commit commits a file and returns the commit's id.
func (r *repo) commit(name, text string) string {
	r.t.Helper()
	r.write(name, text)
	r.git("add", "-A")
	r.git("commit", "-q", "-m", "x")
	return r.git("rev-parse", "HEAD")
}

func (r *repo) url() string { return "file://" + r.dir }

// worker is a Runner with directories of its own.
type worker struct {
	*git.Runner
	t           *testing.T
	dir         string
	root, cache string
}

func newWorker(t *testing.T, change func(*git.Config)) *worker {
	t.Helper()
	dir := t.TempDir()
	w := &worker{t: t, dir: dir, root: filepath.Join(dir, "work"), cache: filepath.Join(dir, "cache", "git")}
	cfg := git.Config{Root: w.root, MirrorRoot: w.cache, AllowFile: true, Grace: time.Hour}
	if change != nil {
		change(&cfg)
	}
	var err error
	if w.Runner, err = git.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, err := os.ReadDir(w.root); err == nil && len(left) > 0 {
			t.Errorf("work directories are left: %v", left)
		}
	})
	return w
}

type result struct {
	tasks.Outcome
	stdout, stderr string
}

// run runs a task.
func (w *worker) run(ctx context.Context, task tasks.Task) result {
	w.t.Helper()
	var out, errs buffer
	o := w.Run(ctx, attempt(&task, &out, &errs))
	if o.Started.IsZero() || o.Finished.Before(o.Started) || strings.ContainsAny(o.Text, "\n\x1b\x00") || len(o.Text) > 1000 {
		w.t.Errorf("outcome %+v", o)
	}
	return result{o, out.String(), errs.String()}
}

// shell runs a shell line in a repository.
func (w *worker) shell(url, ref, line string) result {
	w.t.Helper()
	return w.run(w.t.Context(), tasks.Task{Kind: tasks.Git, URL: url, Ref: ref, Shell: line})
}

func attempt(task *tasks.Task, out, errs *buffer) *tasks.Attempt {
	return &tasks.Attempt{Task: task, ID: newID(), N: 1, Slots: 1, Node: "n1", Stdout: out, Stderr: errs,
		Keep: func(path string) (tasks.Content, error) {
			b, err := os.ReadFile(path)
			return tasks.Content{Inline: b}, err
		}}
}

// buffer is written to by any goroutine; on says what to do after a write.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
	on  func()
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.on != nil {
		b.on()
	}
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestRefsAreCheckedOut(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	w := newWorker(t, nil)
	old := r.git("rev-parse", "v1.0")
	for ref, want := range map[string]string{
		"": "two", "HEAD": "two", "feature/x": "three", "refs/heads/feature/x": "three", "v1.0": "one", "v1.1": "one", old: "one", old[:8]: "one",
	} {
		got := w.shell(r.url(), ref, "cat f; git status --porcelain; git symbolic-ref -q HEAD; git config remote.origin.url")
		if got.Code != tasks.OK || got.stdout != want+r.url()+"\n" || got.stderr != "" {
			t.Errorf("ref %q: %v %q, %q %q, want %s", ref, got.Code, got.Text, got.stdout, got.stderr, want)
		}
	}
	if s := w.Stats(); s.Clones != 1 {
		t.Errorf("stats %+v, want one clone", s)
	}
}

func TestPathsAndShortNames(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	w := newWorker(t, func(c *git.Config) { c.Base = "file://" + filepath.Dir(filepath.Dir(r.dir)) })
	for _, url := range []string{r.dir, "user/project.git"} {
		if got := w.shell(url, "", `cat f; basename "$PWD"`); got.Code != tasks.OK || got.stdout != "twoproject\n" {
			t.Errorf("%s: %+v", url, got)
		}
	}
}

// loggingGit returns a program that logs its arguments to a file and runs git.
func loggingGit(t *testing.T) (program string, calls func(verb string) int) {
	dir := t.TempDir()
	real, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "git")
	log := filepath.Join(dir, "log")
	// A process being started meanwhile would have the file open for writing.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(program, []byte(fmt.Sprintf("#!/bin/sh\necho \" $* \" >>%s\nexec %s \"$@\"\n", log, real)), 0o755); err != nil {
		t.Fatal(err)
	}
	return program, func(verb string) int {
		b, _ := os.ReadFile(log)
		return strings.Count(string(b), " "+verb+" ")
	}
}

func TestManyAtOnceCloneOnce(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	program, calls := loggingGit(t)
	w := newWorker(t, func(c *git.Config) { c.Git = program })
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			ref, want := "v1.1", "one"
			if i%2 == 0 {
				ref, want = "main", "two"
			}
			if got := w.shell(r.url(), ref, "cat f"); got.Code != tasks.OK || got.stdout != want {
				t.Errorf("%+v", got)
			}
		})
	}
	wg.Wait()
	s := w.Stats()
	if s.Clones != 1 || calls("init") != 1 || int64(calls("fetch")) != s.Clones+s.Fetches || s.Clones+s.Fetches+s.Hits != 10 {
		t.Errorf("stats %+v, %d init, %d fetch; want one clone", s, calls("init"), calls("fetch"))
	}
}

func TestTwoAgentsShareMirrors(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	program, calls := loggingGit(t)
	one := newWorker(t, func(c *git.Config) { c.Git = program })
	two := newWorker(t, func(c *git.Config) { c.Git = program; c.MirrorRoot = one.cache })
	var wg sync.WaitGroup
	for i := range 6 {
		w := []*worker{one, two}[i%2]
		wg.Go(func() {
			if got := w.shell(r.url(), "", "cat f"); got.Code != tasks.OK || got.stdout != "two" {
				t.Errorf("%+v", got)
			}
		})
	}
	wg.Wait()
	if n := one.Stats().Clones + two.Stats().Clones; n != 1 || calls("init") != 1 {
		t.Errorf("%d clones, %d init, want 1", n, calls("init"))
	}
}

// objects counts the objects of all mirrors.
func (w *worker) objects() (n int) {
	w.t.Helper()
	mirrors, _ := filepath.Glob(w.cache + "/*/*.git")
	for _, dir := range mirrors {
		cmd := exec.Command("git", "-C", dir, "cat-file", "--batch-all-objects", "--batch-check")
		out, err := cmd.Output()
		if err != nil {
			w.t.Fatal(err)
		}
		n += bytes.Count(out, []byte("\n"))
	}
	return n
}

func TestSecondRunFetchesWhatIsNew(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	w := newWorker(t, nil)
	if got := w.shell(r.url(), "", "cat f"); got.stdout != "two" {
		t.Fatalf("%+v", got)
	}
	before := w.objects()
	id := r.commit("f", "four")
	r.git("branch", "-q", "-D", "feature/x")
	r.git("branch", "-q", "feature") // where a directory was
	r.git("tag", "-f", "v1.0")
	for _, ref := range []string{"", "feature", "v1.0"} {
		if got := w.shell(r.url(), ref, "cat f"); got.stdout != "four" {
			t.Errorf("%q: %+v", ref, got)
		}
	}
	if got := w.shell(r.url(), "feature/x", "cat f"); got.Code != tasks.BadInput {
		t.Errorf("a branch that is gone: %+v", got)
	}
	if n := w.objects() - before; n != 3 { // a commit, a tree, a file
		t.Errorf("%d objects are new, want 3", n)
	}
	before = int(w.Stats().Fetches)
	if got := w.shell(r.url(), id, "cat f"); got.stdout != "four" || int(w.Stats().Fetches) != before {
		t.Errorf("full id: %+v, stats %+v, want no fetch", got, w.Stats())
	}
	if s := w.Stats(); s.Clones != 1 || s.Fetches != 4 || s.Hits != 1 {
		t.Errorf("stats %+v, want 1 clone, 4 fetches, 1 hit", s)
	}
	if err := os.RemoveAll(r.dir); err != nil {
		t.Fatal(err)
	}
	if got := w.shell(r.url(), id, "cat f"); got.stdout != "four" {
		t.Errorf("full id, repository gone: %+v", got)
	}
}

func TestCommitOfNoBranch(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.git("checkout", "-q", "--detach")
	id := r.commit("f", "alone")
	r.git("update-ref", "refs/pull/1/head", id)
	r.git("checkout", "-q", "main")
	w := newWorker(t, nil)
	if got := w.shell(r.url(), id, "cat f"); got.stdout != "alone" {
		t.Errorf("%+v", got)
	}
	if got := w.shell(r.url(), id, "cat f"); got.stdout != "alone" || w.Stats().Hits != 1 {
		t.Errorf("%+v, stats %+v", got, w.Stats())
	}
	none := strings.Repeat("12", 20)
	if got := w.shell(r.url(), none, "cat f"); got.Code != tasks.BadInput || !strings.Contains(got.Text, none) {
		t.Errorf("%+v", got)
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	w := newWorker(t, nil)
	sh := func(line string) []string { return []string{"sh", "-c", line} }
	for _, c := range []struct {
		name   string
		task   tasks.Task
		code   tasks.Code
		exit   int
		text   string
		stdout string
		steps  []tasks.Step
	}{
		{"all well", tasks.Task{Pre: [][]string{sh("echo a; echo x >g"), {"echo", "b c"}}, Argv: []string{"cat", "g"}, Post: [][]string{{"echo", "d"}, sh("cat f")}},
			tasks.OK, 0, "", "a\nb c\nx\nd\ntwo", []tasks.Step{{Stage: "pre", Command: "echo a; echo x >g"}, {Stage: "pre", Command: "echo 'b c'"}, {Stage: "cmd", Command: "cat g"}, {Stage: "post", Command: "echo d"}, {Stage: "post", Command: "cat f"}}},
		{"pre fails", tasks.Task{Pre: [][]string{{"echo", "a"}, sh("exit 7"), {"echo", "b"}}, Argv: []string{"echo", "c"}, Post: [][]string{{"echo", "d"}}},
			tasks.Exit, 7, `pre "exit 7": exit status 7`, "a\n", []tasks.Step{{Stage: "pre", Command: "echo a"}, {Stage: "pre", Command: "exit 7", Exit: 7}}},
		{"pre is no program", tasks.Task{Pre: [][]string{{"no-such-program"}}, Argv: []string{"echo", "c"}, Env: map[string]string{"PATH": "/bin"}},
			tasks.NotFound, 127, `pre "no-such-program": no-such-program: no such program in the PATH of the task, "/bin"`, "", []tasks.Step{{Stage: "pre", Command: "no-such-program", Exit: 127}}},
		{"command fails", tasks.Task{Shell: "echo c; exit 3", Post: [][]string{{"echo", "d"}, {"false"}}},
			tasks.Exit, 3, "exit status 3", "c\nd\n", []tasks.Step{{Stage: "cmd", Command: "echo c; exit 3", Exit: 3}, {Stage: "post", Command: "echo d"}, {Stage: "post", Command: "false", Exit: 1}}},
		{"command is no program", tasks.Task{Argv: []string{"./none"}, Post: [][]string{{"echo", "d"}}},
			tasks.NotFound, 127, "./none: no such program", "d\n", []tasks.Step{{Stage: "cmd", Command: "./none", Exit: 127}, {Stage: "post", Command: "echo d"}}},
		{"command is killed", tasks.Task{Shell: "kill -9 $$", Post: [][]string{{"echo", "d"}}},
			tasks.Signalled, 0, "killed by SIGKILL", "d\n", []tasks.Step{{Stage: "cmd", Command: "kill -9 $$", Signal: "SIGKILL"}, {Stage: "post", Command: "echo d"}}},
		{"post fails", tasks.Task{Argv: []string{"true"}, Post: [][]string{sh("exit 4"), sh("exit 5")}},
			tasks.Exit, 4, `post "exit 4": exit status 4`, "", []tasks.Step{{Stage: "cmd", Command: "true"}, {Stage: "post", Command: "exit 4", Exit: 4}, {Stage: "post", Command: "exit 5", Exit: 5}}},
		{"stdin is the command's", tasks.Task{Pre: [][]string{{"cat"}}, Argv: []string{"cat"}, Post: [][]string{{"cat"}}, Stdin: &tasks.Content{Inline: []byte("in")}},
			tasks.OK, 0, "", "in", []tasks.Step{{Stage: "pre", Command: "cat"}, {Stage: "cmd", Command: "cat"}, {Stage: "post", Command: "cat"}}},
		{"pre checks out", tasks.Task{Pre: [][]string{{"git", "checkout", "-q", "v1.1"}}, Argv: []string{"cat", "f"}},
			tasks.OK, 0, "", "one", []tasks.Step{{Stage: "pre", Command: "git checkout -q v1.1"}, {Stage: "cmd", Command: "cat f"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.task.URL = r.url()
			got := w.run(t.Context(), c.task)
			if got.Code != c.code || got.Exit != c.exit || got.Text != c.text || got.stdout != c.stdout || !slices.Equal(got.Steps, c.steps) {
				t.Errorf("Run = %v %d %q, output %q, steps %+v\nwant  %v %d %q, output %q, steps %+v", got.Code, got.Exit, got.Text, got.stdout, got.Steps, c.code, c.exit, c.text, c.stdout, c.steps)
			}
			if got.StdoutBytes != int64(len(c.stdout)) {
				t.Errorf("%d bytes were counted, want %d", got.StdoutBytes, len(c.stdout))
			}
		})
	}
}

func TestTheWorkTreeIsTheWorkDirectory(t *testing.T) {
	r := newRepo(t)
	w := newWorker(t, nil)
	t.Setenv("CANARY", "seen")
	task := tasks.Task{URL: r.url(), Inputs: []tasks.Input{{Name: "in", Content: tasks.Content{Inline: []byte("i")}}}, Outputs: []string{"out/**", "f"},
		Pre:   [][]string{{"git", "clean", "-fdxe", "in"}},
		Shell: `mkdir out; cat f in >out/o; ls -A; test "$PWD" = "$SCAGENT_WORKDIR" && test -d "$TMPDIR" && test -d "$HOME"; echo $? ${CANARY-clean} $(basename "$PWD")`}
	got := w.run(t.Context(), task)
	if got.Code != tasks.OK || got.stdout != ".git\nf\nin\nout\n0 clean project\n" {
		t.Errorf("%+v", got)
	}
	if len(got.Outputs) != 2 || got.Outputs[0].Name != "out/o" || string(got.Outputs[0].Inline) != "twoi" || got.Outputs[1].Name != "f" {
		t.Errorf("outputs %+v", got.Outputs)
	}
	task.Inputs[0].Name = "f"
	if got := w.run(t.Context(), task); got.Code != tasks.BadInput || got.Text != `input "f": the repository has something of this name; choose another` {
		t.Errorf("an input in the place of a file: %+v", got)
	}
	task.Inputs, task.Outputs = nil, []string{"none"}
	if got := w.run(t.Context(), task); got.Code != tasks.Failed || got.Text != `output "none" was not made` || len(got.Steps) != 2 {
		t.Errorf("an output that is missing: %+v", got)
	}
}

func TestDirIsWhereTheCloneIsMade(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	w := newWorker(t, nil)
	dir := t.TempDir()
	task := tasks.Task{URL: r.url(), Dir: dir, Inputs: []tasks.Input{{Name: "in", Content: tasks.Content{Inline: []byte("i")}}}, Outputs: []string{"o"},
		Shell: `cat f; ls; dirname "$PWD"; cat $SCAGENT_WORKDIR/in >$SCAGENT_WORKDIR/o; test "$(cat $SCAGENT_WORKDIR.elsewhere)" = "$PWD" && chmod 500 .`}
	got := w.run(t.Context(), task)
	if got.Code != tasks.OK || got.stdout != "twof\n"+dir+"\n" || len(got.Outputs) != 1 || string(got.Outputs[0].Inline) != "i" {
		t.Errorf("%+v", got)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the clone is left: %v, %v", left, err)
	}
	task.Dir = "/no/such/dir"
	if got := w.run(t.Context(), task); got.Code != tasks.BadInput || got.Text != "dir /no/such/dir: there is no such directory on this worker" {
		t.Errorf("%+v", got)
	}
}

func TestHooksSubmodulesAndFiltersAreOff(t *testing.T) {
	t.Parallel()
	sub, r := newRepo(t), newRepo(t)
	r.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", sub.url(), "sub")
	r.write(".gitattributes", "big filter=lfs diff=lfs merge=lfs -text\nev filter=evil\n")
	r.write("ev", "e")
	r.commit("big", "version https://git-lfs.github.com/spec/v1\n")
	r.write(".git/hooks/post-checkout", "#!/bin/sh\ntouch /tmp/hooked\n")
	if err := os.Symlink("/etc/passwd", filepath.Join(r.dir, "link")); err != nil {
		t.Fatal(err)
	}
	r.commit("x", "x")
	w := newWorker(t, nil)
	got := w.run(t.Context(), tasks.Task{URL: r.url(), Shell: "ls sub .git/hooks 2>/dev/null; cat big; git submodule status | cut -c1", Outputs: []string{"link", "x"}})
	if got.Code != tasks.OK || got.stdout != "sub:\nversion https://git-lfs.github.com/spec/v1\n-\n" {
		t.Errorf("%+v", got)
	}
	if len(got.Outputs) != 1 || !strings.Contains(got.Text, `"link" is a symbolic link that leads nowhere inside`) {
		t.Errorf("outputs %+v, text %q", got.Outputs, got.Text)
	}
}

// newID returns an ID that no other test has, in this process or another: stray
// processes are found, and killed, by it.
func newID() (id tasks.ID) {
	rand.Read(id[:])
	return id
}

// A umask, or whoever made it, may have closed the directory of the mirrors, through
// which the tasks' user must pass.
func TestMirrorsCanBePassed(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	w := newWorker(t, nil)
	if err := os.MkdirAll(w.cache, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := w.shell(r.url(), "", "cat f"); got.stdout != "two" {
		t.Fatalf("%+v", got)
	}
	st, err := os.Stat(w.cache)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o711 {
		t.Errorf("its mode is %04o, want 0711", st.Mode().Perm())
	}
}
