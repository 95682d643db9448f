//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
)

// workload submits tasks to masters and learns what becomes of them.
type workload struct {
	request api.SubmitRequest // constant
	total   int64             // how many are to be acknowledged; constant
	pace    *rate.Limiter     // constant
	ledger  *ledger
	masters []*master
	window  chan struct{} // holds one for each task that is not final, as far as is known
	tickets atomic.Int64  // tasks that are acknowledged or on their way
	acked   atomic.Int64
	final   atomic.Int64 // or missing
	refused atomic.Int64 // submissions, which were tried again
	unclear atomic.Int64 // submissions of which nobody knows whether they arrived
}

// master is an agent that tasks are submitted to.
type master struct {
	name   string
	client *client.Client

	mu      sync.Mutex // guards the fields below
	pending map[tasks.ID]bool
}

const (
	submitTimeout = 30 * time.Second
	// A refused submission is tried again after a random time, twice as long each
	// time, up to maxBackoff.
	minBackoff = 20 * time.Millisecond
	maxBackoff = time.Second
	// askEvery is the time between two looks at what became of the tasks.
	askEvery = 500 * time.Millisecond
	// settleTimeout is how long tasks may take to end once all are acknowledged, and
	// again once all faults have ended.
	settleTimeout = 2 * time.Minute
	// page is how many tasks are asked for at once.
	page = 5000
)

// submit has clients of each master submit tasks until enough are acknowledged.
func (w *workload) submit(ctx context.Context, clients int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, m := range w.masters {
		for range clients {
			wg.Go(func() {
				if err := w.client(ctx, m); err != nil {
					cancel(err)
				}
			})
		}
	}
	wg.Wait()
	return context.Cause(ctx)
}

