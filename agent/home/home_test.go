//go:build unix

package home

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is an agent that lives until it is killed, a client that looks for one,
// or one that connects to a socket, when it is told to.
func TestMain(m *testing.M) {
	if dir := os.Getenv("HOME_TEST_CLAIM"); dir != "" {
		if umask, err := strconv.ParseInt(os.Getenv("HOME_TEST_UMASK"), 8, 32); err == nil {
			syscall.Umask(int(umask))
		}
		e := OSEnv()
		e.Root = dir
		e.Getenv = func(string) string { return dir }
		h, err := Claim(Options{Env: &e, Group: os.Getenv("HOME_TEST_GROUP")})
		var l net.Listener
		if err == nil {
			l, err = h.Listen()
		}
		if err == nil {
			err = h.Announce(Announcement{ID: "id", Name: "dead"})
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(h.N)
		for err == nil { // until it is killed
			var c net.Conn
			if c, err = l.Accept(); err == nil {
				c.Close()
			}
		}
		runtime.KeepAlive(h)
	}
	if dir := os.Getenv("HOME_TEST_FIND"); dir != "" {
		e := OSEnv()
		e.Root = dir
		a, err := e.Find()
		if err != nil {
			fmt.Println(err)
		} else {
			fmt.Println(a.Socket)
		}
		os.Exit(0)
	}
	if socket := os.Getenv("HOME_TEST_DIAL"); socket != "" {
		c, err := net.Dial("unix", socket)
		if errors.Is(err, fs.ErrPermission) {
			err = NoAccess(socket)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(0)
		}
		said, _ := io.ReadAll(c)
		fmt.Printf("connected, and was told %q\n", said)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// testEnv is a user's host in a temporary directory. As the tests may run as root,
// whose agents live elsewhere, the user is another one then.
func testEnv(t *testing.T) *Env {
	t.Helper()
	root := t.TempDir()
	uid := os.Geteuid()
	e := OSEnv()
	vars := map[string]string{"XDG_RUNTIME_DIR": root + "/user", "HOME": root + "/home"}
	e.Getenv = func(k string) string { return vars[k] }
	e.Root = root
	for _, d := range []string{root + "/user", root + "/user/scagent", root + "/tmp"} {
		mkdir(t, d, 0o700)
		if uid == 0 {
			e.UID = 1000
			if err := os.Chown(d, 1000, 1000); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.MayOpen = func(string) error { return nil }
	return &e
}

// rootEnv is the same host for root.
func rootEnv(t *testing.T, e *Env) *Env {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs directories that belong to root: run the tests as root")
	}
	r := *e
	r.UID = 0
	return &r
}

func mkdir(t *testing.T, dir string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(dir, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
}

func claim(t *testing.T, o Options) *Home {
	t.Helper()
	h, err := Claim(o)
	if err != nil {
		t.Fatalf("Claim(%+v): %v", o, err)
	}
	t.Cleanup(func() { h.Release() })
	return h
}

func TestNumbersAreTheFirstFreeOnes(t *testing.T) {
	e := testEnv(t)
	a, b := claim(t, Options{Env: e}), claim(t, Options{Env: e})
	if a.N != 1 || b.N != 2 {
		t.Fatalf("claimed %d and %d, want 1 and 2", a.N, b.N)
	}
	if want := e.Root + "/home/.local/state/scagent/2"; b.StateDir != want {
		t.Errorf("state directory is %s, want %s", b.StateDir, want)
	}
	if want := e.Root + "/user/scagent/2.sock"; b.Socket != want {
		t.Errorf("socket is %s, want %s", b.Socket, want)
	}
	if fi, err := os.Stat(b.StateDir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("state directory: %v, %v; want mode 700", fi, err)
	}
	if err := a.Release(); err != nil {
		t.Error(err)
	}
	if err := a.Release(); err != nil {
		t.Errorf("second Release: %v", err)
	}
	if c := claim(t, Options{Env: e}); c.N != 1 {
		t.Errorf("after 1 was released, claimed %d, want 1", c.N)
	}
}

func TestRootLivesElsewhere(t *testing.T) {
	e := rootEnv(t, testEnv(t))
	if runtime.GOOS != "linux" {
		t.Skip("paths of linux")
	}
	h := claim(t, Options{Env: e})
	if h.Socket != e.Root+"/run/scagent/1.sock" || h.StateDir != e.Root+"/var/lib/scagent/1" {
		t.Errorf("claimed %s and %s, want /run/scagent/1.sock and /var/lib/scagent/1", h.Socket, h.StateDir)
	}
	if fi, err := os.Stat(h.StateDir); err != nil || fi.Mode().Perm() != 0o711 {
		t.Errorf("state directory: %v, %v; want mode 711, for tasks of other users", fi, err)
	}
	if fi, err := os.Stat(e.Root + "/run/scagent"); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("/run/scagent: %v, %v; want mode 755", fi, err)
	}
}

func TestVariablesNameThePlaces(t *testing.T) {
	for _, c := range []struct {
		name          string
		vars          map[string]string
		runtime, base string
	}{
		{"all set", map[string]string{"XDG_RUNTIME_DIR": "/r", "XDG_STATE_HOME": "/s", "HOME": "/h"}, "/r/scagent", "/s/scagent"},
		{"home only", map[string]string{"HOME": "/h"}, "/tmp/scagent-7", "/h/.local/state/scagent"},
		{"relative", map[string]string{"XDG_RUNTIME_DIR": "r", "XDG_STATE_HOME": "s", "HOME": "h"}, "/tmp/scagent-7", ""},
		{"nothing", nil, "/tmp/scagent-7", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := Env{UID: 7, Getenv: func(k string) string { return c.vars[k] }}
			if got := e.runtimeDirs(7)[0]; got != c.runtime {
				t.Errorf("runtime directory is %s, want %s", got, c.runtime)
			}
			if got := e.stateBase(); got != c.base {
				t.Errorf("state directories are in %q, want %q", got, c.base)
			}
		})
	}
}

func TestNoPlaceForTheState(t *testing.T) {
	e := testEnv(t)
	runtime := e.Getenv("XDG_RUNTIME_DIR")
	e.Getenv = func(k string) string {
		if k == "XDG_RUNTIME_DIR" {
			return runtime
		}
		return ""
	}
	if _, err := Claim(Options{Env: e}); err == nil || !strings.Contains(err.Error(), "HOME") || !strings.Contains(err.Error(), "-state-dir") {
		t.Errorf("Claim without HOME = %v; want an error that names HOME and -state-dir", err)
	}
	if h := claim(t, Options{Env: e, StateDir: t.TempDir()}); h.N != 1 {
		t.Errorf("claimed %d, want 1: the failed claim has left it", h.N)
	}
}

func TestStateDirIsTakenAsGiven(t *testing.T) {
	e := testEnv(t)
	dir := filepath.Join(t.TempDir(), "a", "b")
	h := claim(t, Options{Env: e, StateDir: dir})
	if h.StateDir != dir || h.Path("x") != dir+"/x" {
		t.Errorf("state directory is %s, want %s", h.StateDir, dir)
	}
	_, err := Claim(Options{Env: e, StateDir: dir})
	if err == nil || !strings.Contains(err.Error(), "in use by another agent") || !strings.Contains(err.Error(), "-state-dir") {
		t.Errorf("second agent in %s: %v; want an error that says who uses it and names -state-dir", dir, err)
	}
	if h2 := claim(t, Options{Env: e}); h2.N != 2 {
		t.Errorf("claimed %d after a failed claim, want 2", h2.N)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Claim(Options{Env: e, StateDir: file + "/x"})
	if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "-state-dir") || strings.Contains(err.Error(), "\n") {
		t.Errorf("unusable directory: %v; want one line that names it and -state-dir", err)
	}
}

// Two login sessions of a user can have different runtime directories.
func TestAnotherRuntimeDirectoryDoesNotShareState(t *testing.T) {
	e := testEnv(t)
	a := claim(t, Options{Env: e})
	other := *e
	other.Getenv = func(k string) string {
		if k == "XDG_RUNTIME_DIR" {
			return ""
		}
		return e.Getenv(k)
	}
	tmp := fmt.Sprintf("%s/tmp/scagent-%d", e.Root, e.UID)
	mkdir(t, tmp, 0o700)
	if err := os.Chown(tmp, e.UID, -1); err != nil {
		t.Fatal(err)
	}
	b := claim(t, Options{Env: &other})
	if a.N != 1 || b.N != 2 || filepath.Dir(b.Socket) != tmp {
		t.Errorf("claimed %s and %s, want 1 and, in %s, 2", a.Socket, b.Socket, tmp)
	}
	announce(t, b)
	if got, err := e.Find(); err != nil || got.Socket != b.Socket {
		t.Errorf("Find = %+v, %v; want the agent in %s", got, err, tmp)
	}
}

func TestUnsafeDirectoryIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, want string
		make       func(t *testing.T, dir string)
	}{
		{"world writable", "chmod go-w", func(t *testing.T, dir string) { mkdir(t, dir, 0o777) }},
		{"group writable", "chmod go-w", func(t *testing.T, dir string) { mkdir(t, dir, 0o770) }},
		{"a symbolic link", "not a directory", func(t *testing.T, dir string) {
			mkdir(t, dir+"-elsewhere", 0o700)
			if err := os.Symlink(dir+"-elsewhere", dir); err != nil {
				t.Fatal(err)
			}
		}},
		{"a file", "not a directory", func(t *testing.T, dir string) {
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"another user's", "belongs to user 4242", func(t *testing.T, dir string) {
			if os.Geteuid() != 0 {
				t.Skip("needs root, to give a directory away")
			}
			mkdir(t, dir, 0o700)
			if err := os.Chown(dir, 4242, -1); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := testEnv(t)
			e.Getenv = func(k string) string { return map[string]string{"HOME": e.Root + "/home"}[k] }
			dir := fmt.Sprintf("%s/tmp/scagent-%d", e.Root, e.UID)
			c.make(t, dir)
			if c.name != "another user's" {
				if err := os.Lchown(dir, e.UID, -1); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Claim(Options{Env: e})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("Claim = %v; want an error with %q and the directory", err, c.want)
			}
			if _, err := e.Find(); !errors.Is(err, ErrNoAgent) {
				t.Errorf("Find = %v, want ErrNoAgent: nobody's agent lives there", err)
			}
		})
	}
}

func TestForeignRuntimeDirectoryIsPassedOver(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a directory away")
	}
	e := testEnv(t)
	if err := os.Chown(e.Root+"/user", 4242, -1); err != nil {
		t.Fatal(err)
	}
	tmp := fmt.Sprintf("%s/tmp/scagent-%d", e.Root, e.UID)
	mkdir(t, tmp, 0o700)
	if err := os.Chown(tmp, e.UID, -1); err != nil {
		t.Fatal(err)
	}
	if h := claim(t, Options{Env: e}); filepath.Dir(h.Socket) != tmp {
		t.Errorf("socket is %s, want it in %s", h.Socket, tmp)
	}
}

func TestSocketIsOpenToItsOwnerAlone(t *testing.T) {
	h := claim(t, Options{Env: testEnv(t)})
	l := listener(t, h)
	if fi, err := os.Lstat(h.Socket); err != nil || fi.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("socket: %v, %v; want mode 600", fi.Mode(), err)
	}
	if left, _ := filepath.Glob(h.Socket + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	c, err := net.Dial("unix", h.Socket)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	l.Close()
	if err := h.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(h.Socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Release the socket is still there: %v", err)
	}
}

func TestSocketIsOpenToItsGroup(t *testing.T) {
	e := rootEnv(t, testEnv(t))
	h := claim(t, Options{Env: e, Group: "4242"})
	listener(t, h)
	if fi, err := os.Lstat(h.Socket); err != nil || fi.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("socket: %v, %v; want mode 660", fi.Mode(), err)
	}
	if got := NoAccess(h.Socket); got.Group != "4242" || !strings.Contains(got.Error(), `"4242"`) {
		t.Errorf("NoAccess = %+v: %v; want it to name the group", got, got)
	}
	if mode, group := h.Access(); mode != "0660" || group != "4242" {
		t.Errorf("Access = %s, %s; want 0660, 4242", mode, group)
	}
}

