package agent_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/original"
)

type pair struct{ A, B int }

var add = tasks.NewFunc("add", func(_ context.Context, in pair) (int, error) {
	if in.A < 0 {
		return 0, errors.New("a is negative")
	}
	return in.A + in.B, nil
})

func withAdd(_ int, a *agent.Agent) { a.Handle(add) }

func submission(t tasks.Task, target tasks.Target) tasks.Submission {
	return tasks.Submission{Task: t, Target: target, Options: tasks.DefaultOptions()}
}

func TestFunctionIsCalledOnAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := agenttest.New(t, 3, agenttest.Setup(withAdd))
		c.WaitMembers(t)
		got, err := add.Call(t.Context(), c.Agent(1), tasks.On("n3"), pair{2, 40})
		if got != 42 || err != nil {
			t.Errorf("Call = %d, %v, want 42", got, err)
		}
		_, err = add.Call(t.Context(), c.Agent(1), tasks.On("n2"), pair{A: -1})
		var re *tasks.RunError
		if !errors.As(err, &re) || !errors.Is(err, tasks.ErrFailed) || re.Worker != "n2" || re.Text != "a is negative" {
			t.Errorf("Call = %v, want that it ran on n2 and failed with its error", err)
		}
	})
}

func TestFunctionTakesAndReturnsJSONFromTheAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := agenttest.New(t, 2, agenttest.Setup(withAdd))
		c.WaitMembers(t)
		run, err := c.Agent(1).Submit(t.Context(), submission(
			tasks.Task{Kind: tasks.Function, Name: "add", Args: []json.RawMessage{[]byte(`{"A":2,"B":3}`)}}, tasks.All()))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for r := range run.Results(t.Context()) {
			n++
			if v, err := r.JSONValue(); err != nil || string(v) != "5" {
				t.Errorf("%s returned %s, %v, want 5: %+v", r.Worker, v, err, r)
			}
		}
		if n != 2 {
			t.Errorf("%d results, want 2", n)
		}
	})
}

func TestFunctionLandsOnlyWhereItIsRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := agenttest.New(t, 3, agenttest.Setup(func(i int, a *agent.Agent) {
			if i == 2 {
				withAdd(i, a)
			}
		}))
		c.WaitMembers(t)
		task, err := add.Task(pair{1, 1})
		if err != nil {
			t.Fatal(err)
		}
		run, err := c.Agent(1).Submit(t.Context(), submission(task, tasks.All()))
		if err != nil {
			t.Fatal(err)
		}
		rs, _ := run.Wait(t.Context())
		if len(rs) != 1 || rs[0].Worker != "n2" {
			t.Errorf("ran on %v, want n2 alone", rs)
		}
	})
}

func TestPanicOfAFunctionIsThatAttemptsError(t *testing.T) {
	boom := tasks.NewFunc("boom", func(context.Context, int) (int, error) { panic("boom") })
	synctest.Test(t, func(t *testing.T) {
		c := agenttest.New(t, 2, agenttest.Setup(func(_ int, a *agent.Agent) { a.Handle(boom, add) }))
		c.WaitMembers(t)
		_, err := boom.Call(t.Context(), c.Agent(1), tasks.On("n2"), 1)
		var re *tasks.RunError
		if !errors.As(err, &re) || re.Code != tasks.Panic {
			t.Errorf("Call = %v, want a RunError with code panic", err)
		}
		if n, err := add.Call(t.Context(), c.Agent(1), tasks.On("n2"), pair{1, 1}); n != 2 || err != nil {
			t.Errorf("the next call = %d, %v, want 2: the agent lives", n, err)
		}
	})
}

