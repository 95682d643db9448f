//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/test/chaos/fabric"
	"github.com/scagent/scagent/test/chaos/nemesis"
)

// patience is how long tests wait for what has no promised time.
const patience = 30 * time.Second

// actVariable makes the test program act as a run that is killed.
const actVariable = "SCAGENT_CHAOS_TEST_ACT"

func TestMain(m *testing.M) {
	if binary := os.Getenv(actVariable); binary != "" {
		act(binary)
	}
	os.Exit(m.Run())
}

func need(t *testing.T) {
	t.Helper()
	if lacks := Lacks(); lacks != "" {
		if os.Getenv("SCAGENT_TEST_NO_SKIP") != "" {
			t.Fatalf("this machine lacks %s, and nothing may be skipped", lacks)
		}
		t.Skipf("SKIPPED: this machine lacks %s", lacks)
	}
}

// three is a cluster of a master m and the workers w1 and w2.
func three(dir, binary string) Config {
	return Config{Dir: dir, Binary: binary, Fabric: true, Seed: 1, DiskBytes: 32 << 20, Nodes: []NodeConfig{
		{Name: "m", Role: "master"}, {Name: "w1", Role: "worker"}, {Name: "w2", Role: "worker"},
	}}
}

func newCluster(t *testing.T) *Cluster {
	t.Helper()
	need(t)
	d, err := NewDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Remove() })
	binary, err := Build(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	cfg := three(d.Path, binary)
	cfg.Log = func(line string) { t.Log(line) }
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		left(t, d.Path)
	})
	c.await(t)
	return c
}

func (c *Cluster) await(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, n := range c.nodes {
		if err := c.Await(ctx, n.Name); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *Cluster) apply(t *testing.T, f nemesis.Fault) {
	t.Helper()
	if err := c.Apply(f); err != nil {
		t.Fatal(err)
	}
}

// eventually asks every 50 ms until ok.
func eventually(t *testing.T, what string, ok func() (bool, any)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		good, state := ok()
		if good {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s; last: %v", patience, what, state)
		}
		<-tick.C
	}
}

// sees returns what m says about a node.
func (c *Cluster) sees(t *testing.T, name string) string {
	t.Helper()
	cl, err := c.Node("m").Client()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ms, err := cl.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		if m.Name == name {
			return m.Status
		}
	}
	return "unknown"
}

// struck waits until m sees that a node is gone, ends that, and waits until all see
// all.
func (c *Cluster) struck(t *testing.T, begin, end nemesis.Fault) {
	t.Helper()
	c.apply(t, begin)
	eventually(t, "m says failed of "+begin.Node, func() (bool, any) { s := c.sees(t, begin.Node); return s == "failed", s })
	c.apply(t, end)
	c.await(t)
}

// left fails the test when there is still something of a cluster: processes with its
// directory among their arguments, or its cgroup.
func left(t *testing.T, dir string) {
	t.Helper()
	eventually(t, "nothing is left of "+dir, func() (bool, any) {
		paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, p := range paths {
			if b, _ := os.ReadFile(p); strings.Contains(string(b), dir) {
				return false, fmt.Sprintf("%s: %q", p, b)
			}
		}
		mounts, _ := os.ReadFile("/proc/self/mountinfo")
		return !strings.Contains(string(mounts), dir), "a mount"
	})
	cgroups, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/scagent-chaos.%d", os.Getpid()))
	if len(cgroups) > 0 {
		t.Errorf("%v is left", cgroups)
	}
}

