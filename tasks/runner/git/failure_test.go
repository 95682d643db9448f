//go:build unix

package git_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/git"
	"github.com/scagent/scagent/tasks/runner/process"
)

// closedPort returns an address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestFailuresAreClear(t *testing.T) {
	r := newRepo(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := exec.Command("git", "init", "-q", "--bare", empty).Run(); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case strings.HasPrefix(q.URL.Path, "/private"):
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasPrefix(q.URL.Path, "/forbidden"):
			w.WriteHeader(http.StatusForbidden)
		case strings.HasPrefix(q.URL.Path, "/broken"):
			w.WriteHeader(http.StatusBadGateway)
		case strings.HasPrefix(q.URL.Path, "/redirect"):
			http.Redirect(w, q, r.url(), http.StatusFound)
		default:
			http.NotFound(w, q)
		}
	}))
	t.Cleanup(web.Close)
	w := newWorker(t, nil)
	closed := closedPort(t)
	for _, c := range []struct {
		name, url, ref string
		code           tasks.Code
		text           string
	}{
		{"no repository", r.url() + "x", "", tasks.BadInput, "there is no such repository: "},
		{"no repository at a path", "/no/such/repo", "", tasks.BadInput, "repository /no/such/repo: there is no such repository: "},
		{"no repository on the web", web.URL + "/u/r", "", tasks.BadInput, "there is no such repository: "},
		{"a private one", web.URL + "/private", "", tasks.BadInput, "needs authentication: "},
		{"a forbidden one", web.URL + "/forbidden", "", tasks.BadInput, "needs authentication: "},
		{"a broken server", web.URL + "/broken", "", tasks.Internal, "cannot be reached from this worker: "},
		{"redirected to a file", web.URL + "/redirect", "", tasks.BadInput, "the server redirects, which is not followed: "},
		{"no such host", "https://host.invalid/u/r", "", tasks.Internal, "repository https://host.invalid/u/r: cannot be reached from this worker: "},
		{"no server", "http://" + closed + "/u/r", "", tasks.Internal, "cannot be reached from this worker: "},
		{"no git server", "git://" + closed + "/u/r", "", tasks.Internal, "cannot be reached from this worker: "},
		{"empty", "file://" + empty, "", tasks.BadInput, "has no commits, or its HEAD leads nowhere"},
		{"no branch in an empty one", "file://" + empty, "main", tasks.BadInput, `has no branch, tag or commit "main"`},
		{"no such ref", r.url(), "v9", tasks.BadInput, `it has no branch, tag or commit "v9"`},
		{"no such commit", r.url(), "0123abc", tasks.BadInput, `it has no branch, tag or commit "0123abc"`},
		{"an option as ref", r.url(), "--exec=x", tasks.BadInput, `ref "--exec=x": want`},
		{"a tree as ref", r.url(), "HEAD:..", tasks.BadInput, "want a branch"},
		{"an earlier ref", r.url(), "@{-1}", tasks.BadInput, "want a branch"},
		{"an option as URL", "--upload-pack=touch /tmp/scagent-git-test", "", tasks.BadInput, "begins with -"},
		{"a helper as URL", "ext::sh -c touch% /tmp/scagent-git-test", "", tasks.BadInput, "is not understood"},
		{"no URL", "", "", tasks.BadInput, "is missing"},
		{"a password", "https://u:secret@h/r", "", tasks.BadInput, "has credentials"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := w.shell(c.url, c.ref, "echo ran")
			if got.Code != c.code || !strings.Contains(got.Text, c.text) || got.stdout != "" || len(got.Steps) > 0 {
				t.Errorf("Run = %v %q, want %v %q", got.Code, got.Text, c.code, c.text)
			}
		})
	}
	t.Cleanup(func() {
		if _, err := os.Lstat("/tmp/scagent-git-test"); err == nil {
			t.Error("a URL was run")
		}
	})
}

