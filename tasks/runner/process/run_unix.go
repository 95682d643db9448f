//go:build unix

package process

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/tasks"
)

// goneWait bounds each of the waits, doubling from 100 µs, for a killed group to
// be gone. It is, at once, unless the kernel holds a process in a system call,
// or nobody on this machine reaps orphans.
const goneWait = 50 * time.Millisecond

// devNull stands in for streams that nobody gives or takes. All processes share it.
var devNull = kept(func() (*os.File, error) { return os.OpenFile(os.DevNull, os.O_RDWR, 0) })

// kept returns a function that calls open until that goes well once, and then returns
// what it got. Who is out of files now will not be for ever.
func kept[T any](open func() (T, error)) func() (T, error) {
	var mu sync.Mutex
	var have bool
	var v T
	return func() (T, error) {
		mu.Lock()
		defer mu.Unlock()
		if have {
			return v, nil
		}
		var err error
		v, err = open()
		have = err == nil
		return v, err
	}
}

// proc is one started program. It belongs to the goroutine that called Run.
type proc struct {
	s    *Spec
	pid  int // also of its group; another's, maybe, once it is reaped
	hold hold
	ex   Exit
}

func run(ctx context.Context, s *Spec) (Exit, error) {
	p := &proc{s: s}
	out, err := p.startFound()
	if err != nil {
		if c, ok := s.Stdin.(io.Closer); ok {
			if _, file := s.Stdin.(*os.File); !file {
				c.Close()
			}
		}
		return Exit{}, err
	}

	exited := make(chan struct{})
	go func() {
		defer close(exited)
		waitExit(p.pid)
	}()
	p.stop(ctx, exited)
	<-exited

	out.closeStdin()
	p.killGroup()
	if p.ex.Stopped != 0 {
		p.killTree()
	}
	p.reap()
	if !out.wait(s.linger()) {
		p.killTree()
		out.cut()
	}
	p.ex.StdoutBytes, p.ex.StderrBytes = out.stdout.n, out.stderr.n
	p.ex.OutputCut = out.stdout.cut || out.stderr.cut
	if p.hold.cgroup == nil {
		p.killTree()
	}
	p.hold.release()
	return p.ex, nil
}

// startFound starts the first program in the PATH that the task's user may execute. The
// agent finds more than that user does, so it is tried, as execvp does it.
func (p *proc) startFound() (*streams, error) {
	var denied error
	for dirs := pathOf(p.s); ; {
		path, rest, err := lookup(p.s, dirs)
		if err != nil {
			return nil, cmp.Or(denied, err)
		}
		out, err := p.start(path)
		if !errors.Is(err, unix.EACCES) {
			return out, err
		}
		denied = cmp.Or(denied, err)
		if len(rest) == 0 {
			return nil, denied
		}
		dirs = rest
	}
}

// start starts the program with its pipes.
func (p *proc) start(path string) (*streams, error) {
	out, files, err := openStreams(p.s)
	if err != nil {
		return nil, startError(p.s, path, err)
	}
	attr := &syscall.ProcAttr{Dir: p.s.Dir, Env: p.s.Env, Files: files[:], Sys: &syscall.SysProcAttr{Setpgid: true, Credential: p.s.User.credential()}}
	p.hold = p.s.Nets.acquire()
	p.hold.use(attr.Sys)
	p.ex.Started = time.Now()
	p.pid, err = startLimited(path, p.s.Argv, attr, &p.s.Limits, p.hold.brand)
	if err != nil && p.hold.lost() {
		attr.Sys = &syscall.SysProcAttr{Setpgid: true, Credential: p.s.User.credential()}
		p.pid, err = startLimited(path, p.s.Argv, attr, &p.s.Limits, p.hold.brand)
	}
	out.started()
	if err != nil {
		p.hold.release()
		out.abort()
		return nil, startError(p.s, path, err)
	}
	p.hold.begun(p.pid)
	out.copy()
	return out, nil
}

// stop waits for the exit, and stops the program when ctx ends or Kill closes.
func (p *proc) stop(ctx context.Context, exited <-chan struct{}) {
	done, kill := ctx.Done(), p.s.Kill
	var signals []syscall.Signal // still to be sent
	var next <-chan time.Time
	for {
		select {
		case <-exited:
			return
		case <-done:
			if closed(exited) {
				return
			}
			done = nil
			p.ex.Stopped = Reason(ctx)
			switch p.ex.Stopped {
			case tasks.StopKill:
				signals = []syscall.Signal{unix.SIGKILL}
			case tasks.StopInterrupt:
				signals = []syscall.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGKILL}
			default:
				signals = []syscall.Signal{unix.SIGTERM, unix.SIGKILL}
			}
		case <-kill:
			if closed(exited) {
				return
			}
			kill, done = nil, nil
			if p.ex.Stopped == 0 {
				p.ex.Stopped = tasks.StopKill
			}
			signals = []syscall.Signal{unix.SIGKILL}
		case <-next:
		}
		sig := signals[0]
		signals = signals[1:]
		if sig == unix.SIGKILL {
			p.killGroup()
			p.killTree()
			next = nil
			continue
		}
		unix.Kill(-p.pid, sig)
		unix.Kill(-p.pid, unix.SIGCONT) // a stopped process hears nothing
		next = time.After(p.s.grace())
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// killGroup kills what is in the process group. It must not be called once the
// main process is reaped: its number may be another's then.
func (p *proc) killGroup() { unix.Kill(-p.pid, unix.SIGKILL) }

// killTree kills what has left the group.
func (p *proc) killTree() {
	if p.hold.cgroup != nil {
		p.hold.cgroup.kill()
		return
	}
	seek(p.s.Marks, p.hold.brand).kill(newcomers(p.pid, p.ex.Started))
}

// reap collects how the main process ended, and waits until its group, which
// has been killed, is gone.
func (p *proc) reap() {
	p.hold.ended()
	var ws syscall.WaitStatus
	var ru syscall.Rusage
	for {
		if _, err := syscall.Wait4(p.pid, &ws, 0, &ru); err != syscall.EINTR {
			break
		}
	}
	p.ex.Finished = time.Now()
	if ws.Signaled() {
		p.ex.Signal = signalName(ws.Signal())
	} else {
		p.ex.Status = ws.ExitStatus()
	}
	p.ex.User, p.ex.System = time.Duration(ru.Utime.Nano()), time.Duration(ru.Stime.Nano())
	p.ex.MaxRSS = int64(ru.Maxrss) * maxRSSUnit

	// Group leftovers are dying: rare, and over at once.
	for wait := 100 * time.Microsecond; wait < goneWait && unix.Kill(-p.pid, 0) == nil; wait *= 2 {
		time.Sleep(wait)
	}
}

func signalName(s syscall.Signal) string {
	if n := unix.SignalName(s); n != "" {
		return n
	}
	return s.String()
}
