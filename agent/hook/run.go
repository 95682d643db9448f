package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/time/rate"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks/runner/process"
)

// warningRate is how often a second a hook is warned of, when it has been warningBurst
// times without a pause: one that fails every other time would fill the log.
const warningRate, warningBurst = 0.1, 10

// reason is why something is said of a hook.
type reason string

const (
	notEncoded reason = "event"
	notStarted reason = "start"
	timedOut   reason = "timeout"
	exited     reason = "exit"
	replied    reason = "reply"
	flooded    reason = "flood" // it may succeed all the same
	missed     reason = "missed"
)

// failure is how a run failed. Without a reason it is nobody's concern.
type failure struct {
	reason reason
	text   string
}

func (f *failure) Error() string { return f.text }

// runner is one hook.
type runner struct {
	Hook
	h               *Hooks
	name            string        // in the log
	lines, warnings *rate.Limiter // of the log

	mu   sync.Mutex      // guards told; not held over I/O
	told map[reason]bool // what was said and has not been put right since
}

// follow runs the command for events until Close.
func (r *runner) follow(events Source) {
	defer events.Close()
	for {
		e, err := events.Next(r.h.ctx)
		if err != nil {
			if r.h.ctx.Err() == nil && !errors.Is(err, api.ErrFeedClosed) {
				r.h.cfg.Logger.Printf("[ERR] hook: no more events are read: hook=%s err=%q", r.name, err.Error())
			}
			return
		}
		if e.Event == api.EventMissed {
			r.h.missed.Add(max(e.Missed, 1))
			r.warn(missed, "events came faster than the command runs, and the oldest were lost", "missed="+strconv.FormatUint(e.Missed, 10))
		}
		if !r.Pattern.Match(e.Event) || e.Request && r.h.answerer(e.Event) == r {
			continue
		}
		select {
		case r.h.events <- struct{}{}:
		case <-r.h.ctx.Done():
			return
		}
		if r.h.ctx.Err() == nil { // both may have been ready
			r.run(r.h.ctx, &e, nil) // an error was logged
		}
		<-r.h.events
	}
}

// run runs the command once and says what was wrong. Its standard output goes to
// reply, if there is one: the event is a request then.
func (r *runner) run(ctx context.Context, e *api.Event, reply *reply) error {
	ctx, cancel := context.WithTimeout(ctx, r.h.cfg.Timeout)
	defer cancel()
	out := newOutput(ctx, r.failing(), func(stream, line string) bool { return r.logLine(e, stream, line) })
	stdout, stderr := &stream{o: out, name: "stdout"}, &stream{o: out, name: "stderr"}
	var w io.Writer = stdout
	if reply != nil {
		w = reply
	}
	begin := time.Now()
	f := r.start(ctx, e, reply != nil, w, stderr)
	stdout.flush()
	stderr.flush()
	first := printable(stderr.first)
	r.ended(e, f, out, first)
	if f == nil {
		r.h.cfg.Logger.Printf("[DEBUG] hook: done: hook=%s event=%q took=%s", r.name, e.Event, time.Since(begin))
		return nil
	}
	if f.reason == exited && first != "" {
		return fmt.Errorf("%w: %s", f, first)
	}
	return f
}

// printable is a line without what would drive a terminal.
func printable(line []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, string(line)))
}

// start runs the command and returns how it failed, nil if it did not.
func (r *runner) start(ctx context.Context, e *api.Event, asked bool, stdout, stderr io.Writer) *failure {
	in, err := json.Marshal(e)
	if err != nil {
		return &failure{notEncoded, "the event cannot be written as JSON: " + err.Error()}
	}
	mark := r.h.cfg.Mark + strconv.FormatUint(r.h.runs.Add(1), 10)
	s := &process.Spec{
		Argv: shell(r.Command), Dir: r.h.cfg.Dir, Env: slices.Concat(r.h.environ, eventEnv(e, asked), []string{mark}), Marks: []string{mark},
		Stdin: bytes.NewReader(append(in, '\n')), Stdout: stdout, Stderr: stderr, Grace: r.h.cfg.Grace, Nets: r.h.cfg.Nets,
	}
	end, _ := ctx.Deadline()
	limit := time.Until(end)
	ex, err := process.Run(ctx, s)
	cause := context.Cause(ctx)
	switch {
	case err != nil:
		return &failure{notStarted, err.Error()}
	case errors.Is(cause, errTooLarge): // it may have ended before it was stopped
		return &failure{replied, cause.Error()}
	case ex.Stopped != 0 && gone(cause):
		return &failure{"", "nobody waits for it any more"}
	case ex.Stopped != 0:
		return &failure{timedOut, fmt.Sprintf("it had not ended after %s and was stopped", limit.Round(time.Millisecond))}
	case ex.Signal != "":
		return &failure{exited, "killed by " + ex.Signal}
	case ex.Status != 0:
		return &failure{exited, fmt.Sprintf("exit status %d", ex.Status)}
	}
	return nil
}

// shell is how a line is run.
func shell(line string) []string {
	if runtime.GOOS == "windows" {
		return []string{"cmd", "/C", line}
	}
	return []string{"/bin/sh", "-c", line}
}

// logLine logs a line that the command has written, unless there were too many.
func (r *runner) logLine(e *api.Event, stream, line string) bool {
	if !r.lines.Allow() {
		return false
	}
	r.h.cfg.Logger.Printf("[INFO] hook: output: hook=%s event=%q stream=%s text=%q", r.name, e.Event, stream, line)
	return true
}

// failing reports whether the last run failed and that was said.
func (r *runner) failing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, why := range []reason{notStarted, timedOut, exited, replied} {
		if r.told[why] {
			return true
		}
	}
	return false
}

// ended counts a run that has ended, and says what is new about it.
func (r *runner) ended(e *api.Event, f *failure, out *output, first string) {
	what := fmt.Sprintf("event=%q", e.Event)
	failed := f != nil && f.reason != ""
	said := false
	if failed {
		r.h.failed.Add(1)
		if f.reason == timedOut {
			r.h.timedOut.Add(1)
		}
		said = r.warn(f.reason, "the command failed, which is said once until it succeeds", fmt.Sprintf("%s err=%q stderr=%q", what, f.text, first))
	}
	out.end(said || f == nil)
	r.h.dropped.Add(uint64(out.dropped))
	flood := out.dropped > 0 || out.lines > 0
	if flood {
		r.warn(flooded, "the command writes too much for the log, which is said once until it does not", fmt.Sprintf("%s dropped_bytes=%d dropped_lines=%d", what, out.dropped, out.lines))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f == nil {
		clear(r.told)
	}
	if flood {
		r.told[flooded] = true
	}
}

// warn says something about the hook unless it was said already, and reports whether
// it did.
func (r *runner) warn(why reason, text, facts string) bool {
	r.mu.Lock()
	tell := !r.told[why] && r.warnings.Allow()
	r.told[why] = r.told[why] || tell
	r.mu.Unlock()
	if tell {
		r.h.cfg.Logger.Printf("[WARN] hook: %s: hook=%s %s", text, r.name, facts)
	}
	return tell
}