func TestFaults(t *testing.T) {
	c := newCluster(t)
	w1 := c.Node("w1")
	t.Run("kill", func(t *testing.T) {
		c.struck(t, nemesis.Fault{Kind: nemesis.Kill, Node: "w1"}, nemesis.Fault{Kind: nemesis.Start, Node: "w1"})
	})
	t.Run("stop", func(t *testing.T) {
		// The members say so too, but then take their time to have it back.
		c.apply(t, nemesis.Fault{Kind: nemesis.Stop, Node: "w1"})
		eventually(t, "w1 is stopped", func() (bool, any) { s := w1.status(t); return s == "T", s })
		c.apply(t, nemesis.Fault{Kind: nemesis.Cont, Node: "w1"})
		eventually(t, "w1 goes on", func() (bool, any) { s := w1.status(t); return s != "T", s })
	})
	t.Run("kill while stopped", func(t *testing.T) {
		c.apply(t, nemesis.Fault{Kind: nemesis.Stop, Node: "w1"})
		c.struck(t, nemesis.Fault{Kind: nemesis.Kill, Node: "w1"}, nemesis.Fault{Kind: nemesis.Start, Node: "w1"})
		c.apply(t, nemesis.Fault{Kind: nemesis.Cont, Node: "w1"}) // of an agent that is not paused
	})
	t.Run("cut", func(t *testing.T) {
		for _, c1 := range []struct{ from, to string }{{"w1", "w2"}, {"w2", "w1"}} {
			c.apply(t, nemesis.Fault{Kind: nemesis.Cut, Node: c1.from, To: c1.to})
			for _, c2 := range []struct {
				from, to string
				want     int
			}{{c1.from, c1.to, 0}, {c1.to, c1.from, 100}, {c1.from, "m", 100}, {"m", c1.to, 100}} {
				if got := c.datagrams(t, c2.from, c2.to, 100, c2.want); got != c2.want {
					t.Errorf("%s is cut off to %s: %d of 100 arrive from %s at %s, want %d", c1.from, c1.to, got, c2.from, c2.to, c2.want)
				}
			}
			c.apply(t, nemesis.Fault{Kind: nemesis.Heal, Node: c1.from, To: c1.to})
			if got := c.datagrams(t, c1.from, c1.to, 100, 100); got != 100 {
				t.Errorf("healed: %d of 100 arrive from %s at %s", got, c1.from, c1.to)
			}
		}
	})
	t.Run("loss", func(t *testing.T) {
		c.apply(t, nemesis.Fault{Kind: nemesis.Loss, Node: "w1", Percent: 30})
		const least, most = 620, 780 // 5 standard deviations
		if got := c.datagrams(t, "m", "w1", 1000, least); got < least || got > most {
			t.Errorf("%d of 1000 arrive at 30 %% loss", got)
		}
		if got := c.datagrams(t, "w1", "m", 100, 100); got != 100 {
			t.Errorf("%d of 100 arrive from a node that loses what it is sent", got)
		}
		c.apply(t, nemesis.Fault{Kind: nemesis.Loss, Node: "w1"})
	})
	t.Run("one protocol", func(t *testing.T) {
		for _, proto := range []string{"udp", "tcp"} {
			c.apply(t, nemesis.Fault{Kind: nemesis.Loss, Node: "w1", Proto: proto, Percent: 100})
			want := map[string]int{"udp": 0, "tcp": 10}[proto]
			if got := c.datagrams(t, "m", "w1", 10, want); got != want {
				t.Errorf("%d of 10 datagrams arrive without %s, want %d", got, proto, want)
			}
			limit := map[string]time.Duration{"udp": patience, "tcp": 500 * time.Millisecond}[proto]
			if got, want := c.dials(t, "m", "w1", limit), proto == "udp"; got != want {
				t.Errorf("a connection is there without %s: %t, want %t", proto, got, want)
			}
			c.apply(t, nemesis.Fault{Kind: nemesis.Loss, Node: "w1", Proto: proto})
		}
	})
	t.Run("shape", func(t *testing.T) {
		p := fabric.Policy{LossPercent: 100}
		c.apply(t, nemesis.Fault{Kind: nemesis.Shape, Node: "m", To: "w1", Policy: p})
		if there, back := c.datagrams(t, "m", "w1", 10, 0), c.datagrams(t, "w1", "m", 10, 10); there != 0 || back != 10 {
			t.Errorf("%d of 10 arrive through a switch that loses all, %d the other way", there, back)
		}
		c.apply(t, nemesis.Fault{Kind: nemesis.Shape, Node: "m", To: "w1"})
		c.await(t)
	})
	t.Run("full", func(t *testing.T) {
		write := func() error { return os.WriteFile(w1.host.Path(w1.state+"/more"), make([]byte, 1000), 0o600) }
		c.apply(t, nemesis.Fault{Kind: nemesis.Full, Node: "w1"})
		if err := write(); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("write to a full disk = %v", err)
		}
		if err := os.WriteFile(c.Node("w2").host.Path(c.Node("w2").state+"/more"), make([]byte, 1000), 0o600); err != nil {
			t.Errorf("write to the disk of another node: %v", err)
		}
		c.apply(t, nemesis.Fault{Kind: nemesis.Free, Node: "w1"})
		if err := write(); err != nil {
			t.Errorf("write to a disk with room again: %v", err)
		}
	})
	t.Run("fds", func(t *testing.T) {
		answers := func() error {
			cl, err := w1.Client()
			if err != nil {
				return err
			}
			defer cl.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = cl.Info(ctx)
			return err
		}
		eventually(t, "the agent answers", func() (bool, any) { err := answers(); return err == nil, err })
		c.apply(t, nemesis.Fault{Kind: nemesis.FDs, Node: "w1"})
		// One that was open may be closed, and be used for the first to come.
		eventually(t, "no more connections are accepted", func() (bool, any) { err := answers(); return err != nil, err })
		c.apply(t, nemesis.Fault{Kind: nemesis.FDsFree, Node: "w1"})
		eventually(t, "connections are accepted", func() (bool, any) { err := answers(); return err == nil, err })
		c.await(t)
	})
	t.Run("heal", func(t *testing.T) {
		p := fabric.Policy{Delay: time.Second}
		for _, f := range []nemesis.Fault{
			{Kind: nemesis.Kill, Node: "w2"}, {Kind: nemesis.Stop, Node: "w1"}, {Kind: nemesis.FDs, Node: "m"}, {Kind: nemesis.Full, Node: "w1"},
			{Kind: nemesis.Cut, Node: "w1", To: "m"}, {Kind: nemesis.Loss, Node: "w1", Percent: 100}, {Kind: nemesis.Loss, Node: "w2", Proto: "tcp", Percent: 100},
			{Kind: nemesis.Shape, Node: "m", To: "w2", Policy: p},
		} {
			c.apply(t, f)
		}
		if err := c.Heal(); err != nil {
			t.Fatal(err)
		}
		c.await(t)
		for _, from := range c.nodes {
			for _, to := range c.nodes {
				if from != to && (c.datagrams(t, from.Name, to.Name, 10, 10) != 10 || c.fabric.Policy(from.Name, to.Name) != fabric.Policy{}) {
					t.Errorf("not all arrives from %s at %s after everything was healed", from.Name, to.Name)
				}
			}
			if from.full {
				t.Errorf("the disk of %s is full after everything was healed", from.Name)
			}
		}
	})
	t.Run("nonsense", func(t *testing.T) {
		for _, f := range []nemesis.Fault{
			{Kind: "rain", Node: "w1"}, {Kind: nemesis.Kill, Node: "w9"}, {Kind: nemesis.Cut, Node: "w1"}, {Kind: nemesis.Cut, Node: "w1", To: "w1"},
			{Kind: nemesis.Loss, Node: "w1", Percent: 101}, {Kind: nemesis.Shape, Node: "w1"},
		} {
			if err := c.Apply(f); err == nil {
				t.Errorf("%s was applied", f)
			}
		}
	})
	t.Run("an agent that ends by itself", func(t *testing.T) {
		if all, failed := c.Ended(); all != 0 {
			t.Fatalf("%d agents ended by themselves before: %v", all, failed)
		}
		w1.mu.Lock()
		w1.excused = false
		w1.proc.cmd.Process.Signal(syscall.SIGABRT) // as a panic would
		w1.mu.Unlock()
		eventually(t, "it is told", func() (bool, any) {
			all, failed := c.Ended()
			return all == 1 && len(failed) == 1 && strings.Contains(failed[0], "w1 ended by itself"), failed
		})
		eventually(t, "it is started again", func() (bool, any) { w1.mu.Lock(); defer w1.mu.Unlock(); return w1.proc != nil, nil })
		c.await(t)
	})
	t.Run("state is saved", func(t *testing.T) {
		for _, n := range c.nodes { // else files go while they are copied
			c.apply(t, nemesis.Fault{Kind: nemesis.Kill, Node: n.Name})
		}
		if err := c.SaveDisks(); err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(w1.state); err != nil || len(entries) == 0 {
			t.Errorf("the state that was saved is %v, %v", entries, err)
		}
	})
}

