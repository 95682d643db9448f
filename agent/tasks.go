package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/master"
	"github.com/scagent/scagent/tasks/runner/file"
)

// ErrNotMaster is returned by submissions to an agent without the role master.
var ErrNotMaster error = &api.Error{Code: "not_master", Status: http.StatusConflict,
	Message: "this agent has not the role master; start it with -role worker,master"}

// ErrWorkerToken is returned by submissions to an agent that proves itself with a
// worker token, or with a certificate that says the same.
var ErrWorkerToken error = &api.Error{Code: "worker_token", Status: http.StatusForbidden,
	Message: "a worker token, or a certificate of the unit " + secret.WorkerUnit + ", does not let this node submit tasks; start the agent with the whole secret, or with another certificate"}

// Handle registers functions that this node runs for others. It must be called
// before Start.
func (a *Agent) Handle(fs ...tasks.Registered) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != fresh {
		return errors.New("agent: Handle was called after Start")
	}
	for _, f := range fs {
		if err := a.functions.Register(f); err != nil {
			return err
		}
	}
	return nil
}

// Submit queues a submission and returns its run, whose results can be ranged
// over as they arrive. The options' zero values are not defaults: start from
// tasks.DefaultOptions. When too few workers match within
// Options.WaitWorkers the error wraps tasks.ErrNoMatch and says why.
func (a *Agent) Submit(ctx context.Context, s tasks.Submission) (*master.Run, error) {
	if err := a.mayMaster(); err != nil {
		return nil, err
	}
	if err := a.prepare(&s); err != nil {
		return nil, err
	}
	return a.master.Submit(ctx, s)
}

// SubmitMany is Submit for up to master.MaxMany submissions: all are accepted, which
// takes hardly longer than one, or none.
func (a *Agent) SubmitMany(ctx context.Context, ss []tasks.Submission) ([]*master.Run, error) {
	if err := a.mayMaster(); err != nil {
		return nil, err
	}
	ss = slices.Clone(ss)
	for i := range ss {
		if err := a.prepare(&ss[i]); err != nil {
			return nil, fmt.Errorf("submission %d: %w", i, err)
		}
	}
	return a.master.SubmitMany(ctx, ss)
}

// SubmitFollowed is Submit with a follower, which gets every byte that the tasks
// write, and must be read and closed.
func (a *Agent) SubmitFollowed(ctx context.Context, s tasks.Submission) (*master.Run, *master.Follower, error) {
	if err := a.mayMaster(); err != nil {
		return nil, nil, err
	}
	if err := a.prepare(&s); err != nil {
		return nil, nil, err
	}
	return a.master.SubmitFollowed(ctx, s)
}

// Batch is a run to which tasks are added, see master.Batch.
type Batch struct {
	*master.Batch
	a *Agent
}

// Add queues a task as soon as there is room for it, see master.Batch.Add.
func (b *Batch) Add(ctx context.Context, t *tasks.Task) (tasks.ID, error) {
	needs, err := b.a.needs(t)
	if err != nil {
		return tasks.ID{}, err
	}
	return b.Batch.Add(ctx, t, needs...)
}

// AddAt is Add with an index of the caller's choice, see master.Batch.AddAt.
func (b *Batch) AddAt(ctx context.Context, index uint32, t *tasks.Task) (tasks.ID, error) {
	needs, err := b.a.needs(t)
	if err != nil {
		return tasks.ID{}, err
	}
	return b.Batch.AddAt(ctx, index, t, needs...)
}

// OpenBatch begins a run of many tasks, each for one of the workers that the
// target allows. At most limit of them (0: 10,000) have not ended, or have results
// that nobody has taken: adding waits then.
func (a *Agent) OpenBatch(target tasks.Target, options tasks.Options, limit int) (*Batch, error) {
	if err := a.mayMaster(); err != nil {
		return nil, err
	}
	b, err := a.master.OpenBatch(target, options, limit)
	if err != nil {
		return nil, err
	}
	return &Batch{b, a}, nil
}

// OpenBatchFollowed is OpenBatch with a follower, see SubmitFollowed, by which the
// results are taken.
func (a *Agent) OpenBatchFollowed(target tasks.Target, options tasks.Options, limit int) (*Batch, *master.Follower, error) {
	if err := a.mayMaster(); err != nil {
		return nil, nil, err
	}
	b, f, err := a.master.OpenBatchFollowed(target, options, limit)
	if err != nil {
		return nil, nil, err
	}
	return &Batch{b, a}, f, nil
}

