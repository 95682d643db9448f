package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/api/apitest"
	"github.com/scagent/scagent/tasks"
)

func openBatch(t *testing.T, c *Client, r api.BatchRequest) *Batch {
	t.Helper()
	b, err := c.OpenBatch(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func addCommand(t *testing.T, b *Batch, argv ...string) {
	t.Helper()
	if err := b.Add(&api.BatchTask{TaskSpec: api.TaskSpec{Kind: tasks.Command, Argv: argv}}); err != nil {
		t.Fatal(err)
	}
}

// askAndAnswer adds one task after the other, each when the result of the one before
// was read.
func askAndAnswer(t *testing.T, c *Client) {
	t.Helper()
	b := openBatch(t, c, api.BatchRequest{})
	for i := range 10 {
		addCommand(t, b, "echo", fmt.Sprint(i))
		e, err := b.Next()
		if err != nil || e.Type != api.StreamOutput || e.Index != i || string(e.DataBase64) != fmt.Sprintln(i) {
			t.Fatalf("after task %d: %+v, %v; want its output", i, e, err)
		}
		e, err = b.Next()
		if err != nil || e.Type != api.StreamResult || e.Index != i || e.Result.State != tasks.StateDone || e.Result.Stdout != nil {
			t.Fatalf("after task %d: %+v, %v; want its result, without output", i, e, err)
		}
	}
	b.Seal()
	if e, err := b.Next(); err != io.EOF {
		t.Errorf("at the end: %+v, %v", e, err)
	}
}

func TestBatchIsAnsweredWhileItIsSent(t *testing.T) {
	t.Run("in this process", func(t *testing.T) {
		inBubble(t, func(t *testing.T, _ *apitest.Backend, c *Client) { askAndAnswer(t, c) })
	})
	t.Run("over a socket", func(t *testing.T) {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		srv := api.NewServer(api.NewHandler(apitest.New(t, run), api.Options{}))
		go srv.Serve(l)
		defer srv.Close()
		c, err := New("unix://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		askAndAnswer(t, c)
		askAndAnswer(t, c)
	})
}

func TestBatchWithKeptOutput(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *apitest.Backend, c *Client) {
		b := openBatch(t, c, api.BatchRequest{Kept: true})
		addCommand(t, b, "echo", "x")
		b.Seal()
		types, _, results := all(t, b.Stream)
		if fmt.Sprint(types) != "[result]" || *results[0].Stdout != "x\n" {
			t.Errorf("events %v with %+v, want a result with its output", types, results)
		}
	})
}

func TestBatchTakesIndexes(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *apitest.Backend, c *Client) {
		b := openBatch(t, c, api.BatchRequest{Kept: true, Limit: 1})
		seven := uint32(7)
		for _, index := range []*uint32{nil, &seven, nil} {
			if err := b.Add(&api.BatchTask{Index: index, TaskSpec: command("echo").Task}); err != nil {
				t.Fatal(err)
			}
		}
		b.Seal()
		var got []int
		_, _, results := all(t, b.Stream)
		for _, r := range results {
			got = append(got, r.Index)
		}
		if fmt.Sprint(got) != "[0 7 8]" {
			t.Errorf("indexes are %v, want 0, 7 and 8", got)
		}
	})
}

func TestBatchRefusesALine(t *testing.T) {
	for _, c := range []struct {
		name string
		bad  api.TaskSpec
		code string
	}{
		{"a bad task", api.TaskSpec{Kind: tasks.Command}, api.CodeBadTask},
		{"nobody for it", api.TaskSpec{Kind: tasks.Function, Name: "g"}, api.CodeNoMatch},
		{"too long", api.TaskSpec{Kind: tasks.Command, Argv: []string{strings.Repeat("x", 20<<20)}}, api.CodeTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, back *apitest.Backend, cl *Client) {
				b := openBatch(t, cl, api.BatchRequest{})
				addCommand(t, b, "hold")
				if e, err := b.Next(); err != nil || e.Type != api.StreamOutput {
					t.Fatalf("%+v, %v; want the output of the first", e, err)
				}
				if err := b.Add(&api.BatchTask{TaskSpec: c.bad}); err != nil {
					t.Fatal(err)
				}
				e, err := b.Next()
				var refused *api.Error
				if !errors.As(err, &refused) || refused.Code != c.code || e.Index != 1 {
					t.Fatalf("%+v, %v; want %s of task 1", e, err, c.code)
				}
				// What came before it goes on, and can be waited for.
				if _, err := back.Cancel(b.Submitted().Run, tasks.StopCancel); err != nil {
					t.Fatal(err)
				}
				if e, err := b.Next(); err != nil || e.Type != api.StreamResult || e.Index != 0 {
					t.Errorf("%+v, %v; want the result of task 0", e, err)
				}
				if _, err := b.Next(); err != io.EOF {
					t.Errorf("at the end: %v", err)
				}
				for err = nil; err == nil; { // what is on its way may still be taken
					err = b.Add(&api.BatchTask{})
				}
				if !errors.Is(err, ErrBatchEnded) {
					t.Errorf("one more: %v, want ErrBatchEnded", err)
				}
			})
		})
	}
}

func TestBatchRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *apitest.Backend, c *Client) {
		for _, r := range []api.BatchRequest{{Limit: -1}, {Target: tasks.Target{N: 2}}, {Options: api.OptionsSpec{TimeoutSeconds: -1}}} {
			_, err := c.OpenBatch(t.Context(), r)
			var refused *api.Error
			if !errors.As(err, &refused) || refused.Status != 400 {
				t.Errorf("%+v: %v, want a refusal", r, err)
			}
		}
	})
}

func TestBatchLimitBoundsWhatIsOpen(t *testing.T) {
	inBubble(t, func(t *testing.T, back *apitest.Backend, c *Client) {
		b := openBatch(t, c, api.BatchRequest{Limit: 3})
		for range 10 {
			addCommand(t, b, "hold")
		}
		synctest.Wait()
		if n := len(back.Tasks(tasks.ID{}, nil, 100)); n != 3 {
			t.Errorf("%d tasks are open, want 3", n)
		}
	})
}

// A client that hangs up while the agent reads no more of it, as the batch is full,
// is found out too.
func TestBatchIsCancelledWhenItsClientHangsUp(t *testing.T) {
	for limit, running := range map[int]int{0: 4, 3: 3} {
		inBubble(t, func(t *testing.T, back *apitest.Backend, c *Client) {
			b := openBatch(t, c, api.BatchRequest{Limit: limit})
			for range 10 {
				addCommand(t, b, "hold")
			}
			for range 2 { // more bytes than are read ahead
				if err := b.Add(&api.BatchTask{TaskSpec: command("echo", strings.Repeat("x", 60_000)).Task}); err != nil {
					t.Fatal(err)
				}
			}
			for range running {
				if _, err := b.Next(); err != nil { // what it wrote
					t.Fatal(err)
				}
			}
			synctest.Wait()
			b.Close()
			time.Sleep(10 * time.Second)
			for _, r := range back.Tasks(tasks.ID{}, nil, 100) {
				if r.State != tasks.StateCancelled {
					t.Errorf("limit %d: task %d is %s, want all to be cancelled", limit, r.Index, r.State)
				}
			}
			if err := b.Add(&api.BatchTask{}); !errors.Is(err, ErrBatchEnded) {
				t.Errorf("one more: %v, want ErrBatchEnded", err)
			}
		})
	}
}

func TestDropStopsWhatWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, back *apitest.Backend, c *Client) {
		b := openBatch(t, c, api.BatchRequest{})
		for range 10 {
			addCommand(t, b, "hold")
		}
		synctest.Wait()
		if n, err := c.Drop(t.Context(), b.Submitted().Run); n != 6 || err != nil {
			t.Errorf("dropped %d, %v; want 6", n, err)
		}
		synctest.Wait()
		if n := len(back.Tasks(tasks.ID{}, []tasks.State{tasks.StateRunning}, 100)); n != 4 {
			t.Errorf("%d run, want 4", n)
		}
		if _, err := c.Drop(t.Context(), tasks.ID{1}); !errors.Is(err, tasks.ErrUnknown) {
			t.Errorf("of no run: %v, want ErrUnknown", err)
		}
	})
}

// An agent that ends says so to whoever has a batch open, and at once.
func TestABatchEndsWithItsAgent(t *testing.T) {
	inBubble(t, func(t *testing.T, be *apitest.Backend, c *Client) {
		b := openBatch(t, c, api.BatchRequest{})
		addCommand(t, b, "hold")
		synctest.Wait()
		start := time.Now()
		be.Master.Close()
		e, err := b.Next()
		for err == nil && e.Type != api.StreamResult {
			e, err = b.Next()
		}
		if err != nil || e.Result.State != tasks.StateCancelled {
			t.Errorf("%+v, %v; want the result of the task that was cancelled", e, err)
		}
		var said *api.Error
		if e, err := b.Next(); !errors.As(err, &said) || !strings.Contains(said.Message, "shutting down") || time.Since(start) > time.Second {
			t.Errorf("then %+v, %v after %v; want that the agent is shutting down, at once", e, err, time.Since(start))
		}
	})
}