// status returns the state of the agent's process, a letter.
func (n *Node) status(t *testing.T) string {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.proc.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return after[:1]
}

// datagrams sends n from one node to another and returns how many arrive: it waits until
// so many have, at least, and then until no more do for a while. They have a port of their
// own.
func (c *Cluster) datagrams(t *testing.T, from, to string, n, least int) (got int) {
	t.Helper()
	var in, out net.PacketConn
	var err error
	addr := &net.UDPAddr{IP: c.Node(to).addr.AsSlice(), Port: 9999}
	if e := c.Node(to).host.Inside(func() { in, err = net.ListenPacket("udp4", addr.String()) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	defer in.Close()
	if e := c.Node(from).host.Inside(func() { out, err = net.ListenPacket("udp4", c.Node(from).addr.String()+":0") }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	defer out.Close()
	for i := range n {
		if _, err := out.WriteTo([]byte{byte(i)}, addr); err != nil {
			t.Fatal(err)
		}
		if i%100 == 99 { // less than a socket's buffer at a time
			got += count(t, in, 100, 100*time.Millisecond)
		}
	}
	if got < least {
		got += count(t, in, least-got, patience)
	}
	return got + count(t, in, n-got, time.Second)
}

// count reads until so many have come, or nothing has for so long.
func count(t *testing.T, in net.PacketConn, want int, quiet time.Duration) (got int) {
	t.Helper()
	b := make([]byte, 8)
	for got < want {
		in.SetReadDeadline(time.Now().Add(quiet))
		if _, _, err := in.ReadFrom(b); errors.Is(err, os.ErrDeadlineExceeded) {
			return got
		} else if err != nil {
			t.Fatal(err)
		}
		got++
	}
	return got
}

// dials reports whether one node can connect to the agent of another within a time.
func (c *Cluster) dials(t *testing.T, from, to string, limit time.Duration) bool {
	t.Helper()
	var conn net.Conn
	var err error
	addr := net.JoinHostPort(c.Node(to).addr.String(), "44201")
	if e := c.Node(from).host.Inside(func() { conn, err = net.DialTimeout("tcp", addr, limit) }); e != nil {
		t.Fatal(e)
	}
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// act starts a cluster, says so, and waits to be killed.
func act(binary string) {
	d, err := NewDir()
	if err == nil {
		var c *Cluster
		if c, err = New(three(d.Path, binary)); err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			err = c.Await(ctx, "m")
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(d.Path)
	select {}
}

// TestNothingIsLeftOfARunThatWasKilled kills a program that has a cluster.
func TestNothingIsLeftOfARunThatWasKilled(t *testing.T) {
	need(t)
	binary, err := Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	victim := exec.Command(self)
	victim.Env = append(os.Environ(), actVariable+"="+binary)
	victim.Stderr = os.Stderr
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var dir string
	if _, err := fmt.Fscanln(out, &dir); err != nil {
		t.Fatal(err)
	}
	victim.Process.Kill()
	victim.Wait()
	left(t, dir)
	d, err := NewDir()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Remove()
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of the killed run is still there after the next began: %v", err)
	}
	c, err := New(Config{Dir: d.Path, Binary: binary, Nodes: []NodeConfig{{Name: "w", Role: "worker"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if cgroups, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/scagent-chaos.%d", victim.Process.Pid)); len(cgroups) > 0 {
		t.Errorf("the cgroup of the killed run is still there: %v", cgroups)
	}
}

func TestKeptDirectoriesStay(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	kept, err := NewDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.Keep(); err != nil {
		t.Fatal(err)
	}
	used, err := NewDir()
	if err != nil {
		t.Fatal(err)
	}
	stale, err := NewDir()
	if err != nil {
		t.Fatal(err)
	}
	stale.lock.Close() // as the kernel does when its holder is killed
	next, err := NewDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		d     *Dir
		stays bool
	}{{kept, true}, {used, true}, {stale, false}, {next, true}} {
		if _, err := os.Stat(c.d.Path); (err == nil) != c.stays {
			t.Errorf("stat %s = %v; is it to be there? %t", c.d.Path, err, c.stays)
		}
	}
}

// TestRunsThatBeginAtOnceLeaveEachOther has many make their directories while all look
// for those that somebody left.
func TestRunsThatBeginAtOnceLeaveEachOther(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				d, err := NewDir()
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(filepath.Join(d.Path, lockName)); err != nil {
					t.Errorf("a directory was removed while its run has it: %v", err)
				}
				if err := d.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
