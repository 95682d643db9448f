package api

import (
	"encoding/json"
	"time"

	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/policy"
)

// Info is what GET /v1/info answers: this agent.
type Info struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Version     string            `json:"version"`
	Cluster     string            `json:"cluster"`
	Roles       []string          `json:"roles"`
	Addr        string            `json:"addr"` // advertised, ip:port
	Bind        string            `json:"bind"` // bound, ip:port
	Posture     string            `json:"posture"`
	Trust       string            `json:"trust"` // one sentence: who may run what here as whom
	Kinds       []tasks.Kind      `json:"kinds"`
	Policy      policy.Policy     `json:"policy"` // of this node's worker, as it is in force
	Functions   []string          `json:"functions"`
	Slots       int               `json:"slots"`
	Busy        int               `json:"busy"`
	Available   bool              `json:"available"`
	Draining    bool              `json:"draining"`
	Pid         int               `json:"pid"`
	StateDir    string            `json:"state_dir"`
	Socket      string            `json:"socket"`       // of this API
	SocketMode  string            `json:"socket_mode"`  // octal, such as 0600
	SocketGroup string            `json:"socket_group"` // whose members may open it; empty: nobody but its owner
	HTTP        string            `json:"http"`         // URL of this API over TCP; empty: there is none
	TokenFile   string            `json:"token_file"`   // with the token for it
	StartedAt   time.Time         `json:"started_at"`
	Limits      map[string]int64  `json:"limits"`
	Counters    map[string]uint64 `json:"counters"`
	Goroutines  int               `json:"goroutines"`
}

// Member is a line of GET /v1/members.
type Member struct {
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Addr      string          `json:"addr"` // IP
	Port      int             `json:"port"`
	Roles     []string        `json:"roles"`
	Status    string          `json:"status"` // alive, suspect, failed, left or external
	Available bool            `json:"available"`
	Slots     int             `json:"slots"`
	Busy      int             `json:"busy"`
	Data      json.RawMessage `json:"data"`
	Facts     json.RawMessage `json:"facts"`
	Version   string          `json:"version"`
	Self      bool            `json:"self"`
	Relay     string          `json:"relay"`
}

// SubmitRequest is the body of POST /v1/tasks.
type SubmitRequest struct {
	Task    TaskSpec     `json:"task"`
	Target  tasks.Target `json:"target"`
	Options OptionsSpec  `json:"options"`
}

// NDJSON is the media type of JSON, a value a line.
const NDJSON = "application/x-ndjson"

// BatchRequest is the first line of the body of POST /v1/batches; each of the
// others is a BatchTask.
type BatchRequest struct {
	Target  tasks.Target `json:"target"`
	Options OptionsSpec  `json:"options"`
	// Limit is how many tasks may have not ended; the rest of the body is read as
	// they end. Absent: 10,000.
	Limit int `json:"limit,omitempty"`
	// Kept asks for what was kept of a task's output in its result, in place of
	// events with all of it.
	Kept bool `json:"kept,omitempty"`
}

// BatchTask is a task of a batch. The index is that of its events, and of
// SCAGENT_INDEX; absent: how many tasks there were before.
type BatchTask struct {
	Index *uint32 `json:"index,omitempty"`
	TaskSpec
}

// TaskSpec is a task in JSON. Which fields count depends on the kind.
type TaskSpec struct {
	Kind          tasks.Kind        `json:"kind"`
	Argv          []string          `json:"argv,omitempty"`
	Shell         string            `json:"shell,omitempty"`
	Name          string            `json:"name,omitempty"`
	Args          []json.RawMessage `json:"args,omitempty"`
	ContentBase64 []byte            `json:"content_base64,omitzero"`
	Blob          string            `json:"blob,omitempty"`
	Interpreter   string            `json:"interpreter,omitempty"`
	URL           string            `json:"url,omitempty"`
	Ref           string            `json:"ref,omitempty"`
	Pre           [][]string        `json:"pre,omitempty"`
	Post          [][]string        `json:"post,omitempty"`
	Source        string            `json:"source,omitempty"`
	Env           map[string]string `json:"env,omitempty"`
	Dir           string            `json:"dir,omitempty"`
	StdinBase64   *[]byte           `json:"stdin_base64,omitempty"` // absent: closed
	StdinBlob     string            `json:"stdin_blob,omitempty"`   // a blob in place of stdin_base64
	Inputs        []InputSpec       `json:"inputs,omitempty"`
	Outputs       []string          `json:"outputs,omitempty"`
}

// InputSpec is a file for the work directory.
type InputSpec struct {
	Name          string `json:"name"`
	ContentBase64 []byte `json:"content_base64,omitzero"`
	Blob          string `json:"blob,omitempty"`
	Mode          uint32 `json:"mode,omitempty"` // decimal permission bits; absent: 0644
	Type          string `json:"type,omitempty"` // dir, or symlink, whose content is its target; absent: a file
}

