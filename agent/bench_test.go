package agent_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/policy"
)

// benched runs a bench over an agent's API.
func benched(t *testing.T, a *agent.Agent, r api.BenchRequest) ([]api.Figure, error) {
	t.Helper()
	c := client.ForHandler(a.APIHandler())
	defer c.Close()
	var fs []api.Figure
	err := c.Bench(t.Context(), r, func(f api.Figure) error {
		fs = append(fs, f)
		return nil
	})
	return fs, err
}

func metrics(fs []api.Figure) []string {
	var ms []string
	for _, f := range fs {
		ms = append(ms, f.Metric)
	}
	return ms
}

func TestBenchMeasuresAllAndLeavesNothing(t *testing.T) {
	const size = 1 << 20 // more than what travels inside a task
	c := agenttest.New(t, 2)
	c.WaitMembers(t)
	fs, err := benched(t, c.Agent(1), api.BenchRequest{N: 20, Inflight: 5, Size: size})
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		metric, unit string
		n            int // 0: any
	}{
		{"noop_latency_p50", "us", 20}, {"noop_latency_p99", "us", 20}, {"noop_throughput", "tasks/s", 20}, {"command_throughput", "tasks/s", 20},
		{"payload_in", "MB/s", 0}, {"payload_out", "MB/s", 0}, {"fanout_p50", "ms", 20},
	}
	for i, f := range fs {
		if len(fs) != len(want) || f.Metric != want[i].metric || f.Unit != want[i].unit || f.N < 1 || want[i].n > 0 && f.N != want[i].n || f.Value <= 0 {
			t.Errorf("figure %d of %d is %+v, want %v", i, len(fs), f, want)
		}
	}
	if len(fs) > 1 && fs[0].Value > fs[1].Value {
		t.Errorf("p50 is %v and p99 %v", fs[0].Value, fs[1].Value)
	}
	if ts, s := c.Agent(1).Tasks(tasks.ID{}, nil, 100), c.Agent(1).BlobStats(); len(ts) != 0 || s.Blobs != 0 || c.Agent(1).Info().Counters["tasks_open"] != 0 {
		t.Errorf("a bench leaves the tasks %v, and the blobs %+v; want none", ts, s)
	}
	// The payloads were on the other node, not here, where there is no way; inputs stay there.
	if s := c.Agent(2).BlobStats(); s.Bytes < size || s.Held != 0 {
		t.Errorf("the other node has had the blobs %+v, want %d bytes or more, and none held", s, size)
	}
}

func TestBenchOfSomeGroupsOnSomeWorkers(t *testing.T) {
	// Only n2 may be sent tasks at all: that the others are not is seen by its being all that fits.
	c := agenttest.New(t, 3, agenttest.Option(func(i int, cfg *agent.Config) {
		if i != 2 {
			cfg.Policy = policy.Policy{Kinds: []tasks.Kind{tasks.File}}
		}
	}))
	c.WaitMembers(t)
	a := c.Agent(1)
	before := a.Info().Counters["tasks_submitted"]
	fs, err := benched(t, a, api.BenchRequest{Only: []string{api.BenchFanout}, N: 7, Where: `name == "n2"`})
	if err != nil || !slices.Equal(metrics(fs), []string{"fanout_p50"}) || fs[0].N != 7 {
		t.Errorf("fanout on n2 = %+v, %v; want its figure of 7 runs", fs, err)
	}
	// Each run has one task, and three are to warm up.
	if n := a.Info().Counters["tasks_submitted"] - before; n != 10 {
		t.Errorf("seven runs on one of three workers were %d tasks, want 10", n)
	}
	fs, err = benched(t, a, api.BenchRequest{Only: []string{api.BenchThroughput, api.BenchLatency}, N: 5})
	if err != nil || !slices.Equal(metrics(fs), []string{"noop_latency_p50", "noop_latency_p99", "noop_throughput"}) {
		t.Errorf("throughput and latency = %+v, %v", fs, err)
	}
}

func TestBenchWithoutANumberEndsByItself(t *testing.T) {
	c := agenttest.New(t, 1)
	c.WaitMembers(t)
	start := time.Now()
	// A thousand commands at once take longer than there is: the rest is cancelled.
	fs, err := benched(t, c.Agent(1), api.BenchRequest{Only: []string{api.BenchCommand}, Inflight: 50_000})
	if err != nil || len(fs) != 1 || fs[0].N < 1 || fs[0].N >= 50_000 || fs[0].Value <= 0 {
		t.Fatalf("command_throughput = %+v, %v", fs, err)
	}
	if n := c.Agent(1).Info().Counters["tasks_open"]; n != 0 || time.Since(start) > time.Minute {
		t.Errorf("after %v, %d tasks are open; want none", time.Since(start), n)
	}
}

func TestBenchThatCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // for which there may be a wait
		c := agenttest.New(t, 2, agenttest.Option(func(i int, cfg *agent.Config) {
			cfg.Policy = policy.Policy{Kinds: []tasks.Kind{tasks.Function}}
			if i == 2 {
				cfg.Roles = []membership.Role{membership.RoleWorker}
			}
		}))
		c.WaitMembers(t)
		for _, one := range []struct {
			name    string
			agent   int
			request api.BenchRequest
			code    string
			want    []string // in the text
		}{
			{"unknown group", 1, api.BenchRequest{Only: []string{"speed"}}, api.CodeBadRequest, []string{`only has "speed"`, "latency, throughput, command, payload, fanout"}},
			{"few tasks", 1, api.BenchRequest{N: -1}, api.CodeBadRequest, []string{"n is -1; want 1 to 1000000"}},
			{"many tasks", 1, api.BenchRequest{N: 1_000_001}, api.CodeBadRequest, []string{"n is 1000001"}},
			{"many at once", 1, api.BenchRequest{Inflight: 100_001}, api.CodeBadRequest, []string{"inflight is 100001; want 1 to 100000"}},
			{"none at once", 1, api.BenchRequest{Inflight: -1}, api.CodeBadRequest, []string{"inflight is -1"}},
			{"large", 1, api.BenchRequest{Size: 16<<30 + 1}, api.CodeBadRequest, []string{"size is 17179869185; want 1 to 17179869184"}},
			{"smaller than nothing", 1, api.BenchRequest{Size: -1}, api.CodeBadRequest, []string{"size is -1"}},
			{"bad expression", 1, api.BenchRequest{Where: "(("}, api.CodeBadRequest, []string{"where: query: column 2"}},
			{"no master", 2, api.BenchRequest{}, "not_master", []string{"-role worker,master"}},
			{"nobody matches", 1, api.BenchRequest{Where: `name == "n9"`}, api.CodeNoMatch, []string{"0 of 2 workers match", "n9"}},
			{"commands are not run", 1, api.BenchRequest{}, api.CodeNoMatch, []string{"2 are without kind command; ask only for latency, throughput and fanout"}},
			{"only commands", 1, api.BenchRequest{Only: []string{api.BenchPayload}}, api.CodeNoMatch, []string{"2 are without kind command"}},
		} {
			fs, err := benched(t, c.Agent(one.agent), one.request)
			var e *api.Error
			if len(fs) > 0 || !errors.As(err, &e) || e.Code != one.code || slices.ContainsFunc(one.want, func(w string) bool { return !strings.Contains(e.Message, w) }) || strings.Contains(e.Message, "\n") {
				t.Errorf("%s: %v, %#v; want %s and %q", one.name, fs, err, one.code, one.want)
			}
		}
	})
}

func TestBenchWithoutWorkersSaysSoSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := agenttest.New(t, 1, agenttest.Option(func(_ int, cfg *agent.Config) { cfg.Roles = []membership.Role{membership.RoleMaster} }))
		start := time.Now()
		err := c.Agent(1).Bench(t.Context(), api.BenchRequest{}, func(api.Figure) error { return nil })
		if !errors.Is(err, tasks.ErrNoMatch) || !strings.Contains(err.Error(), "there are no workers; start `scagent agent`") || time.Since(start) > 5*time.Second {
			t.Errorf("Bench = %v after %v", err, time.Since(start))
		}
	})
}

func TestBenchEndsWithTheErrorOfATask(t *testing.T) {
	c := agenttest.New(t, 1, agenttest.Option(func(_ int, cfg *agent.Config) {
		cfg.Policy = policy.Policy{Limits: policy.Limits{FileBytes: 1 << 20}}
	}))
	c.WaitMembers(t)
	fs, err := benched(t, c.Agent(1), api.BenchRequest{Only: []string{api.BenchPayload, api.BenchFanout}, Size: 4 << 20})
	var e *api.Error
	if !slices.Equal(metrics(fs), []string{"payload_in"}) || !errors.As(err, &e) || e.Code != api.CodeTaskFailed || !strings.HasPrefix(e.Message, "payload: task ") {
		t.Errorf("payloads that a worker may not write: %+v, %v; want the first figure, then how the task failed", fs, err)
	}
}

func TestBenchIsOneAtATimeAndEndsWhenTheClientHangsUp(t *testing.T) {
	c := agenttest.New(t, 2)
	c.WaitMembers(t)
	a := c.Agent(1)
	small := api.BenchRequest{Only: []string{api.BenchFanout}, N: 1}
	for _, group := range api.BenchGroups {
		cl := client.ForHandler(a.APIHandler())
		ctx, hangUp := context.WithCancel(t.Context())
		submitted := a.Info().Counters["tasks_submitted"]
		over := make(chan error, 1)
		go func() {
			over <- cl.Bench(ctx, api.BenchRequest{Only: []string{group}, N: 1_000_000, Size: 1 << 30}, func(api.Figure) error { return nil })
		}()
		await(t, group+" to begin", func() bool {
			// A payload is broken off while it is made.
			return a.Benching() && (group == api.BenchPayload || a.Info().Counters["tasks_submitted"] > submitted)
		})
		if _, err := benched(t, a, small); !tooMany(err) {
			t.Errorf("a second bench beside that of %s = %v, want that one is under way", group, err)
		}
		hangUp()
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Errorf("%s was hung up on: %v", group, err)
		}
		await(t, group+" to end", func() bool { return !a.Benching() && a.Info().Counters["tasks_open"] == 0 })
		cl.Close()
	}
	if fs, err := benched(t, a, small); err != nil || len(fs) != 1 {
		t.Errorf("a bench after all those = %v, %v", fs, err)
	}
	if s := a.BlobStats(); s.Blobs != 0 {
		t.Errorf("what was broken off leaves the blobs %+v", s)
	}
}

func tooMany(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == api.CodeTooMany
}

// await waits until something is so, which nothing tells of.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}
