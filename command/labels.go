package command

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

// labels say what the workers of a run are called: by their names, and where two
// workers of the run have one name, by name and id.
type labels struct {
	tasks []api.SubmittedTask
	owner map[string]string // id of the first worker of each name
}

func newLabels(s *api.Submitted) *labels {
	return &labels{tasks: s.Tasks, owner: map[string]string{}}
}

// of returns the label of the task that an event is about, safe to print.
func (l *labels) of(e *api.StreamEvent) string { return clean(l.raw(e)) }

func (l *labels) raw(e *api.StreamEvent) string {
	name, id := e.Worker, e.WorkerID
	if e.Result != nil && name == "" {
		name, id = e.Result.Worker, e.Result.WorkerID
	}
	if name == "" && e.Index >= 0 && e.Index < len(l.tasks) {
		name = l.tasks[e.Index].Worker
	}
	if name == "" {
		return fmt.Sprintf("task %d", e.Index+1)
	}
	return l.node(name, id)
}

// node is what a node is called. The id is empty where nobody knows it.
func (l *labels) node(name, id string) string {
	if id == "" {
		return name
	}
	if owner, ok := l.owner[name]; !ok {
		l.owner[name] = id
	} else if owner != id {
		return name + "-" + shortID(id)
	}
	return name
}

// dir returns the name of a directory for the files of the task. It is one
// element of a path, whatever the worker calls itself.
func (l *labels) dir(e *api.StreamEvent) string {
	name := l.raw(e)
	if name == ".." || strings.ContainsAny(name, `/\`) || !filepath.IsLocal(name) || tasks.CheckName(name) != nil {
		return "worker-" + shortID(e.WorkerID)
	}
	return name
}

// shortID is the beginning of a node's id, as people are shown it.
func shortID(id string) string { return clean(id[:min(8, len(id))]) }
