//go:build unix

package home

import (
	"bufio"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// nobody is a user, and a group, other than that of the tests.
const nobody = 65534

// others runs this test's program as other users.
type others struct{ program string }

// openToOthers lets all users pass through dir, and puts the program there.
func openToOthers(t *testing.T, dir string) others {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be other users")
	}
	for d := dir; d != os.TempDir() && len(d) > 1; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip("needs the test's own program: ", err)
	}
	o := others{dir + "/program"}
	if err := os.WriteFile(o.program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o others) command(who syscall.Credential, env ...string) *exec.Cmd {
	cmd := exec.Command(o.program)
	cmd.Env, cmd.Dir = env, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &who}
	return cmd
}

// run returns what the program prints.
func (o others) run(t *testing.T, who syscall.Credential, env ...string) string {
	t.Helper()
	out, err := o.command(who, env...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q as %+v: %v: %s", env, who, err, out)
	}
	return strings.TrimSpace(string(out))
}

// agent starts an agent, which lives until the test ends, and returns its first line.
func (o others) agent(t *testing.T, who syscall.Credential, env ...string) string {
	t.Helper()
	cmd := o.command(who, env...)
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
	return strings.TrimSpace(line)
}

// TestOnlyTheOwnerRootAndTheGroupAreServed takes the modes out of the way, as they
// are when a socket is handed into a container, or opened by hand: what the
// kernel says of who connects still keeps others out.
func TestOnlyTheOwnerRootAndTheGroupAreServed(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" && runtime.GOOS != "freebsd" {
		t.Skip("this system does not say who connects")
	}
	many := make([]uint32, 200) // more than fit where they are asked for first
	for i := range many {
		many[i] = uint32(10_000 + i)
	}
	const owner, group = 1000, 4242 // of testEnv
	e := testEnv(t)
	others := openToOthers(t, e.Root)
	serve := func(gid int) *Listener {
		h := claim(t, Options{Env: e})
		h.gid = gid // as if the user were in it
		l, err := h.Listen()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		for _, p := range []string{e.Root + "/user", filepath.Dir(h.Socket), h.Socket} {
			if err := os.Chmod(p, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(h.Socket, 0o777); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Write([]byte("welcome"))
				c.Close()
			}
		}()
		return l
	}
	alone, shared := serve(-1), serve(group)
	check := func(t *testing.T, who syscall.Credential, l *Listener, may bool) {
		t.Helper()
		before := l.Refused()
		want, refused := `connected, and was told "welcome"`, uint64(0)
		if !may {
			want, refused = `connected, and was told ""`, 1
		}
		if got := others.run(t, who, "HOME_TEST_DIAL="+l.Addr().String()); got != want || l.Refused()-before != refused {
			t.Errorf("group %d: %s; %d were refused; want that it %s, and %d", l.gid, got, l.Refused()-before, want, refused)
		}
	}
	for _, c := range []struct {
		name    string
		who     syscall.Credential
		without bool // may without -api-group
		with    bool
	}{
		{"the owner", syscall.Credential{Uid: owner, Gid: nobody}, true, true},
		{"root", syscall.Credential{}, true, true},
		{"root's group alone", syscall.Credential{Uid: nobody, Gid: 0}, false, false},
		{"the owner's group alone", syscall.Credential{Uid: nobody, Gid: owner}, false, false},
		{"another", syscall.Credential{Uid: nobody, Gid: nobody}, false, false},
		{"another in many groups", syscall.Credential{Uid: nobody, Gid: nobody, Groups: many}, false, false},
		{"the group as the primary one", syscall.Credential{Uid: nobody, Gid: group}, false, true},
		{"the group as one of a few", syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{1, group}}, false, true},
		{"the group as one of many", syscall.Credential{Uid: nobody, Gid: nobody, Groups: append(many, group)}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			check(t, c.who, alone, c.without)
			check(t, c.who, shared, c.with)
		})
	}
}

// TestSocketIsNeverWiderThanItsMode looks at the socket all the time while it is
// made, with a umask that takes nothing away.
func TestSocketIsNeverWiderThanItsMode(t *testing.T) {
	h := claim(t, Options{Env: testEnv(t)})
	defer syscall.Umask(syscall.Umask(0))
	stop, seen := make(chan struct{}), make(chan map[string]int)
	go func() {
		modes := map[string]int{}
		for {
			select {
			case <-stop:
				seen <- modes
				return
			default:
			}
			for _, p := range []string{h.Socket, filepath.Dir(h.Socket + bindSuffix)} {
				if fi, err := os.Lstat(p); err == nil {
					modes[filepath.Base(p)+" "+fi.Mode().String()]++
				}
			}
		}
	}()
	for range 200 {
		l, err := h.Listen()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		os.Remove(h.Socket)
	}
	close(stop)
	modes := <-seen
	t.Log(modes)
	delete(modes, "1.sock "+(fs.ModeSocket|0o600).String())
	delete(modes, "1.sock.new "+(fs.ModeDir|0o700).String())
	if len(modes) > 0 {
		t.Errorf("there were moments with these modes: %v", modes)
	}
}

