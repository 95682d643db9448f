//go:build linux

package hosts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Lab is a set of hosts. Its methods, and those of its hosts, are called by one
// goroutine; Command, Path and Inside may be called by any.
type Lab struct {
	home    string                     // HOME on all hosts; constant
	prepare func(*syscall.SysProcAttr) // constant; may be nil
	mounts  int                        // pid that keeps /run and /var/lib of all hosts; 0: each has its own
	keepers []*keeper
}

// Host is a network namespace, and a mount namespace with its own /run and
// /var/lib.
type Host struct {
	Env []string // added to the environment of commands

	lab    *Lab
	net    int // pid that keeps the network namespace
	mounts int // that keeps the mount namespace
	nics   int
}

// New returns a lab without hosts. home is the HOME of what runs on them; prepare,
// which may be nil, is given the attributes of each process that the lab starts.
func New(home string, prepare func(*syscall.SysProcAttr)) *Lab {
	return &Lab{home: home, prepare: prepare}
}

// keeper is a process that keeps namespaces.
type keeper struct {
	cmd *exec.Cmd
	in  io.Closer // its end is the process's
}

// Close removes the hosts. What still runs on them keeps running, in namespaces
// that nobody can find.
func (l *Lab) Close() {
	for _, k := range l.keepers {
		k.in.Close()
		k.cmd.Process.Kill() // an error: it has ended
		k.cmd.Wait()
	}
	l.keepers = nil
}

const (
	ownNet    = "ip link set lo up"
	ownMounts = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib"
)

// ShareMounts gives all hosts that are made from now on one /run and one
// /var/lib, as namespaces of one machine have that are made by hand.
func (l *Lab) ShareMounts() (err error) {
	l.mounts, err = l.keep(ownMounts, "--mount")
	return err
}

// keep makes namespaces, runs a line in them, and returns the pid of a process
// that keeps them until the lab is closed.
func (l *Lab) keep(line string, kinds ...string) (pid int, err error) {
	cmd := exec.Command("unshare", append(kinds, "sh", "-c", line+" && echo ready && exec cat >/dev/null")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a ^C is for who made the lab
	if l.prepare != nil {
		l.prepare(cmd.SysProcAttr)
	}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("make namespaces: %w", err)
	}
	l.keepers = append(l.keepers, &keeper{cmd, in})
	if said, _ := bufio.NewReader(out).ReadString('\n'); said != "ready\n" {
		in.Close()
		err := cmd.Wait()
		l.keepers = l.keepers[:len(l.keepers)-1]
		return 0, fmt.Errorf("make namespaces with %q: %v\n%s", line, err, &complaint)
	}
	return cmd.Process.Pid, nil
}

// Host returns a new host, which reaches nothing but itself.
func (l *Lab) Host() (*Host, error) {
	if l.mounts != 0 {
		pid, err := l.keep(ownNet, "--net")
		return &Host{lab: l, net: pid, mounts: l.mounts}, err
	}
	pid, err := l.keep(ownNet+" && "+ownMounts, "--net", "--mount")
	return &Host{lab: l, net: pid, mounts: pid}, err
}

// Connect joins hosts by a bridge to a network: the first gets the address
// prefix.1, the second prefix.2 and so on. Multicast goes to the network that a
// host was connected to first. It returns the bridge.
func (l *Lab) Connect(prefix string, hosts ...*Host) (*Host, error) {
	bridge, err := l.Host()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString("ip link add bridge type bridge mcast_snooping 0 && ip link set bridge up")
	for i, h := range hosts {
		fmt.Fprintf(&b, " && ip link add port%d type veth peer name %s netns %d && ip link set port%d master bridge up", i, h.NextNIC(), h.net, i)
	}
	if err := bridge.Run(b.String()); err != nil {
		return nil, err
	}
	for i, h := range hosts {
		addr, err := netip.ParseAddr(fmt.Sprintf("%s.%d", prefix, i+1))
		if err != nil {
			return nil, err
		}
		if err := h.Attach(h.NextNIC(), addr); err != nil {
			return nil, err
		}
	}
	return bridge, nil
}

// NextNIC returns the name of the interface that the host is to get next.
func (h *Host) NextNIC() string { return fmt.Sprintf("eth%d", h.nics) }

// Attach brings up an interface of the host with an address on a network of 24
// bits. Multicast goes to the first one.
func (h *Host) Attach(nic string, addr netip.Addr) error {
	line := fmt.Sprintf("ip link set %s address %s && ip addr add %s/24 dev %s && ip link set %s up", nic, MAC(addr), addr, nic, nic)
	if h.nics++; h.nics == 1 {
		line += " && ip route add 224.0.0.0/4 dev " + nic
	}
	return h.Run(line)
}

// MAC returns the hardware address of an interface with an address: that address,
// marked as one that somebody made up.
func MAC(addr netip.Addr) string {
	a := addr.As4()
	return fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", a[0], a[1], a[2], a[3])
}

// Command returns a command that is to run on the host. Its environment is
// small, and its working directory is /.
func (h *Host) Command(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{fmt.Sprintf("--mount=/proc/%d/ns/mnt", h.mounts), fmt.Sprintf("--net=/proc/%d/ns/net", h.net), "--"}, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.lab.home, "LANG=C.UTF-8"}, h.Env...)
	return cmd
}

// Run runs a line of the shell on the host, and waits for its end.
func (h *Host) Run(line string) error {
	out, err := h.Command("sh", "-c", line).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", line, err, out)
	}
	return nil
}

// Path returns where a path of the host is for programs outside.
func (h *Host) Path(path string) string { return fmt.Sprintf("/proc/%d/root%s", h.mounts, path) }

// Inside runs f in the network namespace of the host. What f opens without a
// goroutine of its own stays in there; it must not start processes.
func (h *Host) Inside(f func()) error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", h.net), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			f()
		}
		failed <- err
	}()
	return <-failed
}

// Launcher starts processes that the kernel kills when this program ends, however
// it ends. It must be closed.
type Launcher struct {
	starts chan launch
	once   sync.Once
}

type launch struct {
	cmd *exec.Cmd
	err chan error
}

// NewLauncher returns a launcher. The kernel kills a process when the thread that
// started it ends, so there is one that does nothing else: closing the launcher
// kills what it has started.
func NewLauncher() *Launcher {
	l := &Launcher{starts: make(chan launch)}
	go func() {
		runtime.LockOSThread()
		for s := range l.starts {
			s.err <- s.cmd.Start()
		}
	}()
	return l
}

// Start starts a command.
func (l *Launcher) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if cmd.SysProcAttr.Pdeathsig != 0 {
		return errors.New("the command has a Pdeathsig of its own")
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	s := launch{cmd, make(chan error)}
	l.starts <- s
	return <-s.err
}

// Close kills what was started and still runs. It may be called twice.
func (l *Launcher) Close() { l.once.Do(func() { close(l.starts) }) }
