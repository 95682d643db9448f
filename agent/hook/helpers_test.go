//go:build linux

package hook_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/agent/hook"
)

// patience is how long tests wait for what should come at once, on a machine that does
// much else.
const patience = time.Minute

// queue is a subscription.
type queue chan api.Event

func (q queue) Next(ctx context.Context) (api.Event, error) {
	select {
	case e, ok := <-q:
		if !ok {
			return e, api.ErrFeedClosed
		}
		return e, nil
	case <-ctx.Done():
		return api.Event{}, context.Cause(ctx)
	}
}

func (q queue) Close() {}

// broken is a subscription that fails.
type broken struct{ queue }

func (broken) Next(context.Context) (api.Event, error) { return api.Event{}, errors.New("broken") }

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

// fixture is Hooks that run.
type fixture struct {
	*hook.Hooks
	t      *testing.T
	dir    string // in which the commands run
	log    buffer
	queues []queue
	seq    uint64
}

// start runs hooks, one for each text.
func start(t *testing.T, change func(*hook.Config), texts ...string) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir()}
	cfg := hook.DefaultConfig()
	for _, s := range texts {
		h, err := hook.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Hooks = append(cfg.Hooks, h)
	}
	cfg.Subscribe = func(bus.Pattern) hook.Source {
		q := make(queue, 1000)
		f.queues = append(f.queues, q)
		return q
	}
	cfg.Environ, cfg.Dir, cfg.Mark = []string{"PATH=" + os.Getenv("PATH")}, f.dir, hook.Mark(t.TempDir())
	cfg.Logger = f.logger()
	if change != nil {
		change(&cfg)
	}
	var err error
	if f.Hooks, err = hook.New(cfg); err != nil {
		t.Fatal(err)
	}
	f.Start()
	t.Cleanup(f.Close)
	return f
}

func (f *fixture) logger() *log.Logger { return log.New(&f.log, "", 0) }

// tail is the end of the log, for people.
func (f *fixture) tail() string {
	s := f.log.String()
	return s[max(0, len(s)-2000):]
}

// emit gives all hooks an event.
func (f *fixture) emit(e api.Event) {
	f.seq++
	e.Seq = f.seq
	for _, q := range f.queues {
		q <- e
	}
}

// await waits until ok.
func (f *fixture) await(what string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("%s has not come to be after %v; stats %+v, log:\n%s", what, patience, f.Stats(), f.tail())
		}
	}
}

// awaitLog waits until the log has a text n times.
func (f *fixture) awaitLog(text string, n int) {
	f.t.Helper()
	f.await(fmt.Sprintf("%d of %q in the log", n, text), func() bool { return f.count(text) >= n })
}

func (f *fixture) count(text string) int { return strings.Count(f.log.String(), text) }

// wantCount compares how often a text is in the log.
func (f *fixture) wantCount(text string, n int) {
	f.t.Helper()
	if got := f.count(text); got != n {
		f.t.Errorf("the log has %q %d times, want %d:\n%s", text, got, n, f.tail())
	}
}

func (f *fixture) read(name string) string {
	f.t.Helper()
	b, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		f.t.Fatal(err)
	}
	return string(b)
}

func (f *fixture) exists(name string) bool {
	_, err := os.Stat(filepath.Join(f.dir, name))
	return err == nil
}

var markers atomic.Int64

// marker is a time that nobody else sleeps, by which processes are found.
func marker() string { return fmt.Sprintf("76543.%07d%06d", os.Getpid(), markers.Add(1)) }

// processes returns how many processes have a text among their arguments.
func processes(text string) int {
	n := 0
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if b, _ := os.ReadFile(file); bytes.Contains(b, []byte(text)) {
			n++
		}
	}
	return n
}

// touch makes a file in the directory of the commands.
func (f *fixture) touch(name string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), nil, 0o600); err != nil {
		f.t.Fatal(err)
	}
}
