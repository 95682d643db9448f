package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/scagent/scagent/tasks"
)

// ledger is what is known of the tasks that were acknowledged.
type ledger struct {
	mu      sync.Mutex // guards the fields below
	tasks   map[tasks.ID]*record
	changed []string // that ended twice differently, at most maxNamed
	nchange int
	errors  map[string]int // of tasks that failed or were lost, by their text without digits; at most maxNamed
}

// record is one task.
type record struct {
	final   final
	missing bool     // the agent that had acknowledged it did not know it any more
	kept    bool     // it could be asked for at the end
	starts  []uint32 // the attempts, in order of their start
	ends    int
}

// final is how a task ended; its zero value: it has not.
type final struct {
	state   tasks.State
	attempt uint32
	exit    int
	reason  tasks.Code
}

func (f final) String() string {
	return fmt.Sprintf("%s by attempt %d with status %d", f.state, f.attempt, f.exit)
}

// poison is how many workers must have died while they ran a task before it may be held
// responsible for that; the nemesis kills now and then one that has run it before.
const poison = 3

// maxNamed is how many tasks of a sort are named in a report.
const maxNamed = 10

func newLedger() *ledger { return &ledger{tasks: map[tasks.ID]*record{}, errors: map[string]int{}} }

// acknowledge notes a task whose id was returned.
func (l *ledger) acknowledge(id tasks.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tasks[id] = &record{}
}

// end notes the state of a task, as somebody was told: the first that is final is
// to be the only one.
func (l *ledger) end(id tasks.ID, f final, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.tasks[id]
	switch {
	case r == nil: // of an ambiguous submission
	case r.final == final{}:
		if f.state.Final() {
			r.final = f
			l.errorLocked(text)
		}
	case r.final != f:
		if l.nchange++; len(l.changed) < maxNamed {
			l.changed = append(l.changed, fmt.Sprintf("%s: %s, and then %s", id, r.final, f))
		}
	}
}

// errorLocked counts an error of a task's end.
func (l *ledger) errorLocked(text string) {
	if text == "" {
		return
	}
	text = strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '#'
		}
		return r
	}, fmt.Sprintf("%.300s", text))
	if _, known := l.errors[text]; known || len(l.errors) < maxNamed {
		l.errors[text]++
	}
}

// lose notes a task that its agent does not know.
func (l *ledger) lose(id tasks.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tasks[id].missing = true
}

// keep notes that a task can still be asked for.
func (l *ledger) keep(id tasks.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.tasks[id]; r != nil {
		r.kept = true
	}
}

// report counts.
type report struct {
	Acknowledged, Done, Failed, Cancelled, Lost int
	Missing                                     int // the agent did not know it any more
	Unfinished                                  int // known, but not final
	Changed                                     int // ended twice differently
	Kept                                        int // could be asked for at the end
	Starts                                      int // of acknowledged tasks
	Duplicates                                  int // starts but for the first of each
	SameAttempt                                 int // tasks of which one attempt was started twice
	NeverRan                                    int // done, but no run of it has ended
	Poisoned                                    int // failed, as it was started often enough for several workers to have died of it
	Strays                                      int // tasks that ran, and were never acknowledged

	names map[string][]string // of those that are wrong, by why
}

func (r *report) name(why string, id tasks.ID) {
	if len(r.names[why]) < maxNamed {
		r.names[why] = append(r.names[why], id.String())
	}
}

// readTruth notes what the tasks themselves wrote, and returns how many others
// there are of which they wrote.
func (l *ledger) readTruth(in io.Reader) (strays int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stray := map[tasks.ID]bool{}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) != 5 {
			return 0, fmt.Errorf("the truth has a line %.100q", lines.Text())
		}
		id, err := tasks.ParseID(f[0])
		attempt, nerr := strconv.ParseUint(f[1], 10, 32)
		if err := errors.Join(err, nerr); err != nil {
			return 0, fmt.Errorf("the truth has a line %.100q: %w", lines.Text(), err)
		}
		r := l.tasks[id]
		if r == nil {
			stray[id] = true
			continue
		}
		switch f[3] {
		case "start":
			r.starts = append(r.starts, uint32(attempt))
		case "end":
			r.ends++
		default:
			return 0, fmt.Errorf("the truth has a line %.100q", lines.Text())
		}
	}
	return len(stray), lines.Err()
}

// report counts what is known.
func (l *ledger) report(strays int) *report {
	l.mu.Lock()
	defer l.mu.Unlock()
	rep := &report{Acknowledged: len(l.tasks), Changed: l.nchange, Strays: strays, names: map[string][]string{"changed": l.changed}}
	for text, n := range l.errors {
		rep.names["errors"] = append(rep.names["errors"], fmt.Sprintf("%d x %q", n, text))
	}
	for id, r := range l.tasks {
		rep.Starts += len(r.starts)
		rep.Duplicates += max(len(r.starts)-1, 0)
		if r.kept {
			rep.Kept++
		}
		// Attempts may overlap, and an early one of a paused worker start late.
		if slices.Sort(r.starts); len(slices.Compact(r.starts)) < len(r.starts) {
			rep.SameAttempt++
			rep.name("an attempt started twice", id)
		}
		switch {
		case r.missing:
			rep.Missing++
			rep.name("missing", id)
		case r.final == final{}:
			rep.Unfinished++
			rep.name("not final", id)
		case r.final.state == tasks.StateDone:
			rep.Done++
			if r.ends == 0 {
				rep.NeverRan++
				rep.name("done, but never ran to its end", id)
			}
		case r.final.state == tasks.StateLost:
			rep.Lost++
			rep.name("lost", id)
		case r.final.state == tasks.StateCancelled:
			rep.Cancelled++
			rep.name("cancelled", id)
		case r.final.reason == tasks.Poison && len(r.starts) >= poison:
			rep.Poisoned++
		default:
			rep.Failed++
			rep.name("failed", id)
		}
	}
	return rep
}

// problems says what must not be. atMostOnce tasks may be lost, but not run twice. So
// many submissions were ambiguous, and so many tasks are to be known at the end, if
// there were as many.
func (r *report) problems(atMostOnce bool, ambiguous, kept int) (list []string) {
	add := func(n int, what string) {
		if n > 0 {
			list = append(list, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(r.Missing, "acknowledged tasks are missing")
	add(r.Unfinished, "acknowledged tasks are not final")
	add(r.Changed, "tasks ended twice differently")
	add(r.SameAttempt, "tasks had an attempt started twice")
	add(r.NeverRan, "tasks are done, and never ran to their end")
	add(r.Failed, "tasks failed, though they cannot")
	add(r.Cancelled, "tasks were cancelled, though nobody did")
	add(r.Strays-ambiguous, "tasks ran that nobody can have submitted")
	add(min(kept, r.Acknowledged)-r.Kept, "tasks can not be asked for any more")
	if atMostOnce {
		add(r.Duplicates, "starts too many of tasks that are to start once at most")
	} else {
		add(r.Lost, "tasks were lost")
	}
	return list
}

// offenders names tasks that are wrong.
func (r *report) offenders() (lines []string) {
	for why, ids := range r.names {
		if len(ids) > 0 {
			lines = append(lines, why+": "+strings.Join(ids, ", "))
		}
	}
	slices.Sort(lines)
	return lines
}
