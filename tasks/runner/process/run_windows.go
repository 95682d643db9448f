package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/scagent/scagent/tasks"
)

// run on windows kills the main process to stop it: there is no signal to ask
// with, and what it started is not followed.
func run(ctx context.Context, s *Spec) (Exit, error) {
	path, err := lookup(s)
	if err != nil {
		return Exit{}, err
	}
	stdout, stderr := &counter{w: s.Stdout}, &counter{w: s.Stderr}
	cmd := &exec.Cmd{Path: path, Args: s.Argv, Env: s.Env, Dir: s.Dir, Stdin: s.Stdin, Stdout: stdout, Stderr: stderr,
		WaitDelay: s.linger(), SysProcAttr: &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}}
	ex := Exit{Started: time.Now()}
	if err := cmd.Start(); err != nil {
		return Exit{}, &StartError{Code: tasks.NotExecutable, Err: err, Text: fmt.Sprintf("%s: %v", path, err)}
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	select {
	case <-exited:
	case <-ctx.Done():
		ex.Stopped = Reason(ctx)
	case <-s.Kill:
		ex.Stopped = tasks.StopKill
	}
	if ex.Stopped != 0 {
		cmd.Process.Kill() // an error: it has just exited
		<-exited
	}
	if c, ok := s.Stdin.(io.Closer); ok {
		if _, file := s.Stdin.(*os.File); !file {
			c.Close()
		}
	}
	ex.Finished = time.Now()
	st := cmd.ProcessState
	ex.Status, ex.User, ex.System = st.ExitCode(), st.UserTime(), st.SystemTime()
	ex.StdoutBytes, ex.StderrBytes = stdout.n, stderr.n
	return ex, nil
}

func lookup(s *Spec) (string, error) {
	name := s.Argv[0]
	dirs := []string{s.Dir}
	if !strings.ContainsAny(name, `/\:`) {
		for _, e := range s.Env {
			if k, v, _ := strings.Cut(e, "="); strings.EqualFold(k, "PATH") {
				dirs = filepath.SplitList(v)
			}
		}
	} else if filepath.IsAbs(name) {
		dirs = []string{""}
	}
	var err error
	for _, dir := range dirs {
		var path string
		if path, err = exec.LookPath(filepath.Join(dir, name)); err == nil || errors.Is(err, exec.ErrDot) {
			return path, nil
		}
	}
	return "", &StartError{Code: tasks.NotFound, Err: err, Text: name + ": no such program in the PATH of the task"}
}

// counter counts what it hands on; it is used by one goroutine at a time.
type counter struct {
	w    io.Writer
	n    int64
	fail bool
}

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	if c.w != nil && !c.fail {
		_, err := c.w.Write(b)
		c.fail = err != nil
	}
	return len(b), nil
}