// APIBatch is OpenBatchFollowed for the local API.
func (a *Agent) APIBatch(target tasks.Target, options tasks.Options, limit int) (api.Batch, *master.Follower, error) {
	return a.OpenBatchFollowed(target, options, limit)
}

// Call runs a task on one worker that the target allows and returns its result,
// which is not kept. When ctx ends the task is cancelled.
func (a *Agent) Call(ctx context.Context, t tasks.Task, target tasks.Target) (tasks.Result, error) {
	if err := a.mayMaster(); err != nil {
		return tasks.Result{}, err
	}
	s := tasks.Submission{Task: t, Target: target, Options: tasks.DefaultOptions()}
	if err := a.prepare(&s); err != nil {
		return tasks.Result{}, err
	}
	return a.master.Call(ctx, &s)
}

// prepare adds to what a submission needs.
func (a *Agent) prepare(s *tasks.Submission) error {
	needs, err := a.needs(&s.Task)
	if len(needs) > 0 {
		s.Needs = append(slices.Clone(s.Needs), needs...)
	}
	return err
}

// needs returns the interpreter that the file of a task needs, so that it goes
// only where that is.
func (a *Agent) needs(t *tasks.Task) ([]string, error) {
	if t.Kind != tasks.File || t.Content == nil {
		return nil, nil
	}
	head := t.Content.Inline
	if t.Content.Blob != "" {
		f, _, err := a.blobs.Get(t.Content.Blob)
		if err != nil {
			return nil, fmt.Errorf("%w: content %s: %w", tasks.ErrBadTask, t.Content.Blob, err)
		}
		defer f.Close()
		head = make([]byte, file.HeadBytes)
		n, err := io.ReadFull(f, head)
		if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
			return nil, err
		}
		head = head[:n]
	}
	if name, ok := file.Interpreter(t.Name, head, t.Interpreter); ok {
		return []string{name}, nil
	}
	return nil, nil
}

func (a *Agent) mayMaster() error {
	if err := a.running(); err != nil {
		return err
	}
	switch {
	case a.keys != nil && !a.keys.Submits():
		return ErrWorkerToken
	case !a.cfg.has(membership.RoleMaster):
		return ErrNotMaster
	}
	return nil
}

// DryRun tells for each worker whether it would get the task, and why not.
func (a *Agent) DryRun(ctx context.Context, s tasks.Submission) ([]master.Choice, error) {
	if err := a.mayMaster(); err != nil {
		return nil, err
	}
	if err := a.prepare(&s); err != nil {
		return nil, err
	}
	return a.master.DryRun(ctx, s)
}

// Task returns what is known of a task that was submitted here.
func (a *Agent) Task(id tasks.ID) (tasks.Result, error) {
	if err := a.running(); err != nil {
		return tasks.Result{}, err
	}
	return a.master.Task(id)
}

// Tasks lists tasks that were submitted here, see master.Master.List.
func (a *Agent) Tasks(after tasks.ID, states []tasks.State, limit int) []tasks.Result {
	if a.running() != nil {
		return nil
	}
	return a.master.List(after, states, limit)
}

// Run returns a run that was submitted here.
func (a *Agent) Run(id tasks.ID) (*master.Run, error) {
	if err := a.running(); err != nil {
		return nil, err
	}
	return a.master.Run(id)
}

// Follow attaches a follower to a run or a task.
func (a *Agent) Follow(id tasks.ID) (*master.Follower, error) {
	if err := a.running(); err != nil {
		return nil, err
	}
	return a.master.Follow(id)
}

// Cancel stops a task, or all tasks of a run, and says how many it stopped.
func (a *Agent) Cancel(id tasks.ID, reason tasks.StopReason) (int, error) {
	if err := a.running(); err != nil {
		return 0, err
	}
	return a.master.Cancel(id, reason)
}

// Drop stops the tasks of a run that have not started, see master.Master.Drop.
func (a *Agent) Drop(id tasks.ID) (int, error) {
	if err := a.running(); err != nil {
		return 0, err
	}
	return a.master.Drop(id)
}
