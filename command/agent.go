package command

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/logutils"
	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/membership"
)

// aloneAfter is how long an agent waits for others before it says what to try.
const aloneAfter = 10 * time.Second

// AgentCommand runs an agent in the foreground.
type AgentCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *AgentCommand) Synopsis() string { return "run an agent in the foreground" }

// Help says how the command is called.
func (c *AgentCommand) Help() string {
	return manual{
		name: "agent", usage: []string{"[options]"},
		about: `
Runs an agent: it finds the others of its cluster, runs tasks of theirs, and submits tasks to them.
Each option -a-b can be given as SCAGENT_A_B in the environment too, or in a file, see -config.
SIGINT or SIGTERM lets running tasks end, leaves the pool and exits; a second one exits at once.
SIGHUP reads the configuration again.`,
		flags: agentFlags(&agentOptions{}), exits: "0 told to stop, 1 failed, 2 called wrongly",
		example: "scagent agent\nscagent agent -role worker -join 10.0.0.5 -data gpu=a100",
	}.String()
}

// Run runs the agent until it is told to stop.
func (c *AgentCommand) Run(args []string) int {
	o, err := parseAgent(args, c.env.Getenv)
	if err != nil {
		return c.env.usage("agent", c.Help(), err)
	}
	signals, stop := c.env.Signals(true)
	defer stop()
	logger, filter := newLogger(c.env.Stderr, o.logLevel)
	cfg, err := agentConfig(o, logger, c.env.Getenv)
	if err != nil {
		return c.env.fail(err)
	}
	agent.TuneHeap()
	a, err := agent.New(cfg)
	if err != nil {
		return c.env.fail(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := startUnless(ctx, cancel, a, signals); err != nil {
		if ctx.Err() != nil {
			return exitOK // it was told to stop before it was up
		}
		return c.env.fail(err)
	}
	debug.FreeOSMemory() // what reading the journal took would stay for minutes
	k := &keeper{env: c.env, agent: a, logger: logger, filter: filter, options: o,
		reload: func() (*agentOptions, error) { return parseAgent(args, c.env.Getenv) }}
	if err := k.keep(signals); err != nil {
		return c.env.fail(err)
	}
	return exitOK
}

// startUnless starts the agent; a signal to stop ends the start.
func startUnless(ctx context.Context, cancel context.CancelFunc, a *agent.Agent, signals <-chan os.Signal) error {
	started := make(chan error, 1)
	go func() { started <- a.Start(ctx) }()
	for {
		select {
		case err := <-started:
			return err
		case s := <-signals:
			if s != syscall.SIGHUP {
				cancel()
				if err := <-started; err != nil {
					return err
				}
				a.Close()
				return context.Canceled
			}
		}
	}
}

// agentConfig makes the agent's configuration of the options.
func agentConfig(o *agentOptions, logger *log.Logger, getenv func(string) string) (agent.Config, error) {
	cfg := agent.DefaultConfig()
	cfg.Name, cfg.Cluster, cfg.Profile = o.name, o.cluster, o.profile
	cfg.Bind, cfg.Advertise, cfg.Iface = o.bind, o.advertise, o.iface
	cfg.Join, cfg.Multicast, cfg.Insecure = o.join, !o.noMulticast, o.insecure
	cfg.Data, cfg.Lease, cfg.StateDir, cfg.Logger = o.data.raw, o.lease, o.stateDir, logger
	if o.slots > 0 {
		cfg.Slots = o.slots
	}
	if len(o.roles) > 0 {
		cfg.Roles = nil
		for _, r := range o.roles {
			cfg.Roles = append(cfg.Roles, membership.Role(r))
		}
	}
	if err := o.setPolicy(&cfg.Policy); err != nil {
		return cfg, err
	}
	cfg.Retain, cfg.RetainTasks = o.retain, o.retainTasks
	cfg.HTTP, cfg.APIGroup, cfg.History = o.http, o.apiGroup, o.history
	cfg.Hooks, cfg.HookTimeout = o.hooks, o.hookTimeout
	cfg.SecretFile = secret.Find(o.secretFile, getenv)
	if o.tlsCA != "" || o.tlsCert != "" || o.tlsKey != "" {
		var err error
		if cfg.PKI, err = secret.LoadPKI(o.tlsCA, o.tlsCert, o.tlsKey); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

// runningAgent is what a keeper needs of an agent.
type runningAgent interface {
	Info() api.Info
	APIMembers() []api.Member
	SetData(json.RawMessage) error
	Drain(context.Context) error
	Leave(context.Context) error
	Done() <-chan struct{} // closed when a client asked it to leave
	Close() error
}

// keeper looks after an agent that is up, until it is to end.
type keeper struct {
	env     *Env
	agent   runningAgent
	logger  *log.Logger
	filter  *logutils.LevelFilter
	options *agentOptions
	reload  func() (*agentOptions, error)
}

// keep returns when the agent is closed.
func (k *keeper) keep(signals <-chan os.Signal) error {
	info := k.agent.Info()
	fmt.Fprintln(k.env.Stderr, formatUp(&info))
	alone := time.NewTimer(aloneAfter)
	defer alone.Stop()
	for {
		select {
		case <-alone.C:
			if others(k.agent.APIMembers()) == 0 {
				k.logger.Print("[WARN] agent: no other member found in " + aloneAfter.String() +
					": is another agent up, is port 44201 (TCP and UDP) open in the firewall, does the network pass multicast? Else name a member: -join ADDR")
			}
		case <-k.agent.Done():
			return k.agent.Close() // it has left already
		case s := <-signals:
			if s == syscall.SIGHUP {
				k.readAgain()
				continue
			}
			return k.leave(signals)
		}
	}
}

// leave lets running tasks end, leaves the pool, and closes the agent. A signal
// makes it close the agent at once.
func (k *keeper) leave(signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		drain, stop := context.WithTimeout(ctx, k.options.drainTimeout)
		defer stop()
		if err := k.agent.Drain(drain); err != nil && ctx.Err() == nil {
			k.logger.Printf("[WARN] agent: tasks still run after the drain timeout and are stopped: timeout=%s", k.options.drainTimeout)
		}
		bye, stopBye := context.WithTimeout(ctx, leaveTimeout)
		defer stopBye()
		k.agent.Leave(bye) // what others do not hear now they find out
	}()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case s := <-signals:
			waiting = s == syscall.SIGHUP
		}
	}
	cancel()
	<-done
	return k.agent.Close()
}

// readAgain applies what can change while the agent runs.
func (k *keeper) readAgain() {
	o, err := k.reload()
	if err == nil && string(o.data.raw) != string(k.options.data.raw) {
		data := o.data.raw
		if data == nil {
			data = json.RawMessage("null")
		}
		err = k.agent.SetData(data)
	}
	if err != nil {
		k.logger.Printf("[ERR] agent: configuration not read again, the old one stays: err=%q", err)
		return
	}
	k.filter.SetMinLevel(logutils.LogLevel(o.logLevel))
	k.options.data, k.options.logLevel = o.data, o.logLevel
	k.logger.Print("[INFO] agent: configuration read again: data and log-level are as it says, the rest waits for a restart")
}

// others counts the members besides this node that are there.
func others(ms []api.Member) int {
	n := 0
	for _, m := range ms {
		if !m.Self && m.Status != "left" && m.Status != "failed" {
			n++
		}
	}
	return n
}

// formatUp is the line that an agent prints when it is up.
func formatUp(i *api.Info) string {
	parts := []string{fmt.Sprintf("scagent: agent %q is up at %s as %s", i.Name, i.Addr, strings.Join(i.Roles, ", ")), i.Trust}
	if i.HTTP != "" {
		parts = append(parts, fmt.Sprintf("HTTP at %s with the token in %s", i.HTTP, i.TokenFile))
	}
	if i.SocketGroup != "" {
		parts = append(parts, fmt.Sprintf("members of the group %q may submit tasks", i.SocketGroup))
	}
	if i.Socket == "" {
		return clean(strings.Join(append(parts, "no socket"), "; "))
	}
	return clean(strings.Join(append(parts, "API at unix://"+i.Socket), "; "))
}
