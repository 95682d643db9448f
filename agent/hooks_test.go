//go:build linux

package agent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/hook"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
)

// withHooks gives the first agent hooks, in whose commands $D is a directory.
func withHooks(t *testing.T, dir string, lines ...string) agenttest.Option {
	t.Helper()
	var hs []hook.Hook
	for _, line := range lines {
		h, err := hook.Parse(strings.ReplaceAll(line, "$D", dir))
		if err != nil {
			t.Fatal(err)
		}
		hs = append(hs, h)
	}
	return func(i int, cfg *agent.Config) {
		if i == 1 {
			cfg.Hooks = hs
		}
	}
}

// awaitLine waits until a file has a line.
func awaitLine(t *testing.T, path, line string) {
	t.Helper()
	var text []byte
	for end := time.Now().Add(20 * time.Second); !slices.Contains(strings.Split(string(text), "\n"), line); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s has %q, want the line %q", path, text, line)
		}
		text, _ = os.ReadFile(path)
	}
}

func TestHooksRunWhenMembersAndTasksChange(t *testing.T) {
	dir := t.TempDir()
	c := agenttest.Loopback(t, 1, withHooks(t, dir,
		`workerAvailable=echo "$SCAGENT_MEMBER_NAME seen by $SCAGENT_NODE $SCAGENT_NODE_ID" >>$D/members`,
		`workerUnavailable=echo "$SCAGENT_MEMBER_NAME" >>$D/gone`,
		`task=echo "$SCAGENT_TASK_STATE $SCAGENT_TASK_WORKER $SCAGENT_TASK_KIND $SCAGENT_TASK_RUN_ID" >>$D/tasks; cat >>$D/json`))
	n1 := c.Agent(1)
	// What happened while the agent started is not missed.
	awaitLine(t, dir+"/members", "n1 seen by n1 "+n1.Self().ID)
	c.Add(t)
	c.WaitMembers(t)
	awaitLine(t, dir+"/members", "n2 seen by n1 "+n1.Self().ID)
	run, err := n1.Submit(t.Context(), submission(tasks.Task{Kind: tasks.Command, Argv: []string{"true"}}, tasks.On("n2")))
	if err != nil {
		t.Fatal(err)
	}
	awaitLine(t, dir+"/tasks", "done n2 command "+run.ID().String())
	var e api.Event
	b, err := os.ReadFile(dir + "/json")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if err := json.Unmarshal([]byte(line), &e); err != nil || e.Event != "task" || e.Task.Run != run.ID() {
		t.Errorf("the command read %q, %v, want an event of the run", line, err)
	}
	if err := c.Agent(2).Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, dir+"/gone", "n2")
	if n := n1.Info().Counters["hook_runs"]; n < 4 {
		t.Errorf("info counts %d runs, want at least 4", n)
	}
}

func TestAHookAnswersRequests(t *testing.T) {
	c := agenttest.Loopback(t, 2, withHooks(t, t.TempDir(), `build.*=echo "$SCAGENT_NODE $SCAGENT_EVENT $SCAGENT_EVENT_DATA"`))
	e := api.Event{Event: "build.state", From: "n2", FromID: c.Agent(2).Self().ID, Request: true}
	d, ok, err := c.Agent(1).AnswerHook(t.Context(), e)
	if b, _ := json.Marshal(d); !ok || err != nil || string(b) != `"n1 build.state "` {
		t.Errorf("the answer is %s, %v, %v", b, ok, err)
	}
	e.Event = "other"
	for i := 1; i <= 2; i++ {
		if _, ok, err := c.Agent(i).AnswerHook(t.Context(), e); ok || err != nil {
			t.Errorf("n%d without such a hook answers: %v, %v", i, ok, err)
		}
	}
}

func TestHooksEndWithTheirAgent(t *testing.T) {
	dir := t.TempDir()
	marker := fmt.Sprintf("65432.%07d", os.Getpid())
	// An agent that runs no tasks has hooks too.
	c := agenttest.Loopback(t, 1, withHooks(t, dir, `**=(setsid sleep `+marker+` &) ; echo up >>$D/up; exec sleep `+marker),
		agenttest.Option(func(_ int, cfg *agent.Config) {
			cfg.Roles, cfg.StateDir, cfg.Temporary = []membership.Role{membership.RoleMaster}, dir+"/state", false
		}))
	awaitLine(t, dir+"/up", "up")
	if err := c.Agent(1).Close(); err != nil {
		t.Error(err)
	}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), marker) {
			t.Errorf("%q is left", b)
		}
	}
	if left, err := os.ReadDir(dir + "/state/hooks"); err != nil || len(left) > 0 {
		t.Errorf("left in the state directory: %v, %v", left, err)
	}
	if _, ok, err := c.Agent(1).AnswerHook(t.Context(), api.Event{Event: "a", Request: true}); !ok || err == nil {
		t.Errorf("a closed agent answers: %v, %v", ok, err)
	}
}

func TestHooksAreChecked(t *testing.T) {
	for want, change := range map[string]func(*agent.Config){
		`agent: hook "a*=x": not the name of an event`: func(c *agent.Config) { c.Hooks = []hook.Hook{{Pattern: "a*", Command: "x"}} },
		`agent: HookTimeout is 0s; want above 0`:       func(c *agent.Config) { c.HookTimeout = 0 },
	} {
		cfg := agent.DefaultConfig()
		change(&cfg)
		if _, err := agent.New(cfg); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("New = %v, want %q", err, want)
		}
	}
}

// A request that comes over the bus is answered by the program before its hooks, and
// by them where it does not.
func TestAHookAnswersRequestsOfOtherNodes(t *testing.T) {
	c := agenttest.Loopback(t, 2, agenttest.Option(func(i int, cfg *agent.Config) {
		if i == 2 {
			cfg.Hooks = []hook.Hook{{Pattern: "ask.*", Command: `echo "{\"from\":\"$SCAGENT_EVENT_FROM\",\"data\":$SCAGENT_EVENT_DATA}"`}}
		}
	}), agenttest.Setup(func(i int, a *agent.Agent) {
		a.Answer("ask.go", func(context.Context, agent.Event) (any, error) { return "go", nil })
	}))
	c.WaitMembers(t)
	for name, want := range map[string]string{"ask.hook": `{"from":"n1","data":7}`, "ask.go": `"go"`} {
		replies, err := c.Agent(1).Request(t.Context(), tasks.On("n2"), name, 7)
		if err != nil {
			t.Fatal(err)
		}
		for r := range replies {
			var got json.RawMessage
			if v := any(nil); r.Err == nil {
				if err := r.Decode(&v); err != nil {
					t.Fatal(err)
				}
				got, _ = json.Marshal(v)
			}
			if !jsonEqual(got, want) {
				t.Errorf("%s: n2 replies %s, %v; want %s", name, got, r.Err, want)
			}
		}
	}
}

func jsonEqual(got []byte, want string) bool {
	var a, b any
	return json.Unmarshal(got, &a) == nil && json.Unmarshal([]byte(want), &b) == nil && reflect.DeepEqual(a, b)
}