func TestCallThatIsGivenUpStopsTheFunction(t *testing.T) {
	stopped := make(chan struct{})
	synctest.Test(t, func(t *testing.T) {
		stopped = make(chan struct{})
		hang := tasks.NewFunc("hang", func(ctx context.Context, _ int) (int, error) {
			<-ctx.Done()
			close(stopped)
			return 0, ctx.Err()
		})
		c := agenttest.New(t, 2, agenttest.Setup(func(_ int, a *agent.Agent) { a.Handle(hang) }))
		c.WaitMembers(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := hang.Call(ctx, c.Agent(1), tasks.On("n2"), 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Call = %v, want deadline exceeded", err)
		}
		<-stopped
	})
}

func TestCommandStreamsItsOutput(t *testing.T) {
	c := agenttest.New(t, 2)
	c.WaitMembers(t)
	s := submission(tasks.Task{Kind: tasks.Command, Shell: "echo out; echo err >&2; exit 3"}, tasks.On("n2"))
	run, f, err := c.Agent(1).SubmitFollowed(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]string{}
	for {
		e, err := f.Next(t.Context())
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if len(e.Output) > 0 {
			out[fmt.Sprint(e.Stream)] += string(e.Output)
		}
	}
	rs, _ := run.Wait(t.Context())
	if r := rs[0]; r.Exit != 3 || r.Code != tasks.Exit || string(r.Stdout) != "out\n" || string(r.Stderr) != "err\n" || len(out) != 2 {
		t.Errorf("result %+v, streamed %v; want exit 3, out and err", r, out)
	}
}

func TestCommandRunsAgainElsewhereWhenItsWorkerIsKilled(t *testing.T) {
	c := agenttest.New(t, 3, agenttest.Option(func(i int, cfg *agent.Config) {
		if i == 1 {
			cfg.Roles = []membership.Role{membership.RoleMaster}
		}
	}))
	c.WaitMembers(t)
	run, f, err := c.Agent(1).SubmitFollowed(t.Context(), submission(tasks.Task{Kind: tasks.Command, Shell: `if [ "$SCAGENT_ATTEMPT" = 1 ]; then sleep 60; fi; echo $SCAGENT_NODE`}, tasks.Any()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e, err := f.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var i int
	fmt.Sscanf(e.Worker, "n%d", &i)
	killed := time.Now()
	c.Kill(i)
	rs, err := run.Wait(t.Context())
	if r := rs[0]; err != nil || r.State != tasks.StateDone || r.Worker == e.Worker || strings.TrimSpace(string(r.Stdout)) != r.Worker || r.Attempt != 2 {
		t.Errorf("result %+v, %v; want attempt 2 done by another than %s", r, err, e.Worker)
	}
	t.Logf("ran elsewhere and ended %v after the kill", time.Since(killed))
}

func TestLargeContentsTravelByHash(t *testing.T) {
	c := agenttest.New(t, 2)
	c.WaitMembers(t)
	const size = 3 << 20
	hash, n, err := c.Agent(1).PutBlob(t.Context(), io.LimitReader(zeros{}, size))
	if err != nil || n != size {
		t.Fatalf("PutBlob = %d, %v", n, err)
	}
	task := tasks.Task{Kind: tasks.Command, Shell: `cat big - | tr '\0' x > sum/out; wc -c < big`, Outputs: []string{"sum"},
		Inputs: []tasks.Input{{Name: "big", Content: tasks.Content{Blob: hash, Size: size}}, {Name: "sum/keep", Content: tasks.Content{Inline: []byte("k")}}},
		Stdin:  &tasks.Content{Blob: hash, Size: size}}
	run, err := c.Agent(1).Submit(t.Context(), submission(task, tasks.On("n2")))
	if err != nil {
		t.Fatal(err)
	}
	rs, err := run.Wait(t.Context())
	if err != nil || rs[0].Err() != nil || strings.TrimSpace(string(rs[0].Stdout)) != fmt.Sprint(size) {
		t.Fatalf("result %+v, %v", rs, err)
	}
	i := slices.IndexFunc(rs[0].Outputs, func(o tasks.OutputFile) bool { return o.Name == "sum/out" })
	if i < 0 || rs[0].Outputs[i].Size != 2*size {
		t.Fatalf("outputs %+v, want sum/out of %d bytes", rs[0].Outputs, 2*size)
	}
	f, n, err := c.Agent(1).OpenBlob(rs[0].Outputs[i].Blob)
	if err != nil || n != 2*size {
		t.Fatalf("OpenBlob = %d, %v: the file is not here", n, err)
	}
	f.Close()
}

// What a worker has it is not sent again, however many tasks want it at once.
func TestAnInputIsFetchedOnce(t *testing.T) {
	for _, c := range []struct {
		name, then string
		size       int64
	}{
		{"small", "echo changed > big", 100_000}, // each has a copy of its own
		{"large", "", 5_100_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			size, then := c.size, c.then
			c := agenttest.Loopback(t, 2, agenttest.Option(func(i int, cfg *agent.Config) { cfg.Slots = 4 }))
			c.WaitMembers(t)
			hash, _, err := c.Agent(1).PutBlob(t.Context(), io.LimitReader(zeros{}, size))
			if err != nil {
				t.Fatal(err)
			}
			task := tasks.Task{Kind: tasks.Command, Shell: `cat big | tr '\0' x > out; sha256sum < big; ` + then, Outputs: []string{"out"},
				Inputs: []tasks.Input{{Name: "big", Mode: 0o666, Content: tasks.Content{Blob: hash, Size: size}}}}
			h := sha256.New()
			io.Copy(h, strings.NewReader(strings.Repeat("x", int(size))))
			want := fmt.Sprintf("%x", h.Sum(nil))
			for range 2 {
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						r, err := c.Agent(1).Call(t.Context(), task, tasks.On("n2"))
						if err != nil || !strings.HasPrefix(string(r.Stdout), hash) {
							t.Errorf("the task = %+v, %v; want an input of hash %s", r, err, hash)
						} else if len(r.Outputs) != 1 || r.Outputs[0].Blob != want {
							t.Errorf("outputs %+v, want one of hash %s", r.Outputs, want)
						}
					})
				}
				wg.Wait()
			}
			if n := c.Agent(2).BlobStats().Fetched; n != 1 {
				t.Errorf("the worker fetched the input %d times, want once", n)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestDataSetAtRunTimeIsUsedByQueriesElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := agenttest.New(t, 3)
		c.WaitMembers(t)
		data := fmt.Sprintf(`{"pad":%q,"gpu":"a100"}`, strings.Repeat("x", 100<<10))
		start := time.Now()
		if err := c.Agent(2).SetData(json.RawMessage(data)); err != nil {
			t.Fatal(err)
		}
		task := tasks.Task{Kind: tasks.Function, Name: "scagent.noop"}
		run, err := c.Agent(3).Submit(t.Context(), submission(task, tasks.Where(`data.gpu == "a100"`)))
		if err != nil {
			t.Fatal(err)
		}
		rs, _ := run.Wait(t.Context())
		if d := time.Since(start); len(rs) != 1 || rs[0].Worker != "n2" || d > 3*time.Second {
			t.Errorf("ran on %v after %v, want n2 within 3s", rs, d)
		}
		before := c.Agent(2).Data()
		err = c.Agent(2).SetData(json.RawMessage(fmt.Sprintf("%q", strings.Repeat("x", 1<<20))))
		if !errors.Is(err, membership.ErrDocumentTooLarge) || !slices.Equal(before, c.Agent(2).Data()) {
			t.Errorf("SetData of 1 MiB = %v, want too large, and nothing changed", err)
		}
	})
}

func TestResetBetweenAgentsIsNotNoticedByACommand(t *testing.T) {
	c := agenttest.New(t, 2)
	c.WaitMembers(t)
	task := tasks.Task{Kind: tasks.Command, Shell: `i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo line $i; sleep 0.02; done`}
	run, f, err := c.Agent(1).SubmitFollowed(t.Context(), submission(task, tasks.On("n2")))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got strings.Builder
	for n := 0; ; n++ {
		e, err := f.Next(t.Context())
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		got.Write(e.Output)
		if n%10 == 5 {
			c.Reset(1, 2)
		}
	}
	var want strings.Builder
	for i := range 50 {
		fmt.Fprintf(&want, "line %d\n", i+1)
	}
	rs, _ := run.Wait(t.Context())
	if got.String() != want.String() || rs[0].Attempt != 1 || rs[0].State != tasks.StateDone {
		t.Errorf("got %q, %+v; want 50 lines once, from one attempt", got.String(), rs[0])
	}
}

func TestSixtyFourAgentsSeeEachOther(t *testing.T) {
	rounds := 10
	if raced {
		rounds = 2 // the detector makes each take ten times as long
	}
	for round := range rounds {
		synctest.Test(t, func(t *testing.T) {
			c := agenttest.New(t, 64)
			start := time.Now()
			c.WaitMembers(t)
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("round %d: all see all after %v, want within 3s of the last start", round, d)
			} else {
				t.Logf("round %d: all see all after %v", round, d)
			}
			if round > 0 {
				return
			}
			var ran atomic.Int32
			time.Sleep(5 * time.Second) // of the bubble: an agent that has just joined announces nothing
			start = time.Now()
			run, err := c.Agent(64).Submit(t.Context(), submission(tasks.Task{Kind: tasks.Function, Name: "scagent.noop"}, tasks.Where(`facts.cpus >= 1 and name matches "^n[1-9]$"`)))
			if err != nil {
				t.Fatal(err)
			}
			for r := range run.Results(t.Context()) {
				if r.State == tasks.StateDone {
					ran.Add(1)
				}
			}
			if ran.Load() != 9 {
				t.Errorf("ran on %d, want the 9 with a name of one digit", ran.Load())
			}
			if d := time.Since(start); d > 20*time.Millisecond {
				t.Errorf("a query over 64 and its 9 answers took %v without any links, want milliseconds", d)
			}
		})
	}
}

