package command

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

const joblogHead = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"

// joblog is a file with a line for each task that ended, in the columns of GNU
// parallel, by which another run knows what is left to do. A nil joblog is none.
type joblog struct {
	file *os.File
	out  *bufio.Writer
	skip map[int]bool // inputs that are not to be run again
}

// openJoblog opens the log that the options name; nil if they name none. Without
// -resume, what was there is gone.
func openJoblog(o *mapOptions) (*joblog, error) {
	if o.joblog == "" {
		return nil, nil
	}
	mode := os.O_RDWR | os.O_CREATE
	if !o.resume && !o.resumeFailed {
		mode |= os.O_TRUNC
	}
	f, err := os.OpenFile(o.joblog, mode, 0o666)
	if err != nil {
		return nil, fmt.Errorf("-joblog: %w", err)
	}
	l := &joblog{file: f, out: bufio.NewWriterSize(f, 64<<10), skip: map[int]bool{}}
	if err := l.read(o.resumeFailed); err != nil {
		f.Close()
		return nil, fmt.Errorf("-joblog %s: %w", o.joblog, err)
	}
	return l, nil
}

// read takes note of what is done, and goes to where the next line is to be written.
// A last line that has no end was being written when the run was broken off.
func (l *joblog) read(failedToo bool) error {
	st, err := l.file.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return err // nothing to read in a pipe
	}
	r := bufio.NewReader(l.file)
	whole := int64(0) // bytes of whole lines
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		whole += int64(len(line))
		if n == 1 && bytes.HasPrefix(line, []byte("Seq\t")) {
			continue
		}
		seq, ok, err := parseJob(string(line))
		if err != nil {
			return fmt.Errorf("line %d %w", n, err)
		}
		l.skip[seq] = ok || !failedToo // the last time counts
	}
	if err := l.file.Truncate(whole); err != nil {
		return err
	}
	if _, err := l.file.Seek(whole, io.SeekStart); err != nil {
		return err
	}
	if whole == 0 {
		l.out.WriteString(joblogHead) // an error shows in flush
	}
	return nil
}

// parseJob reads a line: which input it is about, and whether it ended with 0.
func parseJob(line string) (seq int, ok bool, err error) {
	f := strings.SplitN(line, "\t", 9)
	if len(f) == 9 {
		seq, err = strconv.Atoi(f[0])
		exit, err2 := strconv.Atoi(f[6])
		signal, err3 := strconv.Atoi(f[7])
		if err == nil && err2 == nil && err3 == nil && seq > 0 {
			return seq, exit == 0 && signal == 0, nil
		}
	}
	return 0, false, fmt.Errorf("is %q; want the columns of a log of jobs, as in an earlier run of map", shorten(strings.TrimSpace(line), 40))
}

// skips reports whether an input is not to be run again.
func (l *joblog) skips(seq int) bool { return l != nil && l.skip[seq] }

// add writes the line of a task that ended. received is how much it wrote.
func (l *joblog) add(in *mapInput, line string, t *api.TaskStatus, received int64) {
	if l == nil {
		return
	}
	start, took := 0.0, 0.0
	if t.StartedAt != nil {
		start = float64(t.StartedAt.UnixMicro()) / 1e6
		if t.FinishedAt != nil {
			took = t.FinishedAt.Sub(t.StartedAt.Time).Seconds()
		}
	}
	exit, signal := exitOne(t), 0
	if t.Reason == tasks.Signalled {
		exit, signal = 0, signalNumber(t.Signal)
	}
	host := strings.ReplaceAll(clean(t.Worker), "\t", " ")
	// No line is broken: GNU parallel does the same with newlines.
	fmt.Fprintf(l.out, "%d\t%s\t%.3f\t%10.3f\t0\t%d\t%d\t%d\t%s\n", in.seq, host, start, took, received, exit, signal, strings.ReplaceAll(line, "\n", "\x00"))
}

func (l *joblog) flush() error {
	if l == nil {
		return nil
	}
	if err := l.out.Flush(); err != nil {
		return fmt.Errorf("-joblog: %w", err)
	}
	return nil
}

func (l *joblog) close() {
	if l != nil {
		l.file.Close() // what was to be written is flushed
	}
}
