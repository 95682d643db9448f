//go:build unix

package process

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// bufferBytes is as much as a pipe holds.
	bufferBytes = 64 << 10
	// tailBytes bounds what is read of a pipe whose writer could not be ended:
	// the most that a pipe may be made to hold without privileges.
	tailBytes = 1 << 20
)

var buffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

// streams are the agent's ends of a program's standard streams.
type streams struct {
	stdin          *os.File // nil: not a pipe
	source         io.Reader
	stdout, stderr stream
	theirs         [3]int // the program's ends that are to be closed here, else -1

	busy   atomic.Int32  // goroutines that still read
	done   chan struct{} // closed when none does
	writer chan struct{} // closed when nothing is copied to stdin any more; nil: nothing was
}

// stream is one pipe that is read.
type stream struct {
	f *os.File  // nil: output is discarded
	w io.Writer // the copying goroutine's, as n
	n int64     // bytes read; for others when that goroutine has ended

	limit int64 // of bytes passed on; 0: none
	cut   bool  // there were more; as n
}

// openStreams makes the pipes, and returns them with what the program gets.
func openStreams(s *Spec) (*streams, [3]uintptr, error) {
	st := &streams{theirs: [3]int{-1, -1, -1}, done: make(chan struct{})}
	null, err := devNull()
	if err != nil {
		return nil, [3]uintptr{}, err
	}
	fds := [3]uintptr{null.Fd(), null.Fd(), null.Fd()}
	switch in := s.Stdin.(type) {
	case nil:
	case *os.File:
		fds[0] = in.Fd()
	default:
		st.source = in
		st.theirs[0], st.stdin, err = pipe(true)
	}
	for i, w := range []io.Writer{s.Stdout, s.Stderr} {
		if w != nil && err == nil {
			out := []*stream{&st.stdout, &st.stderr}[i]
			out.w, out.limit = w, s.Limits.Output
			st.theirs[i+1], out.f, err = pipe(false)
		}
	}
	if err != nil {
		st.started()
		st.abort()
		return nil, fds, err
	}
	for i, fd := range st.theirs {
		if fd >= 0 {
			fds[i] = uintptr(fd)
		}
	}
	return st, fds, nil
}

// pipe returns a pipe: the end for the program, which blocks, and ours, which
// the runtime's poller serves. write says that ours is the one to write to.
func pipe(write bool) (theirs int, ours *os.File, err error) {
	var p [2]int
	if err := pipeCloexec(&p); err != nil {
		return -1, nil, os.NewSyscallError("pipe", err)
	}
	our, their := p[0], p[1]
	if write {
		our, their = their, our
	}
	if err := unix.SetNonblock(our, true); err != nil {
		unix.Close(our)
		unix.Close(their)
		return -1, nil, os.NewSyscallError("fcntl", err)
	}
	return their, os.NewFile(uintptr(our), "|"), nil
}

// started closes the program's ends here: it has them, or it failed to start.
func (st *streams) started() {
	for i, fd := range st.theirs {
		if fd >= 0 {
			unix.Close(fd)
			st.theirs[i] = -1
		}
	}
}

// abort closes our ends of what was never started.
func (st *streams) abort() {
	for _, f := range []*os.File{st.stdin, st.stdout.f, st.stderr.f} {
		if f != nil {
			f.Close()
		}
	}
}

// copy starts the goroutines that move the bytes. closeStdin and wait end them.
func (st *streams) copy() {
	st.busy.Store(1)
	for _, out := range []*stream{&st.stdout, &st.stderr} {
		if out.f == nil {
			continue
		}
		st.busy.Add(1)
		go func() {
			out.copy()
			st.finished()
		}()
	}
	st.finished()
	if st.stdin == nil {
		return
	}
	st.writer = make(chan struct{})
	go func() {
		defer close(st.writer)
		io.Copy(st.stdin, st.source) // an error: the program does not read on
		st.stdin.Close()
	}()
}

func (st *streams) finished() {
	if st.busy.Add(-1) == 0 {
		close(st.done)
	}
}

// copy reads the pipe to its end.
func (o *stream) copy() {
	buf := buffers.Get().(*[bufferBytes]byte)
	defer buffers.Put(buf)
	defer o.f.Close()
	for {
		n, err := o.f.Read(buf[:])
		o.pass(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			o.tail(buf[:])
		}
		if err != nil {
			return
		}
	}
}

// tail reads what is in the pipe now, after cut.
func (o *stream) tail(buf []byte) {
	raw, err := o.f.SyscallConn()
	if err != nil {
		return
	}
	for left := tailBytes; left > 0; {
		n := 0
		raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf) })
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return
		}
		o.pass(buf[:n])
		left -= n
	}
}

// pass hands b on. Once the writer has failed, the stream is only drained, so
// that the program is not stopped by a reader that went away.
func (o *stream) pass(b []byte) {
	if len(b) == 0 {
		return
	}
	before := o.n
	o.n += int64(len(b))
	if o.w == nil {
		return
	}
	if o.limit > 0 && o.n > o.limit {
		o.cut = true
		b = b[:max(o.limit-before, 0)]
		if len(b) == 0 {
			return
		}
	}
	if _, err := o.w.Write(b); err != nil {
		o.w = nil
	}
}

// closeStdin ends the copying to a program that has exited.
func (st *streams) closeStdin() {
	if st.writer == nil {
		return
	}
	st.stdin.Close() // wakes a Write
	if c, ok := st.source.(io.Closer); ok {
		c.Close()
	}
	<-st.writer
}

// wait waits for the end of the output and reports false if it has not come
// within d.
func (st *streams) wait(d time.Duration) bool {
	select {
	case <-st.done:
		return true
	default:
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-st.done:
		return true
	case <-t.C:
		return false
	}
}

// cut ends the output with what is in the pipes now.
func (st *streams) cut() {
	for _, out := range []*stream{&st.stdout, &st.stderr} {
		if out.f != nil {
			out.f.SetReadDeadline(time.Now()) // an error: it is closed already
		}
	}
	<-st.done
}
