//go:build linux

package test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// lab is a set of hosts.
type lab struct {
	t      testing.TB // the test, or the subtest that runs
	dir    string     // files that all hosts see
	mounts int        // pid that keeps /run and /var/lib of all hosts; 0: each has its own
}

// host is a network namespace, and a mount namespace with its own /run and
// /var/lib.
type host struct {
	lab    *lab
	pid    int // that keeps the network namespace
	mounts int // that keeps the mount namespace
	nics   int
	env    []string // for what is started here
}

// newLab returns a lab without hosts.
func newLab(t testing.TB) *lab {
	t.Helper()
	need(t, "ip", "unshare", "nsenter", "mount")
	return &lab{t: t, dir: openDir(t)}
}

// openDir makes a directory that everybody can use, as those as whom tasks run
// must: a directory of t is below one that only its owner can pass.
func openDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "scagent-lab-")
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs a subtest: what happens in the lab meanwhile is about it, and
// processes that it starts end with it.
func (l *lab) run(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		outer := l.t
		l.t = t
		defer func() { l.t = outer }()
		f(t)
	})
}

const (
	ownNet    = "ip link set lo up"
	ownMounts = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib"
)

// shareMounts gives all hosts that are made from now on one /run and one
// /var/lib, as namespaces of one machine have that are made by hand.
func (l *lab) shareMounts() {
	l.t.Helper()
	l.mounts = l.keep(ownMounts, "--mount")
}

// keep makes namespaces, runs a line in them, and returns the pid of a process
// that keeps them until the test ends.
func (l *lab) keep(line string, kinds ...string) int {
	l.t.Helper()
	cmd := exec.Command("unshare", append(kinds, "sh", "-c", line+" && echo ready && exec cat")...)
	in, err := cmd.StdinPipe() // closed when this process ends
	if err != nil {
		l.t.Fatal(err)
	}
	p := start(l.t, cmd)
	l.t.Cleanup(func() { in.Close() })
	p.out.await(l.t, "ready")
	return p.pid()
}

// host returns a new host, which reaches nothing but itself.
func (l *lab) host() *host {
	l.t.Helper()
	if l.mounts != 0 {
		return &host{lab: l, pid: l.keep(ownNet, "--net"), mounts: l.mounts}
	}
	pid := l.keep(ownNet+" && "+ownMounts, "--net", "--mount")
	return &host{lab: l, pid: pid, mounts: pid}
}

// hosts returns n hosts on a network of their own: 10.77.0.1, 10.77.0.2 and so on.
func (l *lab) hosts(n int) []*host {
	l.t.Helper()
	hosts := make([]*host, n)
	for i := range hosts {
		hosts[i] = l.host()
	}
	l.connect("10.77.0", hosts...)
	return hosts
}

// connect joins hosts by a bridge to a network: the first gets the address
// prefix.1, the second prefix.2 and so on. Multicast goes to the network that a
// host was connected to first. It returns the bridge.
func (l *lab) connect(prefix string, hosts ...*host) *host {
	l.t.Helper()
	bridge := l.host()
	var b strings.Builder
	b.WriteString("ip link add bridge type bridge mcast_snooping 0 && ip link set bridge up")
	for i, h := range hosts {
		nic := fmt.Sprintf("eth%d", h.nics)
		fmt.Fprintf(&b, " && ip link add port%d type veth peer name %s netns %d && ip link set port%d master bridge up", i, nic, h.pid, i)
		h.nics++
	}
	bridge.sh(b.String()).ok(l.t)
	for i, h := range hosts {
		nic := fmt.Sprintf("eth%d", h.nics-1)
		line := fmt.Sprintf("ip addr add %s.%d/24 dev %s && ip link set %s up", prefix, i+1, nic, nic)
		if h.nics == 1 {
			line += " && ip route add 224.0.0.0/4 dev " + nic
		}
		h.sh(line).ok(l.t)
	}
	return bridge
}

// ttl sets the TTL with which the host sends where a program says nothing else.
func (h *host) ttl(n int) {
	h.lab.t.Helper()
	h.sh(fmt.Sprintf("echo %d > /proc/sys/net/ipv4/ip_default_ttl", n)).ok(h.lab.t)
}

// command returns a command that is to run on the host. Its environment is
// small, and its working directory is /.
func (h *host) command(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{fmt.Sprintf("--mount=/proc/%d/ns/mnt", h.mounts), fmt.Sprintf("--net=/proc/%d/ns/net", h.pid), "--"}, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.lab.dir, "LANG=C.UTF-8"}, h.env...)
	return cmd
}

// sh runs a line of the shell.
func (h *host) sh(line string) *result {
	h.lab.t.Helper()
	return start(h.lab.t, h.command("sh", "-c", line)).await()
}

// start starts the program.
func (h *host) start(args ...string) *process {
	h.lab.t.Helper()
	return start(h.lab.t, h.command(append([]string{binary(h.lab.t)}, args...)...))
}

// scagent runs the program.
func (h *host) scagent(args ...string) *result {
	h.lab.t.Helper()
	return h.start(args...).await()
}

// inside runs f in the network namespace of the host. What f opens without a
// goroutine of its own stays in there; it must not start processes.
func (h *host) inside(f func()) {
	h.lab.t.Helper()
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", h.pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			f()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		h.lab.t.Fatal(err)
	}
}

// file makes a file that all hosts see, and returns its path.
func (l *lab) file(name, content string) string {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// read returns the lines of a file in the lab's directory, none if it is not there.
func (l *lab) read(name string) []string {
	f, err := os.Open(filepath.Join(l.dir, name))
	if err != nil {
		return nil
	}
	defer f.Close()
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, s.Text())
	}
	return lines
}

// remove removes a file of the lab's directory.
func (l *lab) remove(name string) {
	l.t.Helper()
	if err := os.Remove(filepath.Join(l.dir, name)); err != nil {
		l.t.Fatal(err)
	}
}
