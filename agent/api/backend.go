package api

import (
	"context"
	"encoding/json"
	"io"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/master"
)

// Backend is the agent behind the API; *agent.Agent is one.
type Backend interface {
	Info() Info
	APIMembers() []Member

	Submit(ctx context.Context, s tasks.Submission) (*master.Run, error)
	SubmitFollowed(ctx context.Context, s tasks.Submission) (*master.Run, *master.Follower, error)
	// APIBatch begins a run to which tasks are added, with the follower by which
	// the results are taken.
	APIBatch(target tasks.Target, options tasks.Options, limit int) (Batch, *master.Follower, error)
	DryRun(ctx context.Context, s tasks.Submission) ([]master.Choice, error)
	Task(id tasks.ID) (tasks.Result, error) // tasks.ErrUnknown
	Tasks(after tasks.ID, states []tasks.State, limit int) []tasks.Result
	Run(id tasks.ID) (*master.Run, error)                                 // tasks.ErrUnknown
	Follow(id tasks.ID) (*master.Follower, error)                         // a run's or a task's
	Cancel(id tasks.ID, reason tasks.StopReason) (stopped int, err error) // a run or a task
	Drop(id tasks.ID) (dropped int, err error)                            // of a run, what has not started

	SetData(data json.RawMessage) error
	SetAvailable(available bool) error
	Drain(ctx context.Context) error // takes no new tasks, and waits for those that run here
	Join(ctx context.Context, addrs ...string) (joined int, err error)
	Leave(ctx context.Context) error // leaves the pool; the agent's process ends afterwards

	PutBlob(ctx context.Context, r io.Reader) (hash string, size int64, err error)
	OpenBlob(hash string) (f io.ReadSeekCloser, size int64, err error)

	Feed() *Feed // of events
	// SendEvent sends an event on the bus. RequestEvent asks for replies and calls reply
	// with each, and with why the others did not, one at a time; it ends early with
	// the cause of ctx, or the error of reply. Errors of both mean that nothing was sent.
	SendEvent(ctx context.Context, r SendRequest) (Sent, error)
	RequestEvent(ctx context.Context, r SendRequest, reply func(Reply) error) error

	// Bench measures the pool and reports each figure when it is there. It ends early
	// with the cause of ctx, or the error of report.
	Bench(ctx context.Context, r BenchRequest, report func(Figure) error) error
}

// Batch is a run to which tasks are added, see master.Batch; *agent.Batch is one.
type Batch interface {
	ID() tasks.ID
	Hold(t *tasks.Task)
	AddAt(ctx context.Context, index uint32, t *tasks.Task) (tasks.ID, error)
	Seal()
	Cancel(reason tasks.StopReason)
}
