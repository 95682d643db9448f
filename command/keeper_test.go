package command

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/api"
)

// fakeAgent is a runningAgent that writes down what is asked of it, and when.
type fakeAgent struct {
	start   time.Time
	busy    time.Duration // how long its tasks run on
	done    chan struct{}
	mu      sync.Mutex
	members []api.Member
	calls   []string
	fail    error // of SetData
}

func newFakeAgent() *fakeAgent {
	return &fakeAgent{start: time.Now(), done: make(chan struct{}), members: []api.Member{{Name: "n1", Self: true, Status: "alive"}}}
}

func (a *fakeAgent) call(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, what+"@"+time.Since(a.start).Round(time.Second).String())
}

func (a *fakeAgent) Info() api.Info {
	return api.Info{Name: "n1", Addr: "10.0.0.1:44201", Roles: []string{"worker", "master"}, Trust: "anyone may run anything as nobody", Socket: "/run/1.sock"}
}
func (a *fakeAgent) APIMembers() []api.Member { return a.members }
func (a *fakeAgent) Done() <-chan struct{}    { return a.done }
func (a *fakeAgent) Leave(context.Context) error {
	a.call("leave")
	return nil
}
func (a *fakeAgent) Close() error {
	a.call("close")
	return nil
}
func (a *fakeAgent) SetData(d json.RawMessage) error {
	a.call("data " + string(d))
	return a.fail
}
func (a *fakeAgent) Drain(ctx context.Context) error {
	a.call("drain")
	select {
	case <-time.After(a.busy):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// keepIn runs a keeper in a bubble while script runs beside it, and returns what
// was asked of the agent and what was said.
func keepIn(t *testing.T, a *fakeAgent, reload func() (*agentOptions, error), script func(signals chan<- os.Signal)) (calls, said string) {
	t.Helper()
	c := newConsole("")
	c.signals = make(chan os.Signal, 4)
	logger, filter := newLogger(&c.err, "INFO")
	logger.SetFlags(0)
	o, err := parseAgent([]string{"-data", "a=1"}, env())
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{env: &c.Env, agent: a, logger: logger, filter: filter, options: o, reload: reload}
	go script(c.signals)
	if err := k.keep(c.signals); err != nil {
		t.Errorf("keep = %v", err)
	}
	return strings.Join(a.calls, ", "), c.err.String()
}

const upLine = "scagent: agent \"n1\" is up at 10.0.0.1:44201 as worker, master; anyone may run anything as nobody; API at unix:///run/1.sock\n"

func TestAgentLeavesOnASignal(t *testing.T) {
	for _, c := range []struct {
		name   string
		busy   time.Duration
		second time.Duration // after the first signal; 0: none
		want   string
	}{
		{"idle", 0, 0, "drain@1s, leave@1s, close@1s"},
		{"a task ends in time", 5 * time.Second, 0, "drain@1s, leave@6s, close@6s"},
		{"a task does not", time.Hour, 0, "drain@1s, leave@11s, close@11s"},
		{"a second signal", time.Hour, 2 * time.Second, "drain@1s, leave@3s, close@3s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newFakeAgent()
				a.busy = c.busy
				calls, said := keepIn(t, a, nil, func(signals chan<- os.Signal) {
					time.Sleep(time.Second)
					signals <- syscall.SIGTERM
					if c.second > 0 {
						time.Sleep(c.second)
						signals <- os.Interrupt
					}
				})
				if calls != c.want || !strings.HasPrefix(said, upLine) {
					t.Errorf("calls %s, want %s\nsaid %s", calls, c.want, said)
				}
			})
		})
	}
}

func TestAgentEndsWhenAClientLetItLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeAgent()
		calls, _ := keepIn(t, a, nil, func(chan<- os.Signal) { close(a.done) })
		if calls != "close@0s" {
			t.Errorf("calls %s, want close@0s", calls)
		}
	})
}

func TestAgentThatIsAloneSaysWhatToTry(t *testing.T) {
	for _, alone := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			a := newFakeAgent()
			a.members = append(a.members, api.Member{Status: "left"}, api.Member{Status: "failed"})
			if !alone {
				a.members = append(a.members, api.Member{Status: "alive"})
			}
			_, said := keepIn(t, a, nil, func(signals chan<- os.Signal) {
				time.Sleep(time.Minute)
				signals <- os.Interrupt
			})
			if n := strings.Count(said, "no other member found in 10s"); (n == 1) != alone || n > 1 {
				t.Errorf("alone %v: warned %d times in a minute: %s", alone, n, said)
			}
		})
	}
}

func TestHangupReadsTheConfigurationAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeAgent()
		times := 0
		reload := func() (*agentOptions, error) {
			times++
			switch times {
			case 1:
				return nil, errors.New("c.json:1: unknown key")
			case 2: // nothing new
				return parseAgent([]string{"-data", "a=1"}, env())
			case 3:
				return parseAgent([]string{"-data", "a=2", "-log-level", "ERR"}, env())
			}
			return parseAgent(nil, env())
		}
		calls, said := keepIn(t, a, reload, func(signals chan<- os.Signal) {
			for range 4 {
				time.Sleep(time.Second)
				signals <- syscall.SIGHUP
			}
			time.Sleep(time.Second)
			signals <- syscall.SIGTERM
		})
		if want := `data {"a":2}@3s, data null@4s, drain@5s, leave@5s, close@5s`; calls != want {
			t.Errorf("calls %s, want %s", calls, want)
		}
		if !strings.Contains(said, `configuration not read again, the old one stays: err="c.json:1: unknown key"`) || strings.Count(said, "[INFO]") != 2 {
			t.Errorf("said %s; want the error once, and INFO twice: at ERR and above there is none", said)
		}
	})
}

func TestAgentSaysHowItsAPIIsReached(t *testing.T) {
	up := api.Info{Name: "n1", Addr: "10.0.0.1:44201", Roles: []string{"worker"}, Trust: "who may"}
	for _, c := range []struct {
		change func(*api.Info)
		want   string
	}{
		{func(*api.Info) {}, "no socket"},
		{func(i *api.Info) { i.Socket = "/s" }, "API at unix:///s"},
		{func(i *api.Info) { i.Socket, i.SocketGroup = "/s", "ops" }, `members of the group "ops" may submit tasks; API at unix:///s`},
		{func(i *api.Info) { i.Socket, i.HTTP, i.TokenFile = "/s", "http://127.0.0.1:1", "/t" }, "HTTP at http://127.0.0.1:1 with the token in /t; API at unix:///s"},
	} {
		i := up
		c.change(&i)
		if got, want := formatUp(&i), `scagent: agent "n1" is up at 10.0.0.1:44201 as worker; who may; `+c.want; got != want {
			t.Errorf("formatUp = %s, want %s", got, want)
		}
	}
}