// client submits one task after the other.
func (w *workload) client(ctx context.Context, m *master) error {
	for w.tickets.Add(1) <= w.total {
		if w.pace.Wait(ctx) != nil {
			return nil // ctx has ended
		}
		select {
		case w.window <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		id, err := w.one(ctx, m)
		if err != nil || ctx.Err() != nil {
			return err
		}
		w.ledger.acknowledge(id)
		w.acked.Add(1) // before anybody can find it final
		m.mu.Lock()
		m.pending[id] = true
		m.mu.Unlock()
	}
	return nil
}

// one submits until it is acknowledged. The error is one that cannot get better.
func (w *workload) one(ctx context.Context, m *master) (tasks.ID, error) {
	for backoff := minBackoff; ctx.Err() == nil; backoff = min(2*backoff, maxBackoff) {
		some, cancel := context.WithTimeout(ctx, submitTimeout)
		s, err := m.client.Submit(some, w.request)
		cancel()
		var none *client.NoAnswerError
		var refusal *api.Error
		switch {
		case err == nil && len(s.Tasks) == 1:
			return s.Tasks[0].ID, nil
		case err == nil:
			return tasks.ID{}, fmt.Errorf("%s answered a submission with %d tasks, want one", m.name, len(s.Tasks))
		case errors.As(err, &none):
			w.refused.Add(1)
		case errors.As(err, &refusal):
			if refusal.Status == http.StatusBadRequest {
				return tasks.ID{}, fmt.Errorf("%s refuses: %w", m.name, err)
			}
			w.refused.Add(1)
		default:
			w.unclear.Add(1)
		}
		select {
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		case <-ctx.Done():
		}
	}
	return tasks.ID{}, nil
}

// watch learns what becomes of the tasks, until ctx ends.
func (w *workload) watch(ctx context.Context) {
	var wg sync.WaitGroup
	for _, m := range w.masters {
		wg.Go(func() {
			tick := time.NewTicker(askEvery)
			defer tick.Stop()
			for ctx.Err() == nil {
				w.look(ctx, m) // an error: the master is down, or ctx has ended
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	wg.Wait()
}

// look asks a master about the tasks that are not known to be final.
func (w *workload) look(ctx context.Context, m *master) error {
	m.mu.Lock()
	pending := make([]tasks.ID, 0, len(m.pending))
	for id := range m.pending {
		pending = append(pending, id)
	}
	m.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	slices.SortFunc(pending, compare)
	seen := make(map[tasks.ID]bool, len(pending))
	last := pending[len(pending)-1]
	err := list(ctx, m.client, before(pending[0]), func(s api.TaskStatus) bool {
		seen[s.ID] = true
		w.learn(ctx, m, s)
		return compare(s.ID, last) < 0
	})
	if err != nil {
		return err
	}
	for _, id := range pending {
		if seen[id] {
			continue
		}
		s, err := m.client.Task(ctx, id)
		var refusal *api.Error
		switch {
		case err == nil:
			w.learn(ctx, m, s)
		case errors.As(err, &refusal) && refusal.Code == api.CodeUnknownTask:
			w.ledger.lose(id)
			w.settle(m, id)
		default:
			return err
		}
	}
	return nil
}

// list asks for the tasks after one, page by page, until each says that it is enough.
func list(ctx context.Context, c *client.Client, after tasks.ID, each func(api.TaskStatus) (more bool)) error {
	for {
		some, err := c.Tasks(ctx, client.Filter{After: after, Limit: page})
		if err != nil {
			return err
		}
		for _, s := range some {
			if !each(s) {
				return nil
			}
			after = s.ID
		}
		if len(some) < page {
			return nil
		}
	}
}

// learn notes the state of a task.
func (w *workload) learn(ctx context.Context, m *master, s api.TaskStatus) {
	if s.State.Final() {
		m.sample(ctx, s.ID)
		w.ledger.end(s.ID, final{s.State, s.Attempt, s.ExitCode, s.Reason}, s.Error)
		w.settle(m, s.ID)
	}
}

// sampled is of how many tasks one is asked for by itself.
const sampled = 16

// sample asks for the whole result of some tasks. What it is, the agent's history says.
func (m *master) sample(ctx context.Context, id tasks.ID) {
	if id[len(id)-1]/2%sampled == 0 { // ids of tasks of one master are all even or all odd
		m.client.Task(ctx, id) // an error: the master is down
	}
}

// quiet waits until no master has a task that is not final, also none of which nobody
// knows whether its submission arrived. It returns false if that takes too long, or
// ctx ends.
func (w *workload) quiet(ctx context.Context) bool {
	open := []tasks.State{tasks.StateQueued, tasks.StateRunning}
	for deadline := time.Now().Add(settleTimeout); ; {
		busy := false
		for _, m := range w.masters {
			some, err := m.client.Tasks(ctx, client.Filter{States: open, Limit: 1})
			busy = busy || err != nil || len(some) > 0
		}
		if !busy {
			return true
		}
		select {
		case <-time.After(askEvery / 5):
		case <-ctx.Done():
			return false
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// settle stops asking for a task.
func (w *workload) settle(m *master, id tasks.ID) {
	m.mu.Lock()
	was := m.pending[id]
	delete(m.pending, id)
	m.mu.Unlock()
	if was {
		w.final.Add(1)
		<-w.window
	}
}

// await waits until so many tasks are final. It returns false if that takes too
// long, or ctx ends.
func (w *workload) await(ctx context.Context, n int64) bool {
	tick := time.NewTicker(askEvery / 5)
	defer tick.Stop()
	limit := time.NewTimer(settleTimeout)
	defer limit.Stop()
	for w.final.Load() < n {
		select {
		case <-tick.C:
		case <-limit.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// again asks for all tasks that the masters keep: none may have changed.
func (w *workload) again(ctx context.Context) error {
	for _, m := range w.masters {
		err := list(ctx, m.client, tasks.ID{}, func(s api.TaskStatus) bool {
			m.sample(ctx, s.ID)
			w.ledger.keep(s.ID)
			w.ledger.end(s.ID, final{s.State, s.Attempt, s.ExitCode, s.Reason}, s.Error)
			return true
		})
		if err != nil {
			return fmt.Errorf("ask %s for all its tasks: %w", m.name, err)
		}
	}
	return nil
}

func compare(a, b tasks.ID) int { return bytes.Compare(a[:], b[:]) }

// before returns the id before an id.
func before(id tasks.ID) tasks.ID {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]--
		if id[i] != 0xff {
			break
		}
	}
	return id
}