func TestCloseMayBeCalledTwiceAndBeforeStart(t *testing.T) {
	cfg := agent.DefaultConfig()
	cfg.Temporary, cfg.Multicast, cfg.Bind = true, false, "127.0.0.1:0"
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Errorf("Close = %v", err)
	}
	if err := a.Start(t.Context()); err == nil {
		t.Error("Start after Close succeeded")
	}
	if _, err := a.Submit(t.Context(), submission(tasks.Task{Kind: tasks.Command, Argv: []string{"true"}}, tasks.Any())); !errors.Is(err, agent.ErrClosed) {
		t.Errorf("Submit after Close = %v, want ErrClosed", err)
	}
}

func TestAnnouncedWorkersDialTheMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := agenttest.New(t, 6)
		c.WaitMembers(t)
		time.Sleep(5 * time.Second) // of the bubble: an agent that has just joined announces nothing
		start := time.Now()
		run, err := c.Agent(1).Submit(t.Context(), submission(tasks.Task{Kind: tasks.Function, Name: "scagent.noop"}, tasks.All()))
		if err != nil {
			t.Fatal(err)
		}
		rs, _ := run.Wait(t.Context())
		if d := time.Since(start); len(rs) != 6 || d > 50*time.Millisecond {
			t.Errorf("%d results after %v, want 6 long before anybody is dialled from here", len(rs), d)
		}
		if n := c.Agent(1).Info().Counters; n["links_accepted"] != 5 || n["links_dialed"] != 0 { // the link to itself is neither
			t.Errorf("%d links were accepted and %d dialled, want 5 and 0", n["links_accepted"], n["links_dialed"])
		}
	})
}

