package master

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/query"
)

// class joins the tasks that make the same demands of a worker and have the same
// options, so that whom they fit is worked out once for each worker and not for
// each task. It is guarded by Master.mu, but for what is constant.
type class struct {
	key     classKey      // constant
	options tasks.Options // constant
	demands demands       // constant
	queue   queue         // tasks that no worker has credit for
	tasks   int           // tasks that are in it and have not ended, and submissions under way
	place   int           // in Master.live, while there are tasks
	opened  uint64        // Master.opened when there were tasks last

	listed bool // in Master.waiting

	// fits says by worker.place whether its tasks may go to a worker, kept current by
	// refit. It is not used when that changes from task to task.
	fits    []fit
	fitting int  // how many of fits do
	dynamic bool // constant, see demands.dynamic
	// ready has, while there are tasks, every worker of fits that has credit, and some
	// that no longer do; those are taken out when they are come across.
	ready []*worker

	run      time.Duration // typical time that a task takes, exponentially weighted; 0: none has ended
	reserved *worker       // keeps slots free for the first in queue, which takes several
}

// fit is how a worker fits a class.
type fit struct {
	ok    bool
	at    int32   // if ok: 1 + its place in ready, or 0
	score float64 // if ok: how much it is preferred
}

// classKey tells classes apart.
type classKey struct {
	run      tasks.ID // set for tasks that must not share workers with each other
	kind     tasks.Kind
	function string
	where    string
	prefer   string
	lists    string // what the demands list, joined
	force    bool
	options  tasks.Options
}

// demands are what a task asks of a worker.
type demands struct {
	kind     tasks.Kind
	function string
	needs    []string          // interpreters
	where    *query.Query      // nil: none
	prefer   *query.Preference // nil: none
	only     []string          // names and ids; empty: all
	except   []string          // names and ids
	force    bool              // unavailable ones too
}

func newDemands(s *tasks.Submission) (d demands, err error) {
	d = demands{kind: s.Task.Kind, except: s.Target.Except, force: s.Target.Force, needs: s.Needs}
	if s.Task.Kind == tasks.Function {
		d.function = s.Task.Name
	}
	if s.Target.Where != "" {
		if d.where, err = query.Compile(s.Target.Where); err != nil {
			return d, fmt.Errorf("%w: where: %w", tasks.ErrBadTarget, err)
		}
	}
	if s.Target.Prefer != "" {
		if d.prefer, err = query.CompilePreference(s.Target.Prefer); err != nil {
			return d, fmt.Errorf("%w: prefer: %w", tasks.ErrBadTarget, err)
		}
	}
	return d, nil
}

// maxIdleClasses is how many classes without tasks are kept, for tasks like those
// that they had.
const maxIdleClasses = 64

// classOf returns the key of a submission's class. own is the run's id if its
// tasks must go to different workers, else zero.
func classOf(s *tasks.Submission, only []string, own tasks.ID) classKey {
	k := classKey{run: own, kind: s.Task.Kind, where: s.Target.Where, prefer: s.Target.Prefer, force: s.Target.Force, options: s.Options}
	if s.Task.Kind == tasks.Function {
		k.function = s.Task.Name
	}
	if len(s.Needs)+len(only)+len(s.Target.Except) > 0 {
		lists := make([]string, 0, 8)
		for _, l := range [][]string{s.Needs, only, s.Target.Except} {
			lists = append(append(lists, l...), "")
		}
		k.lists = strings.Join(lists, "\x00")
	}
	return k
}

// classLocked returns the class with the key, a new one if there is none yet. The
// caller enters it.
func (m *Master) classLocked(k classKey, s *tasks.Submission, only []string) (*class, error) {
	if c := m.classes[k]; c != nil {
		return c, nil
	}
	made, err := newDemands(s)
	if err != nil {
		return nil, err
	}
	made.only = only
	c := &class{key: k, options: k.options, demands: made, dynamic: made.dynamic()}
	if !c.dynamic {
		c.fits = make([]fit, len(m.places))
	}
	m.classes[k] = c
	m.idles = append(m.idles, c)
	for _, w := range m.places { // in this order they are near to each other in memory
		if w != nil {
			c.refit(w)
		}
	}
	return c, nil
}

// enterClassLocked takes note of one more task of c, or of somebody who needs it.
func (m *Master) enterClassLocked(c *class) {
	if c.tasks++; c.tasks > 1 {
		return
	}
	i := slices.Index(m.idles, c)
	m.idles = slices.Delete(m.idles, i, i+1)
	c.place = len(m.live)
	m.live = append(m.live, c)
	if c.dynamic {
		m.dynamic++
	}
	if c.opened != m.opened {
		for i := range c.fits {
			if c.fits[i].ok {
				c.makeReady(m.places[i])
			}
		}
	}
}

// leaveClassLocked is the reverse of enterClassLocked.
func (m *Master) leaveClassLocked(c *class) {
	if c.tasks--; c.tasks > 0 {
		return
	}
	last := m.live[len(m.live)-1]
	m.live[c.place], last.place = last, c.place
	m.live[len(m.live)-1] = nil
	m.live = m.live[:len(m.live)-1]
	if c.dynamic {
		m.dynamic--
	}
	c.opened = m.opened
	m.unwaitLocked(c)
	if c.key.run.IsZero() {
		m.idles = append(m.idles, c)
		if len(m.idles) <= maxIdleClasses {
			return
		}
		c, m.idles = m.idles[0], m.idles[1:]
	}
	delete(m.classes, c.key)
}

