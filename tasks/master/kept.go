package master

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/journal"
)

// Task returns what is known of a task; ErrUnknown if nothing is.
func (m *Master) Task(id tasks.ID) (tasks.Result, error) {
	m.mu.Lock()
	if t := m.tasks[id]; t != nil {
		defer m.mu.Unlock()
		r := m.resultLocked(t)
		m.answered(&r)
		return r, nil
	}
	m.mu.Unlock()
	r, err := m.loadTask(id)
	if err != nil {
		return tasks.Result{}, err
	}
	m.answered(r)
	return *r, nil
}

// answered writes down that somebody is given r, if that is how the task ended. Lists
// are not written down, which say how thousands of tasks ended and nothing more.
func (m *Master) answered(r *tasks.Result) {
	if m.cfg.History.On() && r.State.Final() {
		m.cfg.History.Add(history.Event{Name: history.Answered, Task: r.ID, State: r.State, Hash: history.Hash(&r.Outcome)})
	}
}

// Run returns a run that has tasks that can still be asked for; ErrUnknown if it
// has none.
func (m *Master) Run(id tasks.ID) (*Run, error) {
	m.mu.Lock()
	r := m.findRunLocked(id)
	m.mu.Unlock()
	if r != nil {
		return r, nil
	}
	return m.loadRun(id)
}

// Follow attaches a follower to a run, or to one task.
func (m *Master) Follow(id tasks.ID) (*Follower, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.findRunLocked(id); r != nil {
		return m.followLocked(r, r.eachLocked(), true), nil
	}
	if t := m.tasks[id]; t != nil {
		return m.followLocked(t.run, []*task{t}, false), nil
	}
	m.mu.Unlock()
	f, err := m.followEnded(id)
	m.mu.Lock()
	return f, err
}

