package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/scagent/scagent/agent/hook"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/policy"
)

// agentOptions are what flags, environment and files say of an agent.
type agentOptions struct {
	name, cluster          string
	roles, join            []string
	bind, advertise, iface string
	noMulticast, insecure  bool
	profile                string
	slots                  int
	data                   dataValue
	lease                  time.Duration
	stateDir               string
	drainTimeout           time.Duration
	retain                 time.Duration
	retainTasks            int
	logLevel               string
	config                 []string

	onEvent     []string
	hooks       []hook.Hook // what onEvent says
	hookTimeout time.Duration

	http, apiGroup, history string

	secretFile             string
	tlsCA, tlsCert, tlsKey string
	policyFile, runAs      string
	allow                  []string
}

// agentFlags defines the flags. Defaults that depend on the machine are left to
// the agent: empty or 0 here.
func agentFlags(o *agentOptions) *flagSet {
	o.cluster, o.profile, o.logLevel = "default", membership.ProfileLAN, "INFO"
	o.lease, o.drainTimeout = 3*time.Second, 10*time.Second
	o.retain, o.retainTasks, o.hookTimeout = 24*time.Hour, 100_000, hook.DefaultTimeout
	f := newFlags(true)
	f.group("Options")
	f.str(&o.name, "name", "`NAME` for people (default: the host's name)")
	f.words(&o.roles, "role", "`ROLE,…` of worker, master and tracker (default: worker,master)")
	f.str(&o.cluster, "cluster", "`NAME` that keeps pools apart")
	f.add(&o.data, "data", "`KEY=VALUE | JSON | @FILE`: data about this node (repeatable)")
	f.integer(&o.slots, "slots", "run `N` tasks at once (default: the number of CPUs)")
	f.list(&o.config, "config", "read `FILE|DIR` with the same options in JSON, see: scagent help config (repeatable)")
	f.str(&o.stateDir, "state-dir", "keep state in `DIR` (default: /var/lib/scagent/N for root, else below the home directory)")

	f.group("Network")
	f.str(&o.bind, "bind", "listen at `ADDR[:PORT]` (default: 0.0.0.0:44201, or a free port when that is taken)")
	f.str(&o.advertise, "advertise", "be reached at `ADDR[:PORT]` (default: the address of the default route's interface)")
	f.str(&o.iface, "iface", "use the network interface `NAME`")
	f.words(&o.join, "join", "join the pool at `ADDR`, trying for ever (repeatable)")
	f.boolean(&o.noMulticast, "no-multicast", "do not look for others by multicast")
	f.str(&o.profile, "profile", "timing of the pool: `lan|wan|local`")
	f.duration(&o.lease, "lease", "wait so `LONG` for a silent worker before its tasks go elsewhere")

	f.group("Trust")
	f.boolean(&o.insecure, "insecure", "go beyond the LAN without a secret")
	f.str(&o.secretFile, "secret-file", "`FILE` with the cluster's secret, see: scagent help secret")
	f.str(&o.tlsCA, "tls-ca", "`FILE`: authorities whose certificates are good, in place of the secret's (PEM)")
	f.str(&o.tlsCert, "tls-cert", "`FILE`: this node's certificate (PEM)")
	f.str(&o.tlsKey, "tls-key", "`FILE`: its key (PEM)")
	f.words(&o.allow, "allow", "run only tasks of these `KIND,…`: command, file, git, js, function")
	f.str(&o.runAs, "run-as", "run tasks as `USER` (default for root without a secret: nobody)")
	f.str(&o.policyFile, "policy", "`FILE` with what tasks may do here, see: scagent help policy")
	f.str(&o.apiGroup, "api-group", "let the members of `GROUP` use the API's socket, and so run tasks as this agent")
	f.str(&o.http, "http", "serve the API at `127.0.0.1:PORT` too, to who has its token, see: scagent help trust")

	f.group("Running")
	f.list(&o.onEvent, "on-event", "run a line of shell here when something happens, `NAME=COMMAND`, see: scagent help hooks (repeatable)")
	f.duration(&o.hookTimeout, "hook-timeout", "stop such a command after so `LONG`")
	f.str(&o.logLevel, "log-level", "log `TRACE|DEBUG|INFO|WARN|ERR` and above to standard error")
	f.duration(&o.drainTimeout, "drain-timeout", "at the end, wait so `LONG` for running tasks")
	f.duration(&o.retain, "retain", "keep what is known of tasks on disk for so `LONG` after they have ended")
	f.integer(&o.retainTasks, "retain-tasks", "keep at most the last `N` of them")
	f.str(&o.history, "history", "append what happens to tasks to `FILE`, for checking; it grows without bound")
	return f
}