// refit works out anew whether w can be given tasks of c.
func (c *class) refit(w *worker) {
	if c.dynamic || w.place < 0 {
		return
	}
	for w.place >= len(c.fits) {
		c.fits = append(c.fits, fit{})
	}
	ok, score := c.work(w)
	f := &c.fits[w.place]
	switch {
	case ok && !f.ok:
		*f = fit{ok: true, score: score}
		c.fitting++
		c.makeReady(w)
	case ok:
		f.score = score
	case f.ok:
		c.unready(w)
		*f = fit{}
		c.fitting--
	}
}

// fit returns how w fits c, or nil if it does not.
func (c *class) fit(w *worker) *fit {
	if w.place < 0 || w.place >= len(c.fits) || !c.fits[w.place].ok {
		return nil
	}
	return &c.fits[w.place]
}

// makeReady notes that w may have credit.
func (c *class) makeReady(w *worker) {
	if f := c.fit(w); f != nil && f.at == 0 {
		c.ready = append(c.ready, w)
		f.at = int32(len(c.ready))
	}
}

func (c *class) unready(w *worker) {
	f := c.fit(w)
	if f == nil || f.at == 0 {
		return
	}
	last := c.ready[len(c.ready)-1]
	c.ready[f.at-1] = last
	c.fits[last.place].at = f.at
	c.ready[len(c.ready)-1] = nil
	c.ready = c.ready[:len(c.ready)-1]
	f.at = 0
	w.open = false
}

// takes says whether w can be given tasks of c, and how much it is preferred.
func (c *class) takes(w *worker) (bool, float64) {
	if c.dynamic {
		return c.work(w)
	}
	f := c.fit(w)
	if f == nil {
		return false, 0
	}
	return true, f.score
}

// matchingLocked returns the workers that can be given tasks of c, in no order.
func (m *Master) matchingLocked(c *class) []*worker {
	ws := make([]*worker, 0, c.fitting)
	for _, w := range m.places {
		if w == nil {
			continue
		}
		if ok, _ := c.takes(w); ok {
			ws = append(ws, w)
		}
	}
	return ws
}

// work asks the demands.
func (c *class) work(w *worker) (bool, float64) {
	if c.options.Slots > w.info.Slots || c.demands.lacks(w) != "" {
		return false, 0
	}
	if c.demands.where == nil && c.demands.prefer == nil {
		return true, 0
	}
	w.node.Free = w.free()
	if c.demands.where != nil && c.demands.where.Match(&w.node) != query.True {
		return false, 0
	}
	if c.demands.prefer != nil {
		return true, c.demands.prefer.Score(&w.node)
	}
	return true, 0
}

// took folds how long a task took into what is typical of the class.
func (c *class) took(o *tasks.Outcome) {
	if o.Started.IsZero() {
		return // it never ran
	}
	d := max(1, o.Finished.Sub(o.Started))
	if c.run == 0 {
		c.run = d
		return
	}
	c.run = max(c.run+(d-c.run)/8, 1)
}

// free is how many slots of w nobody has, as far as is known here.
func (w *worker) free() int {
	return max(0, w.info.Slots-max(w.inUse, w.info.Busy))
}

// dynamic says that a query looks at what changes from task to task.
func (d *demands) dynamic() bool {
	return d.where != nil && strings.Contains(d.where.String(), "free") || d.prefer != nil && strings.Contains(d.prefer.String(), "free")
}

// lacks says in a few words what w lacks apart from the query, or nothing.
func (d *demands) lacks(w *worker) string {
	switch {
	case !w.listed:
		return "gone"
	case len(d.only) > 0 && !w.named(d.only):
		return "not named"
	case w.named(d.except):
		return "excepted"
	case !w.info.Available && !d.force:
		return "unavailable"
	case w.draining:
		return "draining"
	case !w.info.Known:
		if d.kind == tasks.Command && d.where == nil {
			return "" // nothing in the document matters
		}
		return "not described yet (its document has not arrived)"
	case !slices.Contains(w.info.Kinds, d.kind):
		return fmt.Sprintf("without kind %s", d.kind)
	case d.function != "" && !slices.Contains(w.info.Functions, d.function):
		return fmt.Sprintf("without function %q", d.function)
	}
	for _, i := range d.needs {
		if !slices.Contains(w.info.Interpreters, i) {
			return "without interpreter " + i
		}
	}
	return ""
}

// named says whether w is one of those that a list names.
func (w *worker) named(list []string) bool {
	return slices.Contains(list, w.info.Name) || slices.Contains(list, w.info.ID)
}

// explainLocked says of how many workers why they do not match.
func (m *Master) explainLocked(d *demands, slots int) string {
	var asked []query.Node
	lacking := map[string]int{}
	n := 0
	for _, w := range m.workers {
		if !w.listed {
			continue
		}
		n++
		if why := d.lacks(w); why != "" {
			lacking[why]++
		} else if slots > w.info.Slots {
			lacking[fmt.Sprintf("with fewer than %d slots", slots)]++
		} else {
			w.node.Free = w.free()
			asked = append(asked, w.node)
		}
	}
	if n == 0 {
		return "there are no workers; start `scagent agent` on some host, or -join where they are"
	}
	var parts []string
	for why, k := range lacking {
		parts = append(parts, fmt.Sprintf("%d %s %s", k, plural(k, "is", "are"), why))
	}
	sort.Strings(parts)
	if len(asked) > 0 && d.where != nil {
		text := d.where.Explain("worker", asked)
		if len(parts) == 0 {
			return text
		}
		parts = append(parts, "of the others "+text)
	}
	return fmt.Sprintf("0 of %d workers match: %s", n, strings.Join(parts, ", "))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