func TestHostThatOnlyAnnouncesItselfIsExternal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := agenttest.New(t, 2, agenttest.Option(func(i int, cfg *agent.Config) {
			if i == 1 {
				cfg.Roles = []membership.Role{membership.RoleTracker, membership.RoleMaster}
			}
		}))
		c.WaitMembers(t)
		dial := c.Dialer(1, 2)
		client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}
		defer client.CloseIdleConnections()
		res, err := client.Post("http://tracker/", "application/json", strings.NewReader(`{"services":{"s1":{"id":"s1","name":"worker","data":{"port":9},"available":true}}}`))
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("POST / = %v, %v", res, err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || !strings.Contains(string(body), `"worker:`+c.Agent(2).Self().ID) {
			t.Errorf("the tracker answered %s, %v; want our worker in it", body, err)
		}
		external := func() (n int) {
			for _, m := range c.Agent(1).APIMembers() {
				if m.Status == "external" && m.ID == "s1" {
					n++
				}
			}
			return n
		}
		if external() != 1 {
			t.Errorf("members = %+v, want s1 as external", c.Agent(1).APIMembers())
		}
		for _, m := range c.Agent(1).APIMembers() {
			if !strings.HasPrefix(string(m.Data), "{") || !strings.HasPrefix(string(m.Facts), "{") {
				t.Errorf("%s, which is %s, has data %q and facts %q; want objects", m.Name, m.Status, m.Data, m.Facts)
			}
		}
		run, err := c.Agent(1).Submit(t.Context(), submission(tasks.Task{Kind: tasks.Function, Name: "scagent.noop"}, tasks.All()))
		if err != nil {
			t.Fatal(err)
		}
		if rs, _ := run.Wait(t.Context()); len(rs) != 1 || rs[0].Worker != "n2" {
			t.Errorf("a task for all ran on %+v, want n2 alone", rs)
		}
		time.Sleep(8 * time.Second) // of the bubble
		if external() != 0 {
			t.Error("s1 is still listed after 8s of silence")
		}
	})
}

func TestTaskObjectsOfTheOriginalRunUnchanged(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "exFile.sh"), []byte("#!/bin/sh\necho out $2; echo err >&2; exit 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := agenttest.New(t, 2)
	c.WaitMembers(t)
	for _, o := range []struct{ object, state, stdout, value string }{
		{`{"type":"file","fileName":"exFile.sh","args":["--port",9997]}`, "failed", "out 9997\n", "null"},
		{`{"type":"function","func":"function(a,b){return a+b}","args":[1,2]}`, "done", "", "3"},
	} {
		task, err := original.Task([]byte(o.object), original.InDir(dir))
		if err != nil {
			t.Fatal(err)
		}
		run, err := c.Agent(1).Submit(t.Context(), submission(task, tasks.On("n2")))
		if err != nil {
			t.Fatal(err)
		}
		rs, err := run.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if v, _ := rs[0].JSONValue(); string(rs[0].State) != o.state || string(rs[0].Stdout) != o.stdout || string(v) != o.value {
			t.Errorf("%s: %s, %q, %s; want %s, %q, %s", o.object, rs[0].State, rs[0].Stdout, v, o.state, o.stdout, o.value)
		}
	}
}
