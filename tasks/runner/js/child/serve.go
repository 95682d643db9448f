package child

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/scagent/scagent/tasks"
)

const (
	// maxProcs is how many threads of a child run Go code. A slot is one CPU's
	// worth; more would also make each call slower, by waking another thread.
	maxProcs = 1
	// maxStack bounds the recursion of the engine itself, so that it is told from
	// a script that takes too much memory.
	maxStack = 64 << 20
)

// Evaluate evaluates a script until it is done or ctx has ended. Its outcome has
// a code, a line, and a value in JSON.
type Evaluate func(ctx context.Context, s *Script, stdout, stderr io.Writer) tasks.Outcome

// Serve is the main of a child: it evaluates what the agent at the other end of
// its standard input and output sends, and ends the process with the agent, also
// in the middle of a script. start makes what evaluates, and warms it up.
func Serve(start func(*Setup) Evaluate) int {
	in, out := newReader(stdio(os.Stdin)), &sender{w: stdio(os.Stdout)}
	setup, err := readSetup(in)
	if err != nil {
		fmt.Fprintf(os.Stderr, "this is started by scagent itself, to run scripts: %v\n", err)
		return 2
	}
	runtime.GOMAXPROCS(maxProcs)
	debug.SetMaxStack(maxStack)
	evaluate := start(setup)
	_, _ = time.Now().Zone() // reads the time zone's file while files can be opened
	atStart := held()
	if err := bound(setup.MemoryBytes); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	// The collector works harder when little is left.
	debug.SetMemoryLimit(int64(atStart) + setup.MemoryBytes/4*3)
	out.send(endFrame(beginFrame(nil, frameReady)))

	calls := make(chan call)
	go receive(in, calls)
	for c := range calls {
		o := evaluate(c.ctx, c.script, stream{out, frameStdout}, stream{out, frameStderr})
		now := held()
		out.buf = appendResult(out.buf[:0], &o, max(now, atStart)-atStart)
		out.send(out.buf)
	}
	return 0
}

type call struct {
	ctx    context.Context // ends when the script is to be interrupted
	script *Script
}

// receive hands on the calls, and ends the process when the agent has gone.
func receive(in *bufio.Reader, calls chan<- call) {
	var number uint32 // of the last call
	interrupt := func() {}
	for {
		kind, n, err := readHeader(in)
		if err != nil {
			os.Exit(0)
		}
		if n > maxCallBytes {
			fail(unexpected(kind, n))
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(in, b); err != nil {
			os.Exit(0)
		}
		switch {
		case kind == frameCall:
			var c call
			if number, c.script, err = parseCall(b); err != nil {
				fail(err)
			}
			c.ctx, interrupt = context.WithCancel(context.Background())
			calls <- c
		case kind == frameInterrupt && n == 4:
			if string(b) == string(interruptFrame(number)[headerBytes:]) { // else that call has ended
				interrupt()
			}
		default:
			fail(unexpected(kind, n))
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "scagent sent", err)
	os.Exit(2)
}

// sender sends frames to the agent. Nobody else needs the process when that fails.
type sender struct {
	w   io.Writer
	buf []byte
}

func (s *sender) send(frame []byte) {
	if _, err := s.w.Write(frame); err != nil {
		os.Exit(1)
	}
}

// stream is an output of the script.
type stream struct {
	to   *sender
	kind byte
}

// Write returns when the agent, or the pipe to it, has taken all of p.
func (s stream) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		piece := p[:min(len(p), maxOutputBytes)]
		s.to.buf = appendOutput(s.to.buf[:0], s.kind, piece)
		s.to.send(s.to.buf)
		p = p[len(piece):]
	}
	return n, nil
}

// held returns how many bytes of memory the process has from the system.
func held() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}
