package verify

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/scagent/scagent/tasks"
)

// readTruth reads what tasks have written down of themselves, by appending to one
// file: lines of TASK ATTEMPT PID start|end UNIXNANOSECONDS, and perhaps more.
func (c *checker) readTruth(s Source) error {
	f, err := s.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for line := 1; ; line++ {
		text, err := r.ReadSlice('\n')
		if len(text) > 0 && !c.truthLine(text) {
			if err != nil && len(text) < r.Size() { // it was killed while it wrote
				c.report.Torn++
				return nil
			}
			return fmt.Errorf("%w: line %d is %.80q; want TASK ATTEMPT PID start|end UNIXNANOSECONDS", ErrBadTruth, line, text)
		}
		if err != nil {
			return nil
		}
	}
}

func (c *checker) truthLine(line []byte) bool {
	var f [6][]byte
	n := 0
	for word := range bytes.FieldsSeq(line) {
		if n < len(f) {
			f[n] = word
			n++
		}
	}
	if n < 5 || line[len(line)-1] != '\n' {
		return false
	}
	id, err := tasks.ParseID(string(f[0]))
	attempt, err2 := strconv.ParseUint(string(f[1]), 10, 32)
	pid, err3 := strconv.ParseInt(string(f[2]), 10, 64)
	at, err4 := strconv.ParseInt(string(f[4]), 10, 64)
	if err != nil || err2 != nil || err3 != nil || err4 != nil || at <= 0 {
		return false
	}
	t := c.task(id)
	switch string(f[3]) {
	case "start":
		c.report.Runs++
		t.runs = append(t.runs, run{uint32(attempt), pid, at, 0})
	case "end":
		for i := len(t.runs) - 1; ; i-- {
			if i < 0 {
				t.runs = append(t.runs, run{uint32(attempt), pid, 0, at})
				break
			}
			if r := &t.runs[i]; r.n == uint32(attempt) && r.pid == pid && r.end == 0 {
				r.end = at
				break
			}
		}
	default:
		return false
	}
	return true
}

// tells says that tasks of the kind write down when they run: programs, which chaos
// runs as such, do; functions cannot.
func tells(k tasks.Kind) bool { return k == tasks.Command || k == tasks.File || k == tasks.Git }

// judgeRuns: I7, I8, I10 and I15 by the word of the task itself.
func (c *checker) judgeRuns(t *task) {
	f := t.end
	var at []point
	if f != nil {
		at = []point{f.at}
	}
	begun := 0
	for _, r := range t.runs {
		if r.start > 0 {
			begun++
		}
	}
	if t.atMostOnce && begun > 1+t.again() {
		c.fail(7, t, 0, at, "it runs at most once and by its own word was started %d times: %s", begun, t.spell(t.runs...))
	}
	if f != nil && f.state == tasks.StateDone && tells(t.kind) {
		whole := func(r run) bool { return r.start > 0 && r.end > 0 }
		if !slices.ContainsFunc(t.runs, whole) {
			c.fail(8, t, 0, at, "it is done and by its own word never ran to its end: %s", t.spell(t.runs...))
		}
	}
	c.judgeOverlap(t)
	if t.told.is() && f != nil && f.state == tasks.StateCancelled {
		var workers []*node
		for i := range t.attempts {
			workers = append(workers, t.attempts[i].worker)
		}
		until := c.patience(t.told.wall, append(workers, t.owner)...)
		for _, r := range t.runs {
			if last := max(r.start, r.end); last > until {
				c.fail(15, t, r.n, []point{t.told, f.at}, "that it is cancelled was told, and by its own word it ran %v too long", span(until, last))
			}
		}
	}
}

// judgeOverlap: I10.
func (c *checker) judgeOverlap(t *task) {
	runs := slices.DeleteFunc(slices.Clone(t.runs), func(r run) bool { return r.start == 0 || r.end == 0 })
	slices.SortFunc(runs, func(a, b run) int { return int(min(max(a.start-b.start, -1), 1)) })
	last := 0 // whose end is the latest so far
	for i := 1; i < len(runs); i++ {
		a, b := runs[last], runs[i]
		if b.end > a.end {
			last = i
		}
		if b.start < a.end && !c.disturbed(a.start, b.start, t.owner, t.attempt(a.n).worker) {
			c.fail(10, t, b.n, []point{t.attempt(a.n).offered, t.attempt(b.n).offered}, "two runs of it overlap and nothing was the matter: %s", t.spell(a, b))
		}
	}
}

// spell prints runs, at most four.
func (t *task) spell(runs ...run) string {
	if len(runs) == 0 {
		return "no word of it"
	}
	var b []byte
	for _, r := range runs[:min(len(runs), 4)] {
		b = fmt.Appendf(b, "attempt %d pid %d %d-%d; ", r.n, r.pid, r.start, r.end)
	}
	return string(bytes.TrimSuffix(b, []byte("; ")))
}

// span returns the time between two Unix nanoseconds.
func span(from, to int64) time.Duration { return time.Duration(to - from).Round(time.Millisecond) }
