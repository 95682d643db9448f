package command

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/api/apitest"
	"github.com/scagent/scagent/tasks"
)

// console is an Env whose output can be looked at.
type console struct {
	Env
	out, err buffer
	env      map[string]string
	signals  chan os.Signal
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newConsole(stdin string) *console {
	c := &console{env: map[string]string{}, signals: make(chan os.Signal, 4)}
	c.Env = Env{
		Stdin: strings.NewReader(stdin), Stdout: &c.out, Stderr: &c.err,
		Getenv:  func(k string) string { return c.env[k] },
		Signals: func(bool) (<-chan os.Signal, func()) { return c.signals, func() {} },
	}
	return c
}

// want runs a command line and compares everything that it says.
func (c *console) want(t *testing.T, args []string, status int, stdout, stderr string) {
	t.Helper()
	got := Run(&c.Env, args)
	if got != status || c.out.String() != stdout || c.err.String() != stderr {
		t.Errorf("scagent %q\n= %d, want %d\nstdout:\n%s\nwant:\n%s\nstderr:\n%s\nwant:\n%s",
			args, got, status, c.out.String(), stdout, c.err.String(), stderr)
	}
}

// serve serves an API for the test and returns its address.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// newAgent is an agent with two workers that run tasks with run.
func newAgent(t *testing.T, run apitest.Run) (*apitest.Backend, string) {
	t.Helper()
	b := apitest.New(t, run)
	return b, serve(t, api.NewHandler(b, api.Options{}))
}

func mustRead(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// waitFor waits until something that other goroutines do is done.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for !done() {
		if t.Context().Err() != nil {
			t.Fatal("it never came to be")
		}
		runtime.Gosched()
	}
}

// waitRunning waits until the agent knows that the task runs. The runner knows it
// first: what a worker says of a start comes after the start.
func waitRunning(t *testing.T, b *apitest.Backend, id string) {
	t.Helper()
	task, err := tasks.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		r, err := b.Task(task)
		if err != nil {
			t.Fatal(err)
		}
		return r.State == tasks.StateRunning
	})
}
