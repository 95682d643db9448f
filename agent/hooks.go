package agent

import (
	"context"
	"fmt"
	"os"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/agent/hook"
	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/tasks/runner/supervisor"
)

// hooks are the commands of Config.Hooks; nil parts without any.
type hooks struct {
	*hook.Hooks
	// supervisor sees to it that they end with the agent. It is not the tasks': those
	// may be of another user, and not every agent has any.
	supervisor *supervisor.Supervisor
}

// openHooks runs the hooks for all that has happened since the agent began to start,
// and from now on. It comes last: they can use the API.
func (a *Agent) openHooks() (err error) {
	if len(a.cfg.Hooks) == 0 {
		return nil
	}
	sc := supervisor.Config{Root: a.home.Path("hooks"), Mark: hook.Mark, Helper: a.cfg.Network == port.Machine, Logger: a.cfg.Logger}
	if a.hooks.supervisor, err = supervisor.Open(sc); err != nil {
		return fmt.Errorf("hooks: %w", err)
	}
	hc := hook.DefaultConfig()
	hc.Hooks, hc.Timeout, hc.Logger = a.cfg.Hooks, a.cfg.HookTimeout, a.cfg.Logger
	hc.Subscribe = func(p bus.Pattern) hook.Source { return a.feed.Subscribe(0, p) }
	hc.Environ, hc.Env = os.Environ(), a.hookEnv()
	hc.Mark, hc.Nets = hook.Mark(a.hooks.supervisor.Dir()), a.hooks.supervisor.Nets()
	h, err := hook.New(hc)
	if err != nil {
		return err
	}
	h.Start()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hooks.Hooks = h // others ask already
	return nil
}

// hookEnv tells a hook which agent runs it, so that the scagent that it calls finds
// that one.
func (a *Agent) hookEnv() []string {
	env := []string{"SCAGENT_NODE=" + a.name, "SCAGENT_NODE_ID=" + a.id.id}
	switch {
	case a.home.Socket != "":
		env = append(env, "SCAGENT_ADDR=unix://"+a.home.Socket)
	case a.local.url != "":
		env = append(env, "SCAGENT_ADDR="+a.local.url, "SCAGENT_TOKEN_FILE="+a.local.tokenFile)
	}
	return env
}

// runningHooks returns the hooks; nil where there are none, and before they run.
func (a *Agent) runningHooks() *hook.Hooks {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hooks.Hooks
}

// closeHooks ends the hooks, and what they have started.
func (a *Agent) closeHooks() error {
	if h := a.runningHooks(); h != nil {
		h.Close()
	}
	if a.hooks.supervisor != nil {
		return a.hooks.supervisor.Close()
	}
	return nil
}

// answerHook has a request answered by a hook. It reports false when there is none
// for it.
func (a *Agent) answerHook(ctx context.Context, e api.Event) (bus.Data, bool, error) {
	h := a.runningHooks()
	if h == nil {
		return bus.Data{}, false, nil
	}
	return h.Answer(ctx, e)
}