func TestModesHoldWhateverTheUmask(t *testing.T) {
	for _, umask := range []string{"0", "022", "077", "0777"} {
		for _, who := range []syscall.Credential{{}, {Uid: nobody, Gid: nobody}} {
			t.Run(fmt.Sprintf("umask %s, user %d", umask, who.Uid), func(t *testing.T) {
				root := t.TempDir()
				others := openToOthers(t, root)
				for _, d := range []string{root, root + "/run"} {
					mkdir(t, d, 0o755)
					if err := os.Chown(d, int(who.Uid), -1); err != nil {
						t.Fatal(err)
					}
				}
				if got := others.agent(t, who, "HOME_TEST_CLAIM="+root, "HOME_TEST_UMASK="+umask); got != "1" {
					t.Fatalf("the agent says %s", got)
				}
				runtime, state := root+"/run/scagent", root+"/var/lib/scagent"
				want := map[string]fs.FileMode{runtime: fs.ModeDir | 0o755, state: fs.ModeDir | 0o711, state + "/1": fs.ModeDir | 0o711}
				if who.Uid != 0 {
					runtime, state = root+"/scagent", root+"/scagent/1"
					want = map[string]fs.FileMode{runtime: fs.ModeDir | 0o700, state: fs.ModeDir | 0o700}
				}
				want[runtime+"/1.sock"], want[runtime+"/1.json"] = fs.ModeSocket|0o600, 0o644
				for p, mode := range want {
					if fi, err := os.Lstat(p); err != nil || fi.Mode() != mode {
						t.Errorf("%s: %v, %v; want %v", p, fi.Mode(), err, mode)
					}
				}
			})
		}
	}
}

func TestGroupOfAUserWhoIsInIt(t *testing.T) {
	root := t.TempDir()
	others := openToOthers(t, root)
	for _, d := range []string{root, root + "/tmp", root + "/scagent"} {
		mkdir(t, d, 0o755)
		if err := os.Chown(d, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	member := syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{4242}}
	claim := "HOME_TEST_CLAIM=" + root
	// One without a group first: what it makes must not stand in the way.
	dir := fmt.Sprintf("%s/tmp/scagent-%d", root, nobody)
	mkdir(t, dir, 0o700)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	out, err := others.command(syscall.Credential{Uid: nobody, Gid: nobody}, claim, "HOME_TEST_GROUP=4242").Output()
	if err == nil || !strings.Contains(string(out), `may not give the API's socket to the group "4242"`) || !strings.Contains(string(out), "-api-group") {
		t.Errorf("an agent whose user is not in the group: %v, %s; want what it may not do, and -api-group", err, out)
	}
	if got := others.agent(t, member, claim, "HOME_TEST_GROUP=4242"); got != "1" {
		t.Fatalf("an agent whose user is in the group says %s", got)
	}
	socket := dir + "/1.sock"
	fi, err := os.Lstat(socket)
	if err != nil || fi.Mode() != fs.ModeSocket|0o660 || fi.Sys().(*syscall.Stat_t).Gid != 4242 {
		t.Errorf("socket: %+v, %v; want mode 660 and the group", fi, err)
	}
	if fi, err := os.Lstat(dir); err != nil || fi.Mode() != fs.ModeDir|0o711 {
		t.Errorf("%s: %v, %v; want mode 711: others pass through, and see nothing", dir, fi.Mode(), err)
	}
	for _, c := range []struct {
		name, want string
		who        syscall.Credential
	}{
		{"in the group", "connected", syscall.Credential{Uid: 1000, Gid: 1000, Groups: []uint32{4242}}},
		{"not in the group", `there for its owner and the group "4242"; join that group`, syscall.Credential{Uid: 1000, Gid: 1000}},
	} {
		if got := others.run(t, c.who, "HOME_TEST_DIAL="+socket); !strings.Contains(got, c.want) {
			t.Errorf("a client %s: %s; want %q", c.name, got, c.want)
		}
	}
	if got := others.run(t, syscall.Credential{Uid: nobody, Gid: nobody}, "HOME_TEST_FIND="+root); got != socket {
		t.Errorf("the user's own client, without -addr: %s; want it to find %s", got, socket)
	}
}

func TestSocketsOfOthersAreReplacedNotFollowed(t *testing.T) {
	h := claim(t, Options{Env: testEnv(t)})
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{h.Socket, filepath.Dir(h.Socket + bindSuffix)} {
		if err := os.Symlink(victim, at); err != nil {
			t.Fatal(err)
		}
	}
	l := listener(t, h)
	c, err := net.Dial("unix", h.Socket)
	if err != nil {
		t.Fatalf("the socket after it was a link: %v", err)
	}
	c.Close()
	l.Close()
	if fi, err := os.Lstat(victim); err != nil || !fi.Mode().IsRegular() || fi.Mode() != 0o600 {
		t.Errorf("what the links named is now %v, %v; want it untouched", fi, err)
	}
}
