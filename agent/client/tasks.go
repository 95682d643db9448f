package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

// Submit submits a task and returns the ids of its run. ctx bounds the wait for
// workers; the tasks go on when it ends.
func (c *Client) Submit(ctx context.Context, s api.SubmitRequest) (api.Submitted, error) {
	var out api.Submitted
	err := c.call(ctx, http.MethodPost, "/v1/tasks", nil, s, &out)
	return out, err
}

// SubmitFollow submits a task and returns everything that happens to its run,
// from the start. When the stream is closed, or ctx ends, the tasks go on.
func (c *Client) SubmitFollow(ctx context.Context, s api.SubmitRequest) (*Stream, error) {
	resp, err := c.do(ctx, http.MethodPost, "/v1/tasks", url.Values{"follow": {"1"}}, s)
	if err != nil {
		return nil, err
	}
	return c.stream(ctx, resp.Body)
}

// DryRun tells who would get the task, and why the others would not.
func (c *Client) DryRun(ctx context.Context, s api.SubmitRequest) (api.DryRun, error) {
	var out api.DryRun
	err := c.call(ctx, http.MethodPost, "/v1/tasks", url.Values{"dry_run": {"1"}}, s, &out)
	return out, err
}

// Filter says which tasks Tasks lists. The zero Filter is the first ones.
type Filter struct {
	States []tasks.State // none: all
	After  tasks.ID      // only those submitted after this one
	Limit  int           // at most so many; 0: as many as the agent answers at once
	Newest bool          // when there are more, the last ones instead of the first
}

// Tasks lists tasks that were submitted to the agent, oldest first, without their
// output and results.
func (c *Client) Tasks(ctx context.Context, f Filter) ([]api.TaskStatus, error) {
	q := url.Values{}
	if len(f.States) > 0 {
		words := make([]string, len(f.States))
		for i, s := range f.States {
			words[i] = string(s)
		}
		q.Set("state", strings.Join(words, ","))
	}
	if !f.After.IsZero() {
		q.Set("after", f.After.String())
	}
	if f.Limit != 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	if f.Newest {
		q.Set("newest", "1")
	}
	var out []api.TaskStatus
	err := c.call(ctx, http.MethodGet, "/v1/tasks", q, nil, &out)
	return out, err
}

// Task returns one task, of whichever agent of the pool. The code of the error is
// unknown_task if it is not known, and owner_away when the agent that it was
// submitted to is not in the pool.
func (c *Client) Task(ctx context.Context, id tasks.ID) (api.TaskStatus, error) {
	var out struct {
		api.TaskStatus
		Tasks []api.TaskStatus `json:"tasks"` // of a run
	}
	if err := c.call(ctx, http.MethodGet, "/v1/tasks/"+id.String(), nil, nil, &out); err != nil {
		return api.TaskStatus{}, err
	}
	if out.ID.IsZero() {
		return api.TaskStatus{}, &api.Error{Code: api.CodeUnknownTask, Status: http.StatusNotFound,
			Message: fmt.Sprintf("%s is a run of %d tasks, not a task", id, len(out.Tasks))}
	}
	return out.TaskStatus, nil
}

// RunTasks returns the tasks of a run in order of their index. For the id of a
// task it is that task alone.
func (c *Client) RunTasks(ctx context.Context, id tasks.ID) (api.RunStatus, error) {
	var out struct {
		api.TaskStatus
		Several bool             `json:"several"`
		Tasks   []api.TaskStatus `json:"tasks"`
	}
	if err := c.call(ctx, http.MethodGet, "/v1/tasks/"+id.String(), nil, nil, &out); err != nil {
		return api.RunStatus{}, err
	}
	if out.ID.IsZero() {
		return api.RunStatus{Run: out.Run, Several: out.Several, Tasks: out.Tasks}, nil
	}
	return api.RunStatus{Run: out.Run, Tasks: []api.TaskStatus{out.TaskStatus}}, nil
}

// FollowRun returns what happens to the tasks of a run, or to one task: first what
// was kept of their output, then what they write.
func (c *Client) FollowRun(ctx context.Context, id tasks.ID) (*Stream, error) {
	return c.runEvents(ctx, id, nil)
}

// PeekRun returns what has happened to the tasks of a run, or to one task: its
// stream ends with what there is by now.
func (c *Client) PeekRun(ctx context.Context, id tasks.ID) (*Stream, error) {
	return c.runEvents(ctx, id, url.Values{"follow": {"0"}})
}

// AwaitRun is FollowRun without the output, for which the tasks do not wait then.
func (c *Client) AwaitRun(ctx context.Context, id tasks.ID) (*Stream, error) {
	return c.runEvents(ctx, id, url.Values{"output": {"0"}})
}

func (c *Client) runEvents(ctx context.Context, id tasks.ID, q url.Values) (*Stream, error) {
	resp, err := c.do(ctx, http.MethodGet, "/v1/runs/"+id.String()+"/events", q, nil)
	if err != nil {
		return nil, err
	}
	return c.stream(ctx, resp.Body)
}

// Output returns what was kept of a task's output; stream is stdout or stderr.
// With follow it goes on with what the task writes, until it ends. Closing it,
// or the end of ctx, lets the task go on.
func (c *Client) Output(ctx context.Context, id tasks.ID, stream string, follow bool) (io.ReadCloser, error) {
	q := url.Values{"stream": {stream}}
	if follow {
		q.Set("follow", "1")
	}
	resp, err := c.do(ctx, http.MethodGet, "/v1/tasks/"+id.String()+"/output", q, nil)
	if err != nil {
		return nil, err
	}
	return &body{resp.Body, c, ctx}, nil
}

// Drop stops the tasks of a run that have not started, and says how many these are.
func (c *Client) Drop(ctx context.Context, run tasks.ID) (int, error) {
	var out api.Stopped
	err := c.call(ctx, http.MethodPost, "/v1/tasks/"+run.String()+"/cancel", nil, api.CancelRequest{Queued: true}, &out)
	return out.Stopped, err
}

// Cancel stops a task, or all tasks of a run, and says how many had not ended.
// The reason is one of tasks.StopCancel, StopInterrupt and StopKill.
func (c *Client) Cancel(ctx context.Context, id tasks.ID, reason tasks.StopReason) (int, error) {
	var out api.Stopped
	err := c.call(ctx, http.MethodPost, "/v1/tasks/"+id.String()+"/cancel", nil, api.CancelRequest{Reason: reason.String()}, &out)
	return out.Stopped, err
}