func TestSSHThatCannot(t *testing.T) {
	bin := t.TempDir()
	for _, n := range []string{"git", "sh"} {
		real, err := exec.LookPath(n)
		if err == nil {
			err = os.Symlink(real, filepath.Join(bin, n))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	if got := newWorker(t, nil).shell("git@127.0.0.1:u/r", "", "echo ran"); got.Code != tasks.NotFound || !strings.Contains(got.Text, "ssh is not on this worker") {
		t.Errorf("without ssh: %+v", got)
	}
	fake := "#!/bin/sh\necho \"$*\" >" + bin + "/args\necho 'me@host: Permission denied (publickey).' >&2\nexit 255\n"
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := newWorker(t, nil).shell("git@127.0.0.1:u/r", "", "echo ran"); got.Code != tasks.BadInput || !strings.Contains(got.Text, "needs authentication") {
		t.Errorf("without a key: %+v", got)
	}
	if b, err := os.ReadFile(bin + "/args"); err != nil || !strings.Contains(string(b), "BatchMode=yes") {
		t.Errorf("ssh was run with %q, %v", b, err)
	}
}

func TestTasksThatAreNone(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	w := newWorker(t, nil)
	for text, task := range map[string]tasks.Task{
		"needs a command":           {},
		"one of the two":            {Argv: []string{"a"}, Shell: "b"},
		"pre or post is empty":      {Argv: []string{"a"}, Pre: [][]string{{}}},
		"of pre or post is empty":   {Argv: []string{"a"}, Post: [][]string{{""}}},
		"begin with SCAGENT_":       {Argv: []string{"a"}, Env: map[string]string{"SCAGENT_X": "1"}},
		"leaves the work directory": {Argv: []string{"a"}, Inputs: []tasks.Input{{Name: "../x"}}},
	} {
		task.URL = r.url()
		if got := w.run(t.Context(), task); got.Code != tasks.BadInput || !strings.Contains(got.Text, text) {
			t.Errorf("Run = %v %q, want %q", got.Code, got.Text, text)
		}
	}
	w = newWorker(t, func(c *git.Config) { c.AllowFile = false })
	for _, url := range []string{r.url(), r.dir} {
		if got := w.shell(url, "", "echo ran"); got.Code != tasks.Refused || !strings.Contains(got.Text, "clones none of its own files") {
			t.Errorf("a file where none is allowed: %+v", got)
		}
	}
}

func TestNoGit(t *testing.T) {
	r := newRepo(t)
	w := newWorker(t, func(c *git.Config) { c.Git = "no-such-git" })
	if got := w.shell(r.url(), "", "echo ran"); got.Code != tasks.NotFound || got.Exit != 127 || !strings.Contains(got.Text, "git is not on this worker") {
		t.Errorf("%+v", got)
	}
}

func TestBadConfigurations(t *testing.T) {
	for _, cfg := range []git.Config{
		{}, {Root: "/x"}, {MirrorRoot: "/x"}, {Root: "x", MirrorRoot: "/x"}, {Root: "/x", MirrorRoot: "x"},
		{Root: "/x", MirrorRoot: "/y", Grace: -1}, {Root: "/x", MirrorRoot: "/y", Base: "ext::x"},
	} {
		if _, err := git.New(cfg); err == nil || !strings.HasPrefix(err.Error(), "git: ") {
			t.Errorf("New(%+v) = %v", cfg, err)
		}
	}
}

// serve returns a web server with the repository, at /project.git.
func serve(t *testing.T, r *repo) *httptest.Server {
	t.Helper()
	exe, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(&cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(exe)), "git-http-backend"), Logger: nil, Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(r.dir), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + r.dir}})
	t.Cleanup(web.Close)
	return web
}

