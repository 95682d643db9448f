//go:build linux

package test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/scagent/scagent/test/hosts"
)

// lab is a set of hosts.
type lab struct {
	*hosts.Lab
	t   testing.TB // the test, or the subtest that runs
	dir string     // files that all hosts see
}

// host is a host of a lab.
type host struct {
	*hosts.Host
	lab *lab
}

// newLab returns a lab without hosts.
func newLab(t testing.TB) *lab {
	t.Helper()
	need(t, "ip", "unshare", "nsenter", "mount")
	l := &lab{t: t, dir: openDir(t)}
	l.Lab = hosts.New(l.dir, processes.Use)
	t.Cleanup(l.Close)
	return l
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

// shareMounts gives all hosts that are made from now on one /run and one
// /var/lib, as namespaces of one machine have that are made by hand.
func (l *lab) shareMounts() {
	l.t.Helper()
	if err := l.ShareMounts(); err != nil {
		l.t.Fatal(err)
	}
}

// host returns a new host, which reaches nothing but itself.
func (l *lab) host() *host {
	l.t.Helper()
	h, err := l.Host()
	if err != nil {
		l.t.Fatal(err)
	}
	return &host{h, l}
}

// hosts returns n hosts on a network of their own: 10.77.0.1, 10.77.0.2 and so on.
func (l *lab) hosts(n int) []*host {
	l.t.Helper()
	those := make([]*host, n)
	for i := range those {
		those[i] = l.host()
	}
	l.connect("10.77.0", those...)
	return those
}

// connect joins hosts by a bridge to a network: the first gets the address
// prefix.1, the second prefix.2 and so on. Multicast goes to the network that a
// host was connected to first. It returns the bridge.
func (l *lab) connect(prefix string, those ...*host) *host {
	l.t.Helper()
	var list []*hosts.Host
	for _, h := range those {
		list = append(list, h.Host)
	}
	bridge, err := l.Connect(prefix, list...)
	if err != nil {
		l.t.Fatal(err)
	}
	return &host{bridge, l}
}

// ttl sets the TTL with which the host sends where a program says nothing else.
func (h *host) ttl(n int) {
	h.lab.t.Helper()
	h.sh(fmt.Sprintf("echo %d > /proc/sys/net/ipv4/ip_default_ttl", n)).ok(h.lab.t)
}

// sh runs a line of the shell.
func (h *host) sh(line string) *result {
	h.lab.t.Helper()
	return start(h.lab.t, h.Command("sh", "-c", line)).await()
}

// start starts the program.
func (h *host) start(args ...string) *process {
	h.lab.t.Helper()
	return start(h.lab.t, h.Command(append([]string{binary(h.lab.t)}, args...)...))
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
	if err := h.Inside(f); err != nil {
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