// OptionsSpec are options in JSON; what is absent has its default.
type OptionsSpec struct {
	TimeoutSeconds     float64  `json:"timeout_seconds,omitempty"`
	Attempts           *int     `json:"attempts,omitempty"`
	Retry              int      `json:"retry,omitempty"`
	Priority           int      `json:"priority,omitempty"`
	Slots              *int     `json:"slots,omitempty"`
	WaitWorkersSeconds *float64 `json:"wait_workers_seconds,omitempty"`
	Expect             int      `json:"expect,omitempty"`
	Ephemeral          bool     `json:"ephemeral,omitempty"`
}

// Submitted answers POST /v1/tasks. Several says whether the target could be
// several workers, which decides how their output is printed.
type Submitted struct {
	Run     tasks.ID        `json:"run"`
	Several bool            `json:"several"`
	Tasks   []SubmittedTask `json:"tasks"`
}

// SubmittedTask is a task of a run; Worker is empty until it has one.
type SubmittedTask struct {
	ID     tasks.ID `json:"id"`
	Worker string   `json:"worker"`
}

// TaskStatus is a task as GET /v1/tasks/{id} and `submit -json` show it.
type TaskStatus struct {
	ID             tasks.ID        `json:"id"`
	Run            tasks.ID        `json:"run"`
	Index          int             `json:"index"`
	Worker         string          `json:"worker"`
	WorkerID       string          `json:"worker_id"`
	Kind           tasks.Kind      `json:"kind"`
	State          tasks.State     `json:"state"`
	Reason         tasks.Code      `json:"reason"` // a stable word: "", exit, signal, timeout, …
	ExitCode       int             `json:"exit_code"`
	Code           int             `json:"code"` // the original's word for exit_code
	Signal         string          `json:"signal"`
	Stdout         *string         `json:"stdout,omitempty"`
	StdoutBase64   []byte          `json:"stdout_base64,omitempty"`
	StdoutCutBytes int64           `json:"stdout_cut_bytes,omitempty"`
	Stderr         *string         `json:"stderr,omitempty"`
	StderrBase64   []byte          `json:"stderr_base64,omitempty"`
	StderrCutBytes int64           `json:"stderr_cut_bytes,omitempty"`
	Result         json.RawMessage `json:"result"`
	Error          string          `json:"error"`
	Attempt        uint32          `json:"attempt"`
	QueuedAt       *Time           `json:"queued_at"`
	StartedAt      *Time           `json:"started_at"`
	FinishedAt     *Time           `json:"finished_at"`
	UserSeconds    float64         `json:"user_seconds"`
	SystemSeconds  float64         `json:"system_seconds"`
	MaxRSSBytes    int64           `json:"max_rss_bytes"`
	Outputs        []OutputStatus  `json:"outputs,omitempty"`
	Steps          []StepStatus    `json:"steps,omitempty"` // of a git task
}

// StepStatus is one of the commands of a git task.
type StepStatus struct {
	Stage    string `json:"stage"` // pre, cmd or post
	Command  string `json:"command"`
	ExitCode int    `json:"exit_code"`
	Signal   string `json:"signal"`
}

// OutputStatus is a file that a task left behind.
type OutputStatus struct {
	Name          string `json:"name"`
	Mode          uint32 `json:"mode"`           // permission bits
	Type          string `json:"type,omitempty"` // as InputSpec.Type
	Size          int64  `json:"size"`
	ContentBase64 []byte `json:"content_base64,omitempty"`
	Blob          string `json:"blob,omitempty"`
}

// The types of a StreamEvent.
const (
	StreamSubmitted = "submitted" // the first: what the run is
	StreamStarted   = "started"
	StreamOutput    = "output"
	StreamAgain     = "again"  // the task starts anew after it had written something
	StreamResult    = "result" // the last of its task
	StreamError     = "error"  // the last, when the stream ends early; of a batch, see doc.go
)

// StreamEvent is a line of the answers to POST /v1/tasks?follow=1 and
// POST /v1/batches, and of GET /v1/runs/{id}/events. Which fields are there depends on its type.
type StreamEvent struct {
	Type       string      `json:"type"`
	Submitted  *Submitted  `json:"submitted,omitempty"`
	Task       tasks.ID    `json:"task,omitzero"`
	Index      int         `json:"index"`
	Worker     string      `json:"worker,omitempty"`
	WorkerID   string      `json:"worker_id,omitempty"`
	Attempt    uint32      `json:"attempt,omitempty"`
	Stream     string      `json:"stream,omitempty"` // stdout or stderr
	DataBase64 []byte      `json:"data_base64,omitempty"`
	CutBytes   int64       `json:"cut_bytes,omitempty"` // missing inside the data, which is what was kept
	Result     *TaskStatus `json:"result,omitempty"`
	Error      *Error      `json:"error,omitempty"`
}

// DryRun answers POST /v1/tasks?dry_run=1.
type DryRun struct {
	Workers []DryRunWorker `json:"workers"`
	Error   *Error         `json:"error,omitempty"` // why submitting would fail
}

// DryRunWorker says whether a worker would get the task, and why.
type DryRunWorker struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Takes bool   `json:"takes"`
	Why   string `json:"why"`
}