// parseAgent reads arguments, environment and files: flags beat the environment,
// which beats files, which beat defaults. It can be called again, to reload.
func parseAgent(args []string, getenv func(string) string) (*agentOptions, error) {
	o := &agentOptions{}
	f := agentFlags(o)
	operands, err := f.parse(args)
	if err == nil {
		err = none(operands)
	}
	if err == nil {
		err = f.setFromEnv(getenv)
	}
	if err == nil {
		err = f.setFromFiles(o.config)
	}
	if err == nil {
		err = o.check(f)
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

// setPolicy reads the file, and sets in it what flags say.
func (o *agentOptions) setPolicy(p *policy.Policy) error {
	if o.policyFile != "" {
		var err error
		if *p, err = policy.Load(o.policyFile); err != nil {
			return fmt.Errorf("-policy: %w", err)
		}
	}
	if len(o.allow) > 0 {
		p.Kinds = nil
		for _, k := range o.allow {
			p.Kinds = append(p.Kinds, tasks.Kind(k))
		}
	}
	if o.runAs != "" {
		p.RunAs = o.runAs
	}
	return nil
}

// envName is the environment variable of an agent's flag.
func envName(flag string) string {
	return "SCAGENT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// setFromEnv sets the flags that were not given and have a variable that is not
// empty.
func (f *flagSet) setFromEnv(getenv func(string) string) error {
	for _, name := range f.names() {
		value := getenv(envName(name))
		if value == "" || f.isSet(name) {
			continue
		}
		if err := f.set(envName(name), name, value); err != nil {
			return err
		}
	}
	return nil
}

func (o *agentOptions) check(f *flagSet) error {
	for _, s := range o.onEvent {
		h, err := hook.Parse(s)
		if err != nil {
			return fmt.Errorf("-on-event is %q; %w", shorten(s, 80), err)
		}
		o.hooks = append(o.hooks, h)
	}
	if o.hookTimeout <= 0 {
		return fmt.Errorf("-hook-timeout is %s; want above 0", o.hookTimeout)
	}
	for _, r := range o.roles {
		if !slices.Contains([]string{"worker", "master", "tracker"}, r) {
			return fmt.Errorf("-role is %q; want worker, master or tracker", shorten(r, 40))
		}
	}
	if !slices.Contains([]string{membership.ProfileLAN, membership.ProfileWAN, membership.ProfileLocal}, o.profile) {
		return fmt.Errorf("-profile is %q; want lan, wan or local", shorten(o.profile, 40))
	}
	if err := oneOf("-allow", o.allow, "command", "file", "git", "js", "function"); err != nil {
		return err
	}
	if o.insecure && o.secretFile != "" {
		return errors.New("-insecure and -secret-file exclude each other; leave one out")
	}
	if n := len(f.given("tls-ca", "tls-cert", "tls-key")); n != 0 && n != 3 {
		return errors.New("-tls-ca, -tls-cert and -tls-key belong together; give all three or none")
	}
	o.logLevel = strings.ToUpper(o.logLevel)
	if err := checkLevel(o.logLevel); err != nil {
		return fmt.Errorf("-log-level is %q; %w", shorten(o.logLevel, 40), err)
	}
	if f.isSet("slots") && o.slots < 1 {
		return fmt.Errorf("-slots is %d; want at least 1", o.slots)
	}
	if f.isSet("cluster") && o.cluster == "" {
		return errors.New("-cluster is empty; want a name")
	}
	return nil
}