// It is seen when the home is claimed, before anybody has heard of the agent.
func TestGroupThatTheUserIsNotInIsRefused(t *testing.T) {
	_, err := Claim(Options{Env: testEnv(t), Group: "4242"})
	if err == nil || !strings.Contains(err.Error(), `may not give the API's socket to the group "4242"`) || !strings.Contains(err.Error(), "-api-group") {
		t.Errorf("Claim = %v; want what this user may not do, and -api-group", err)
	}
}

func TestGroupThatIsNoneIsRefused(t *testing.T) {
	e := rootEnv(t, testEnv(t))
	// The last three are what chown(2), or a smaller integer, takes for another one.
	for _, group := range []string{"no such group", " ", "0x1", "1.5", "-1", "4294967295", "4294967296"} {
		if _, err := Claim(Options{Env: e, Group: group}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("no group %q", group)) || !strings.Contains(err.Error(), "-api-group") {
			t.Errorf("Claim for the group %q = %v; want that there is none, and -api-group", group, err)
		}
	}
}

func listener(t *testing.T, h *Home) net.Listener {
	t.Helper()
	l, err := h.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func announce(t *testing.T, h *Home) {
	t.Helper()
	if err := h.Announce(Announcement{ID: "id-" + fmt.Sprint(h.N), Name: "name-" + fmt.Sprint(h.N)}); err != nil {
		t.Fatal(err)
	}
}

func TestWhatADeadAgentLeftIsReplaced(t *testing.T) {
	e := testEnv(t)
	dir := e.Root + "/user/scagent"
	victim := e.Root + "/victim"
	for _, f := range []string{dir + "/1.json", victim} {
		if err := os.WriteFile(f, []byte(`{"pid":1}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(victim, dir+"/1.sock"); err != nil {
		t.Fatal(err)
	}
	h := claim(t, Options{Env: e})
	if h.N != 1 {
		t.Fatalf("claimed %d, want 1", h.N)
	}
	if _, err := os.Lstat(dir + "/1.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dead agent's announcement is still there: %v", err)
	}
	listener(t, h)
	if b, err := os.ReadFile(victim); err != nil || string(b) != `{"pid":1}` {
		t.Errorf("what the link at the socket's place named is now %q, %v; want it untouched", b, err)
	}
}

func TestNumberOfAKilledAgentIsFreeAtOnce(t *testing.T) {
	root := t.TempDir()
	start := func() (*exec.Cmd, string) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "HOME_TEST_CLAIM="+root)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		return cmd, strings.TrimSpace(line)
	}
	e := OSEnv()
	e.Root = root
	e.Getenv = func(string) string { return root }

	a, n := start()
	if n != "1" {
		t.Fatalf("claimed %s, want 1", n)
	}
	if _, n := start(); n != "2" {
		t.Fatalf("claimed %s beside another, want 2", n)
	}
	got, err := e.Find()
	if err != nil || got.N != 1 || got.Pid != a.Process.Pid || got.Name != "dead" || got.ID != "id" {
		t.Fatalf("Find = %+v, %v; want agent 1 with pid %d", got, err, a.Process.Pid)
	}
	a.Process.Kill()
	a.Wait()
	if got, err = e.Find(); err != nil || got.N != 2 {
		t.Errorf("after 1 was killed, Find = %+v, %v; want 2", got, err)
	}
	if h := claim(t, Options{Env: &e}); h.N != 1 {
		t.Errorf("after 1 was killed, claimed %d, want 1", h.N)
	}
}

func TestLookingDoesNotTakeANumber(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only the locks of linux can be looked at without being taken")
	}
	e := testEnv(t)
	claim(t, Options{Env: e}).Release()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				e.Find()
			}
		}
	}()
	for range 200 {
		h, err := Claim(Options{Env: e})
		if err != nil || h.N != 1 {
			t.Errorf("Claim = %+v, %v while clients look; want 1", h, err)
			break
		}
		h.Release()
	}
	close(stop)
	<-done
}

// lingering has a lock held by a child of its own for a while, and says in the file that
// pid took it. A child that a killed agent had just started is as one.
func lingering(t *testing.T, path string, pid int, forSeconds string) {
	t.Helper()
	l, err := tryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	fmt.Fprintf(l.f, "%-10d\n", pid)
	child := exec.Command("sleep", forSeconds)
	child.ExtraFiles = []*os.File{l.f}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { child.Process.Kill(); child.Wait() })
}

// waitForTheGone changes how long locks of processes that have ended are waited for.
func waitForTheGone(t *testing.T, d time.Duration) {
	before := goneWithin
	goneWithin = d
	t.Cleanup(func() { goneWithin = before })
}

func TestAnAgentThatIsStartedAnewAtOnceHasItsPlace(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	waitForTheGone(t, time.Minute) // a busy machine may take long to end those that linger
	e := testEnv(t)
	for _, given := range []string{"", filepath.Join(t.TempDir(), "state")} {
		h, err := Claim(Options{Env: e, StateDir: given})
		if err != nil {
			t.Fatal(err)
		}
		state, number := h.StateDir, h.N
		h.Release()
		lingering(t, filepath.Join(state, "lock"), dead.Process.Pid, "0.3")
		lingering(t, filepath.Join(filepath.Dir(h.Socket), fmt.Sprintf("%d.lock", number)), dead.Process.Pid, "0.3")
		h, err = Claim(Options{Env: e, StateDir: given})
		if err != nil {
			t.Fatalf("-state-dir %q: %v", given, err)
		}
		if h.N != number || h.StateDir != state {
			t.Errorf("-state-dir %q: it has the number %d and %s; before it had %d and %s", given, h.N, h.StateDir, number, state)
		}
		h.Release()
	}
}

func TestTheLockOfAnAgentThatRunsIsNotWaitedFor(t *testing.T) {
	e := testEnv(t)
	dir := filepath.Join(t.TempDir(), "state")
	claim(t, Options{Env: e, StateDir: dir})
	waitForTheGone(t, time.Minute)
	begin := time.Now()
	if _, err := Claim(Options{Env: e, StateDir: dir}); err == nil || !strings.Contains(err.Error(), "is in use by another agent") {
		t.Errorf("a second agent with the same state directory: %v", err)
	}
	if took := time.Since(begin); took > goneWithin/2 {
		t.Errorf("that was said after %v", took)
	}
}

func TestALockThatIsNotGivenUpIsNotWaitedForForEver(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "lock")
	lingering(t, path, dead.Process.Pid, "600")
	if _, err := takeLock(path); !errors.Is(err, errLocked) {
		t.Errorf("takeLock = %v, want %v", err, errLocked)
	}
}

func TestTemporaryHomeLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	h, err := Temporary()
	if err != nil {
		t.Fatal(err)
	}
	if h.N != 0 || h.Socket != "" {
		t.Errorf("Temporary() = %+v; want neither number nor socket", h)
	}
	if err := os.WriteFile(h.Path("x"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if err := h.Announce(Announcement{ID: "id", Name: "name"}); err != nil {
		t.Error(err)
	}
	if _, err := h.Listen(); err == nil {
		t.Error("Listen made a socket; want an error")
	}
	if err := h.Release(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(h.StateDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Release %s is still there: %v", h.StateDir, err)
	}
}

func TestPathTooLongForASocket(t *testing.T) {
	e := testEnv(t)
	long := e.Root + "/" + strings.Repeat("x", 100)
	mkdir(t, long+"/scagent", 0o700)
	for _, d := range []string{long, long + "/scagent"} {
		if err := os.Chown(d, e.UID, -1); err != nil {
			t.Fatal(err)
		}
	}
	old := e.Getenv
	e.Getenv = func(k string) string {
		if k == "XDG_RUNTIME_DIR" {
			return long
		}
		return old(k)
	}
	if _, err := Claim(Options{Env: e}); err == nil || !strings.Contains(err.Error(), "XDG_RUNTIME_DIR") {
		t.Errorf("Claim = %v; want an error that names XDG_RUNTIME_DIR", err)
	}
}
