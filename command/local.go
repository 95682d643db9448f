package command

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/hashicorp/logutils"
	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/membership"
)

const (
	// settleTime is how long nothing must have changed in the list of members for
	// it to be taken as whole.
	settleTime = 150 * time.Millisecond
	// leaveTimeout bounds saying goodbye to the pool.
	leaveTimeout = 2 * time.Second
)

// agentVersion is the version of this program.
func agentVersion() string { return agent.Version() }

// localStart says how to start an agent for as long as a command needs it.
type localStart struct {
	localOptions
	wait   time.Duration // at most so long for the first other member
	settle time.Duration // then until nothing has changed for so long; 0: go on at once
	look   bool          // wait for others even where none were named, and do without them
}

// startLocal starts an agent in this process that submits tasks and runs none,
// without a socket and without anything that stays on disk. When others to join
// were named it returns when it has joined; else the submission waits for the
// workers that it needs. leave ends the agent.
func startLocal(ctx context.Context, e *Env, o *localStart) (c *client.Client, leave func(), err error) {
	if o.noMulticast && len(o.join) == 0 {
		return nil, nil, errors.New("-no-multicast finds nobody without -join; add the address of a member")
	}
	changed := make(chan struct{}, 1) // has a token when members have changed since it was taken
	cfg := agent.DefaultConfig()
	cfg.Roles = []membership.Role{membership.RoleMaster}
	cfg.Temporary = true
	cfg.Multicast = !o.noMulticast
	cfg.Join, cfg.Insecure, cfg.SecretFile = o.join, o.insecure, secret.Find(o.secretFile, e.Getenv)
	cfg.Bind, cfg.Advertise, cfg.Iface = o.bind, o.advertise, o.iface
	if o.cluster != "" {
		cfg.Cluster = o.cluster
	}
	level := "ERR"
	if l := strings.ToUpper(e.Getenv("SCAGENT_LOG_LEVEL")); l != "" && checkLevel(l) == nil {
		level = l
	}
	logger, _ := newLogger(e.Stderr, level)
	cfg.Logger = logger
	cfg.OnEvent = func(ev membership.Event) {
		if !ev.Member.Self {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}
	a, err := agent.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	if err := a.Start(ctx); err != nil {
		return nil, nil, fmt.Errorf("no agent runs here, and joining the pool from this command failed: %w", err)
	}
	c = client.ForHandler(a.APIHandler())
	leave = func() {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
		defer cancel()
		a.Leave(ctx) // what others do not hear now they find out
		c.Close()
		if err := a.Close(); err != nil {
			logger.Printf("[WARN] command: the agent of this command did not close well: err=%q", err)
		}
	}
	if len(o.join) > 0 || o.settle > 0 || o.look {
		if err := o.await(ctx, changed); err != nil {
			if errors.Is(err, errNoMember) {
				err = o.unanswered(ctx, a)
			}
			leave()
			return nil, nil, err
		}
	}
	return c, leave, nil
}

// connectOrStart returns the client of this host's agent or, where none runs, of one
// that it starts. localSet are the flags of l that were given, which only make sense
// then. leave ends what was started.
func connectOrStart(ctx context.Context, e *Env, o *common, localSet []string, l *localStart) (c *client.Client, leave func(), err error) {
	c, err = e.connect(o)
	switch {
	case err == nil:
		if err := refuseLocal(localSet, c.Addr()); err != nil {
			c.Close()
			return nil, nil, err
		}
		return c, c.Close, nil
	case !e.mayStart(o, err):
		return nil, nil, err
	}
	return startLocal(ctx, e, l)
}

// errNoMember is that of await when nobody was found where to join.
var errNoMember = errors.New("no member answered")

// reasonTimeout bounds how long it may take to find out why no member answered.
const reasonTimeout = time.Second

// unanswered says where no member was found, and if it can be found out, why.
func (o *localStart) unanswered(ctx context.Context, a *agent.Agent) error {
	text := fmt.Sprintf("no agent runs here, and %v at %s within %s", errNoMember, strings.Join(o.join, ", "), shortDuration(o.wait))
	ctx, cancel := context.WithTimeout(ctx, reasonTimeout)
	defer cancel()
	if _, err := a.Join(ctx, o.join...); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %s", text, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return errors.New(text + "; is one up there, and is its port 44201 (TCP and UDP) open?")
}

// await waits for the first other member, and then until the list is quiet.
func (o *localStart) await(ctx context.Context, changed <-chan struct{}) error {
	timeout := time.NewTimer(o.wait)
	defer timeout.Stop()
	select {
	case <-changed:
	case <-timeout.C:
		if len(o.join) == 0 {
			return nil // submit says better what is missing
		}
		return errNoMember
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if o.settle == 0 {
		return nil
	}
	for {
		quiet := time.NewTimer(o.settle)
		select {
		case <-changed:
			quiet.Stop()
		case <-quiet.C:
			return nil
		case <-timeout.C:
			quiet.Stop()
			return nil
		case <-ctx.Done():
			quiet.Stop()
			return context.Cause(ctx)
		}
	}
}

// logLevels are the levels of logs, the least first.
var logLevels = []logutils.LogLevel{"TRACE", "DEBUG", "INFO", "WARN", "ERR"}

func checkLevel(s string) error {
	for _, l := range logLevels {
		if s == string(l) {
			return nil
		}
	}
	return fmt.Errorf("want TRACE, DEBUG, INFO, WARN or ERR")
}

// newLogger returns a logger that drops what is below a level, and the filter
// whose level can be changed.
func newLogger(w interface{ Write([]byte) (int, error) }, level string) (*log.Logger, *logutils.LevelFilter) {
	filter := &logutils.LevelFilter{Levels: logLevels, MinLevel: logutils.LogLevel(level), Writer: w}
	return log.New(filter, "", log.LstdFlags|log.LUTC), filter
}
