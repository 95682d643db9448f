package master

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/query"
)

// class joins the tasks that make the same demands of a worker, so that these are
// worked out once for each worker and not for each task.
type class struct {
	key      string
	priority int
	slots    int
	demands  demands
	queue    queue               // tasks that no worker has credit for
	verdicts map[*worker]verdict // what is known of the workers
	tasks    int                 // tasks that are in it and have not ended
}

type verdict struct {
	version uint64
	fits    bool
	score   float64
}

// demands are what a task asks of a worker.
type demands struct {
	kind     tasks.Kind
	function string
	needs    []string          // interpreters
	where    *query.Query      // nil: none
	prefer   *query.Preference // nil: none
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

// classLocked returns the class of a run's tasks, a new one if there is none yet.
func (m *Master) classLocked(s *tasks.Submission, d demands, own string) *class {
	key := strings.Join([]string{own, string(d.kind), d.function, strings.Join(d.needs, "\x01"), s.Target.Where, s.Target.Prefer,
		strings.Join(d.except, "\x01"), fmt.Sprint(d.force, s.Options.Slots, s.Options.Priority)}, "\x00")
	c := m.classes[key]
	if c == nil {
		c = &class{key: key, priority: s.Options.Priority, slots: s.Options.Slots, demands: d, verdicts: map[*worker]verdict{}}
		m.classes[key] = c
	}
	return c
}

// fits says whether w can be given tasks of c, and how much it is preferred.
// Queries that look at what changes from task to task are asked each time.
func (c *class) fits(w *worker) (bool, float64) {
	if c.demands.dynamic() {
		return c.work(w)
	}
	v, ok := c.verdicts[w]
	if !ok || v.version != w.version {
		v = verdict{version: w.version}
		v.fits, v.score = c.work(w)
		c.verdicts[w] = v
	}
	return v.fits, v.score
}

func (c *class) work(w *worker) (bool, float64) {
	if c.slots > w.info.Slots || c.demands.lacks(w) != "" {
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

// free is how many slots of w nobody has, as far as is known here.
func (w *worker) free() int {
	return max(0, w.info.Slots-max(w.inUse, w.info.Busy))
}

func (d *demands) dynamic() bool {
	return d.where != nil && strings.Contains(d.where.String(), "free") || d.prefer != nil && strings.Contains(d.prefer.String(), "free")
}

// lacks says in a few words what w lacks apart from the query, or nothing.
func (d *demands) lacks(w *worker) string {
	switch {
	case !w.listed:
		return "gone"
	case slices.Contains(d.except, w.info.Name) || slices.Contains(d.except, w.info.ID):
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
		text := d.where.Explain(asked)
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