// TestHostsAndSchemesAreBounded: neither by name nor by a redirect is anything
// fetched from a host that is not listed.
func TestHostsAndSchemesAreBounded(t *testing.T) {
	t.Parallel()
	web := serve(t, newRepo(t)) // at 127.0.0.1
	elsewhere := strings.Replace(web.URL, "127.0.0.1", "localhost", 1)
	redirect := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, elsewhere+q.URL.RequestURI(), http.StatusMovedPermanently)
	}))
	t.Cleanup(redirect.Close)
	w := newWorker(t, func(c *git.Config) { c.Schemes, c.Hosts = []string{"http"}, []string{"127.0.0.1"} })
	for _, c := range []struct {
		name, url string
		code      tasks.Code
		text      string
	}{
		{"what is listed", web.URL + "/project.git", tasks.OK, ""},
		{"another host", elsewhere + "/project.git", tasks.Refused, "git_host_not_allowed: "},
		{"another scheme", "https://127.0.0.1/project.git", tasks.Refused, "git_scheme_not_allowed: "},
		{"GitHub for short", "u/r", tasks.Refused, "git_scheme_not_allowed: "},
		{"ssh for short", "127.0.0.1:r", tasks.Refused, "git_scheme_not_allowed: "},
		{"a file", "file:///srv/r", tasks.Refused, "git_scheme_not_allowed: "},
		{"a path", "/srv/r", tasks.Refused, "git_scheme_not_allowed: "},
		{"by a redirect", redirect.URL + "/project.git", tasks.BadInput, "the server redirects"},
	} {
		if got := w.shell(c.url, "", "cat f"); got.Code != c.code || !strings.Contains(got.Text, c.text) || (got.stdout == "two") != (c.code == tasks.OK) {
			t.Errorf("%s: %v %q, printed %q; want %v %q", c.name, got.Code, got.Text, got.stdout, c.code, c.text)
		}
	}
}

// TestTagsServeWhenTheServerIsGone clones from a web server that then stops.
func TestTagsServeWhenTheServerIsGone(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	web := serve(t, r)
	w := newWorker(t, nil)
	url := web.URL + "/project.git"
	if got := w.shell(url, "", "cat f"); got.stdout != "two" {
		t.Fatalf("over http: %+v", got)
	}
	web.Close()
	id := r.git("rev-parse", "feature/x")
	for _, ref := range []string{"v1.1", "refs/tags/v1.0"} {
		got := w.shell(url, ref, "cat f")
		if got.Code != tasks.OK || got.stdout != "one" || !strings.HasPrefix(got.stderr, "scagent: repository "+url+": cannot be reached") ||
			!strings.HasSuffix(got.stderr, "; tag "+ref+" is used as it was fetched before\n") {
			t.Errorf("%s: %+v", ref, got)
		}
	}
	if got := w.shell(url, id, "cat f"); got.stdout != "three" || got.stderr != "" {
		t.Errorf("full id: %+v", got)
	}
	for _, ref := range []string{"", "main", "v9"} {
		if got := w.shell(url, ref, "cat f"); got.Code != tasks.Internal || !strings.Contains(got.Text, "cannot be reached") {
			t.Errorf("%q: %+v", ref, got)
		}
	}
}

func TestStopEndsTheCommands(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	for _, c := range []struct {
		name string
		task tasks.Task
	}{
		{"pre", tasks.Task{Pre: [][]string{{"sh", "-c", "echo ready; sleep 100"}}, Argv: []string{"echo", "ran"}}},
		{"command", tasks.Task{Shell: "echo ready; sleep 100", Post: [][]string{{"echo", "ran"}}}},
		{"post", tasks.Task{Shell: "true", Post: [][]string{{"sh", "-c", "echo ready; sleep 100"}, {"echo", "ran"}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorker(t, nil)
			ctx, cancel := context.WithCancelCause(t.Context())
			c.task.URL = r.url()
			out := &buffer{on: func() { cancel(&tasks.StopError{Reason: tasks.StopTimeout, After: time.Minute}) }}
			got := w.Run(ctx, attempt(&c.task, out, &buffer{}))
			if got.Code != tasks.Timeout || got.Text != "timed out after 1m0s" || out.String() != "ready\n" {
				t.Errorf("Run = %v %q, output %q", got.Code, got.Text, out.String())
			}
			if last := got.Steps[len(got.Steps)-1]; last.Signal != "SIGTERM" {
				t.Errorf("steps %+v", got.Steps)
			}
		})
	}
}

// silentServer accepts connections and says nothing; each is reported.
func silentServer(t *testing.T) (addr string, connected <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c := make(chan struct{}, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			c <- struct{}{}
		}
	}()
	return l.Addr().String(), c
}