// Event is one of GET /v1/events: a member or a task that changed, or an event that
// came over the bus.
type Event struct {
	Seq    uint64      `json:"seq"`
	Time   Time        `json:"time"`
	Event  string      `json:"event"` // workerAvailable, …, update, task, missed; or any other name: of the bus
	Member *Member     `json:"member,omitempty"`
	Task   *TaskStatus `json:"task,omitempty"` // without its output

	// Of events of the bus; the first two also of taskReceived.
	From    string    `json:"from,omitempty"`    // name of the node that sent it
	FromID  string    `json:"from_id,omitempty"` // its id
	Lamport uint64    `json:"lamport,omitempty"` // larger than that of every event that its sender had seen
	Request bool      `json:"request,omitempty"` // whoever sent it waits for a reply
	Data    *bus.Data `json:"data,omitempty"`    // that it carries; nil: none

	Missed uint64 `json:"missed,omitempty"` // of missed: how many, of those that were asked for; 0: not known
}

// MaxEventDataBytes is how much data an event of the bus may carry.
const MaxEventDataBytes = 1 << 20

// The default and the bound of SendRequest.TimeoutSeconds.
const (
	DefaultReplySeconds = 10
	MaxReplySeconds     = 3600
)

// SendRequest is the body of POST /v1/events: an event for the bus. A Backend gets it
// checked, with a Target, and for a request with TimeoutSeconds.
type SendRequest struct {
	Event  string        `json:"event"`
	Data   bus.Data      `json:"data,omitzero"`
	Target *tasks.Target `json:"target,omitempty"` // default: all members; of its fields, on, all, where and except
	// Request asks for replies, which are waited for at most TimeoutSeconds; 0: 10.
	Request        bool    `json:"request,omitempty"`
	TimeoutSeconds float64 `json:"timeout_seconds,omitempty"`
}

// Sent answers a SendRequest that is no request: how many nodes have the event or,
// if it is for all, how many it is for. Failed are those, of the named or matching ones, that do not have it.
type Sent struct {
	Sent   int     `json:"sent"`
	Failed []Reply `json:"failed,omitempty"`
}

// Reply is a line of the answer to a SendRequest that is a request: what one node
// replied, or why it did not.
type Reply struct {
	ID    string   `json:"id"`
	Name  string   `json:"name"`
	Data  bus.Data `json:"data,omitzero"`
	Error string   `json:"error,omitempty"` // why there is no reply
}

// RunStatus is what GET /v1/tasks/{id} answers for the id of a run.
type RunStatus struct {
	Run     tasks.ID     `json:"run"`
	Several bool         `json:"several"`
	Tasks   []TaskStatus `json:"tasks"`
}

// CancelRequest is the body of POST /v1/tasks/{id}/cancel, which may be left out.
type CancelRequest struct {
	Reason string `json:"reason,omitempty"` // cancel (the default), interrupt or kill
	// Queued is for runs: only what has not started is stopped. There is no reason then.
	Queued bool `json:"queued,omitempty"`
}

// Stopped answers a cancel: how many tasks had not ended and were stopped.
type Stopped struct {
	Stopped int `json:"stopped"`
}

// AvailableRequest is the body of PUT /v1/available.
type AvailableRequest struct {
	Available *bool `json:"available"`
}

// JoinRequest is the body of POST /v1/join.
type JoinRequest struct {
	Addrs []string `json:"addrs"`
}

// Joined answers a join: how many of the addresses answered.
type Joined struct {
	Joined int `json:"joined"`
}

// Blob answers PUT /v1/blobs: the hash that names the content, and its size.
type Blob struct {
	Blob string `json:"blob"`
	Size int64  `json:"size"`
}

// Events about tasks. Agents tell the latter two only while somebody asks for them, and not
// to whoever asks for all: each comes once for every task.
const (
	EventTask     = "task"               // a task that was submitted here has changed its state
	EventReceived = "taskReceived"       // the worker here starts an attempt; From is its master
	EventComplete = "workerTaskComplete" // a task that was submitted here has ended
)

// EventMissed is the event that tells a client that events were lost between the
// last one it read and the next one: it looks at members and tasks anew.
const EventMissed = "missed"

// Error is the body of every answer that is an error, under "error".
type Error struct {
	Code    string `json:"code"` // a stable word
	Message string `json:"message"`
	Status  int    `json:"-"` // of HTTP
}

// ErrorBody is how an Error is written.
type ErrorBody struct {
	Error *Error `json:"error"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Time prints as RFC 3339 in UTC with nanoseconds.
type Time struct{ time.Time }

// MarshalText writes it with all nine digits.
func (t Time) MarshalText() ([]byte, error) {
	return []byte(t.UTC().Format("2006-01-02T15:04:05.000000000Z07:00")), nil
}

// MarshalJSON writes it as a string.
func (t Time) MarshalJSON() ([]byte, error) {
	b, _ := t.MarshalText()
	return append(append([]byte{'"'}, b...), '"'), nil
}