// followEnded attaches a follower to a run, or a task, that is on disk alone.
func (m *Master) followEnded(id tasks.ID) (*Follower, error) {
	r, err := m.loadRun(id)
	ts := []*task(nil)
	if err == nil {
		ts = r.tasks
	} else {
		res, err := m.loadTask(id)
		if err != nil {
			return nil, err
		}
		if r, err = m.loadRun(res.Run); err != nil {
			return nil, err
		}
		ts = r.tasks[res.Index : res.Index+1]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.followLocked(r, ts, r.id == id), nil
}

// loadTask reads how a task ended that has left memory.
func (m *Master) loadTask(id tasks.ID) (*tasks.Result, error) {
	if m.cfg.Journal == nil {
		return nil, tasks.ErrUnknown
	}
	b, err := m.cfg.Journal.Get(kindEnd, id)
	if err != nil {
		return nil, unknown(err)
	}
	return decodeEnd(id, b)
}

// loadRun reads a run that has left memory.
func (m *Master) loadRun(id tasks.ID) (*Run, error) {
	if m.cfg.Journal == nil {
		return nil, tasks.ErrUnknown
	}
	b, err := m.cfg.Journal.Get(kindRun, id)
	if err != nil {
		return nil, unknown(err)
	}
	var rec runRecord
	if err := decodeRecord(b, &rec); err != nil {
		return nil, fmt.Errorf("run %s: %w", id, err)
	}
	r, err := m.revive(id, &rec)
	if err != nil {
		return nil, err
	}
	if r.ended < r.count { // it is being accepted, or forgotten, just now
		return nil, tasks.ErrUnknown
	}
	return r, nil
}

func unknown(err error) error {
	if errors.Is(err, journal.ErrNone) {
		return tasks.ErrUnknown
	}
	return err
}

// List returns tasks in order of submission: those after the given id (zero: from
// the first), in one of the states (none: all), at most limit of them. Their output,
// values and files are left out; Task has them.
func (m *Master) List(after tasks.ID, states []tasks.State, limit int) []tasks.Result {
	rs := m.listEnded(after, states, limit)
	onDisk := make(map[tasks.ID]bool, len(rs))
	for i := range rs {
		onDisk[rs[i].ID] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.tasks {
		if t.class.options.Ephemeral || onDisk[t.id] || string(t.id[:]) <= string(after[:]) || len(states) > 0 && !slices.Contains(states, t.state) {
			continue
		}
		rs = append(rs, m.resultLocked(t))
		brief(&rs[len(rs)-1])
	}
	slices.SortFunc(rs, func(a, b tasks.Result) int { return cmp.Compare(string(a.ID[:]), string(b.ID[:])) })
	return rs[:min(len(rs), limit)]
}

func brief(r *tasks.Result) {
	r.Stdout, r.Stderr, r.Value, r.Outputs, r.Steps = nil, nil, nil, nil, nil
}

var errEnough = errors.New("enough")

// listEnded is List for the tasks that are on disk as ended.
func (m *Master) listEnded(after tasks.ID, states []tasks.State, limit int) (rs []tasks.Result) {
	if m.cfg.Journal == nil || limit <= 0 {
		return nil
	}
	err := m.cfg.Journal.Scan(kindEnd, after, func(id tasks.ID, b []byte) error {
		r, err := decodeEnd(id, b)
		if err != nil {
			return err
		}
		if len(states) > 0 && !slices.Contains(states, r.State) {
			return nil
		}
		brief(r)
		if rs = append(rs, *r); len(rs) == limit {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		m.cfg.Logger.Printf("[ERR] tasks: the journal cannot be read: error=%q", err)
	}
	return rs
}

// keeper has the tasks in memory that have ended, the oldest first, and forgets them
// when they are too many or too large.
type keeper struct {
	m     *Master
	ended []*task
	bytes int64
}

// keptOverhead is what an ended task takes beside its output and value.
const keptOverhead = 1 << 10

func (k *keeper) addLocked(t *task) {
	if t.class.options.Ephemeral {
		k.forgetLocked(t)
		return
	}
	k.ended = append(k.ended, t)
	k.bytes += t.weight()
	drop := 0
	for drop < len(k.ended)-1 && (len(k.ended)-drop > k.m.cfg.MaxKept || k.bytes > k.m.cfg.MaxKeptBytes) {
		k.bytes -= k.ended[drop].weight()
		k.forgetLocked(k.ended[drop])
		k.ended[drop] = nil
		drop++
	}
	k.ended = k.ended[drop:]
}

// dropLocked forgets a task, if it is in memory still: then it is one of the oldest.
func (k *keeper) dropLocked(id tasks.ID) {
	if k.m.tasks[id] == nil {
		return
	}
	i := slices.IndexFunc(k.ended, func(t *task) bool { return t.id == id })
	if i < 0 {
		return
	}
	k.bytes -= k.ended[i].weight()
	k.forgetLocked(k.ended[i])
	k.ended = slices.Delete(k.ended, i, i+1)
}

// forgetLocked drops t from memory. The files of one that is in the journal stay.
func (k *keeper) forgetLocked(t *task) {
	if t.result != nil && !t.durable() {
		k.m.releaseOutputs(&t.result.Outcome)
	}
	if !t.durable() && !t.class.options.Ephemeral {
		k.m.cfg.History.Add(history.Event{Name: history.Forgotten, Tasks: []tasks.ID{t.id}})
	}
	delete(k.m.tasks, t.id)
	if t.run.known--; t.run.known == 0 && t.run.sealed {
		delete(k.m.runs, t.run.id)
	}
}

// releaseOutputs gives up the files that an attempt made.
func (m *Master) releaseOutputs(o *tasks.Outcome) {
	for i := range o.Outputs {
		if o.Outputs[i].Blob != "" {
			m.cfg.Release(&o.Outputs[i].Content)
		}
	}
}

func (t *task) weight() int64 {
	return keptOverhead + int64(len(t.result.Stdout)+len(t.result.Stderr)+len(t.result.Value))
}