func TestStopEndsGit(t *testing.T) {
	t.Parallel()
	addr, connected := silentServer(t)
	w := newWorker(t, nil)
	task := tasks.Task{URL: "git://" + addr + "/r", Argv: []string{"echo", "ran"}}
	ctx, cancel := context.WithCancelCause(t.Context())
	outcomes := make(chan tasks.Outcome, 2)
	start := func(ctx context.Context, kill chan struct{}) {
		a := attempt(&task, &buffer{}, &buffer{})
		a.Kill = kill
		go func() { outcomes <- w.Run(ctx, a) }()
	}
	start(ctx, nil)
	<-connected
	// One more waits until the first has fetched, and is killed while it does.
	kill := make(chan struct{})
	start(t.Context(), kill)
	close(kill)
	if got := <-outcomes; got.Code != tasks.Cancelled || got.Text != "stopped: kill" && got.Text != "stopped: kill, before it was started" {
		t.Errorf("the one that waits: %+v", got)
	}
	cancel(&tasks.StopError{Reason: tasks.StopCancel})
	if got := <-outcomes; got.Code != tasks.Cancelled || got.Text != "stopped: cancel" || got.Signal != "SIGTERM" {
		t.Errorf("the one that fetches: %+v", got)
	}
	if left, _ := filepath.Glob(w.cache + "/own/*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAFetchThatWasKilledIsClearedUp(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	w := newWorker(t, nil)
	if got := w.shell(r.url(), "", "cat f"); got.stdout != "two" {
		t.Fatalf("%+v", got)
	}
	mirrors, _ := filepath.Glob(w.cache + "/own/*.git")
	if len(mirrors) != 1 {
		t.Fatalf("mirrors %v", mirrors)
	}
	files := []string{"scagent-fetching", "packed-refs.lock", "refs/heads/main.lock", "objects/pack/tmp_pack_x"}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(mirrors[0], f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(mirrors[0]+".new/x", 0o700); err != nil {
		t.Fatal(err)
	}
	r.git("branch", "-D", "feature/x") // packed-refs is to be written
	r.commit("f", "four")
	if got := w.shell(r.url(), "", "cat f"); got.Code != tasks.OK || got.stdout != "four" {
		t.Errorf("%+v", got)
	}
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(mirrors[0], f)); err == nil {
			t.Errorf("%s is left", f)
		}
	}
}

// The mirrors are the tasks' user's, and so is what lies in the way there.
func TestAMarkThatIsAPipeHoldsNothingUp(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	w := newWorker(t, nil)
	if got := w.shell(r.url(), "", "cat f"); got.stdout != "two" {
		t.Fatalf("%+v", got)
	}
	mirrors, _ := filepath.Glob(w.cache + "/own/*.git")
	if len(mirrors) != 1 {
		t.Fatalf("mirrors %v", mirrors)
	}
	pipe := mirrors[0] + "/scagent-fetching"
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	freed := time.AfterFunc(2*time.Minute, func() {
		t.Error("it waits for somebody to read a pipe")
		if f, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0); err == nil {
			defer f.Close()
			time.Sleep(time.Second)
		}
	})
	defer freed.Stop()
	r.commit("f", "four")
	if got := w.shell(r.url(), "", "cat f"); got.Code != tasks.OK || got.stdout != "four" {
		t.Errorf("%+v", got)
	}
}

func TestRunsAsAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can")
	}
	r := newRepo(t)
	// t.TempDir is not to be passed through by others.
	dir, err := os.MkdirTemp("", "scagent-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	given := filepath.Join(dir, "given")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Rename(r.dir, dir+"/repo"), os.Mkdir(given, 0o755)); err != nil {
		t.Fatal(err)
	}
	w := newWorker(t, func(c *git.Config) {
		c.Root, c.MirrorRoot, c.User = dir+"/work", dir+"/git", &process.User{UID: 65534, GID: 65534}
	})
	task := tasks.Task{URL: dir + "/repo", Shell: `id -u; stat -c %u f . in .git/HEAD | sort -u; git status --porcelain; echo o >out; ls .. ../.. 2>&1 | grep -c ermission`,
		Inputs: []tasks.Input{{Name: "in", Mode: 0o600, Content: tasks.Content{Inline: []byte("i")}}}, Outputs: []string{"out"}}
	for range 2 {
		if got := w.run(t.Context(), task); got.Code != tasks.OK || got.stdout != "65534\n65534\n?? in\n1\n" || len(got.Outputs) != 1 {
			t.Errorf("%+v", got)
		}
	}
	task = tasks.Task{URL: dir + "/repo", Dir: given, Argv: []string{"id", "-u"}}
	if got := w.run(t.Context(), task); got.Code != tasks.BadInput || !strings.HasPrefix(got.Text, "dir "+given+": no directory for the repository can be made there") {
		t.Errorf("a directory of root's: %+v", got)
	}
	if err := os.Chmod(given, 0o777); err != nil {
		t.Fatal(err)
	}
	if got := w.run(t.Context(), task); got.Code != tasks.OK || got.stdout != "65534\n" {
		t.Errorf("%+v", got)
	}
	if err := os.Chmod(dir+"/repo/.git", 0o700); err != nil {
		t.Fatal(err)
	}
	if got := w.shell(dir+"/repo", "", "cat f"); got.Code != tasks.BadInput {
		t.Errorf("a repository of root's: %+v", got)
	}
}

func ExampleURL() {
	for _, s := range []string{"strongloop/slc", "git@example.com:a/b", "--upload-pack=x"} {
		url, err := git.URL(s, "")
		fmt.Println(url, err)
	}
	// Output:
	// https://github.com/strongloop/slc <nil>
	// git@example.com:a/b <nil>
	//  repository "--upload-pack=x": begins with -, as options do
}

func TestClearRemovesWhatKilledOnesLeft(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.git("tag", "tmp_1") // which is none of git's own
	w := newWorker(t, nil)
	w.Clear() // there are no mirrors yet
	if got := w.shell(r.url(), "", "cat f"); got.stdout != "two" {
		t.Fatalf("%+v", got)
	}
	mirrors, _ := filepath.Glob(w.cache + "/own/*.git")
	if len(mirrors) != 1 {
		t.Fatalf("mirrors %v", mirrors)
	}
	leave := func() {
		t.Helper()
		for _, dir := range []string{mirrors[0] + ".new/x", w.cache + "/own/abandoned.git.new/objects"} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range []string{"scagent-fetching", "packed-refs.lock", "objects/pack/tmp_pack_x"} {
			if err := os.WriteFile(filepath.Join(mirrors[0], f), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	files := func() string {
		out, err := exec.Command("find", w.cache+"/own", "!", "-name", "*.sample").CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	before := files()
	leave()
	if files() == before {
		t.Fatal("the test shows nothing")
	}
	// A mirror that somebody updates is left alone.
	lock, err := os.OpenFile(w.cache+"/"+strings.TrimSuffix(filepath.Base(mirrors[0]), ".git")+".lock", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	w.Clear()
	if got := files(); !strings.Contains(got, "scagent-fetching") || !strings.Contains(got, ".new/x") || strings.Contains(got, "abandoned") {
		t.Errorf("while one mirror is updated, there are\n%s", got)
	}
	// Unlocked, not just closed: a process that another test is starting has the file open until its exec.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	w.Clear()
	if got := files(); got != before {
		t.Errorf("there are\n%swant\n%s", got, before)
	}
	if got := w.shell(r.url(), "", "cat f"); got.stdout != "two" {
		t.Errorf("%+v", got)
	}
}
