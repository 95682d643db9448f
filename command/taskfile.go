package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/original"
)

// maxTaskFileBytes bounds the file of -task.
const maxTaskFileBytes = 64 << 20

// readTaskFile reads the file of -task, which has one of
//
//	{"task": …, "target": …, "options": …}   the body of POST /v1/tasks
//	{"kind": …}                              the task in it alone
//	{"type": …}                              a task object of strongloop/supercluster
func readTaskFile(path string, stdin io.Reader, p *packer, r *api.SubmitRequest) error {
	b, err := []byte(nil), error(nil)
	if path == "-" {
		b, err = io.ReadAll(io.LimitReader(stdin, maxTaskFileBytes+1))
	} else {
		b, err = readLimited(path, maxTaskFileBytes)
	}
	switch {
	case err != nil:
		return fmt.Errorf("-task: %w", err)
	case len(b) > maxTaskFileBytes:
		return fmt.Errorf("-task: more than %d bytes; send large contents with -in", maxTaskFileBytes)
	}
	var form struct {
		Task json.RawMessage
		Kind *string
		Type *string
	}
	if err := json.Unmarshal(b, &form); err != nil {
		return fmt.Errorf("-task: %s: want a JSON object: %w", path, err)
	}
	switch {
	case form.Task != nil:
		err = strictJSON(b, r)
	case form.Kind != nil:
		err = strictJSON(b, &r.Task)
	case form.Type != nil:
		err = originalTask(b, filepath.Dir(path), p, &r.Task)
	default:
		err = errors.New(`want an object with "task" or "kind", or with "type" for a task of the original's`)
	}
	if err != nil {
		return fmt.Errorf("-task: %s: %w", path, err)
	}
	return nil
}

// strictJSON decodes one value; unknown keys are errors.
func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// originalTask makes a task of one of the original's task objects. Names of files
// in it are relative to dir.
func originalTask(b []byte, dir string, p *packer, t *api.TaskSpec) error {
	var file string
	task, err := original.Task(b, func(name string) (tasks.Content, error) {
		if file = name; !filepath.IsAbs(name) {
			file = filepath.Join(dir, name)
		}
		return tasks.Content{}, nil
	})
	if err != nil {
		return err
	}
	*t = api.SpecOf(&task)
	if file != "" {
		_, err = p.file(file, &t.ContentBase64, &t.Blob)
	}
	return err
}

// readLimited reads a file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAtMost(f, path, limit)
}

// readAtMost reads at most limit bytes of what errors call by a name.
func readAtMost(r io.Reader, name string, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return b, err
}
