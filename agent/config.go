package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/hook"
	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/membership/beacon"
	"github.com/scagent/scagent/tasks/policy"
)

// Config configures an Agent. Start from DefaultConfig; New copies it.
type Config struct {
	// Name is for people, at most 64 bytes. Default: the host's name, with -2 for
	// the second agent on a host, and so on.
	Name string
	// Roles are what the node does. Default: worker and master.
	Roles []membership.Role
	// Cluster keeps pools apart. Default: "default".
	Cluster string
	// Version is what others see. Default: this module's.
	Version string

	// Bind is ADDR or ADDR:PORT. Default: 0.0.0.0:44201, or a free port if that
	// one is taken; a port written here, or a tracker's, is an error when taken.
	Bind string
	// Advertise is ADDR or ADDR:PORT under which others reach this node. Default:
	// the address of the default route's interface, and the bound port.
	Advertise string
	// Iface names the interface to advertise and to multicast on. Default: all.
	Iface string
	// Join are addresses to join at, see membership.Config.Seeds.
	Join []string
	// Multicast finds other agents on the LAN. Default: true.
	Multicast bool
	// SecretFile is where the cluster's secret is, see package agent/secret. The
	// agent reads it again when it changes, and writes to it when the pool's secret
	// was replaced. Empty: there is no secret, and only who is on one of this host's
	// networks is let in.
	SecretFile string
	// PKI are certificates of an own authority instead of those that the secret
	// gives.
	PKI *secret.PKI
	// Insecure lets an agent without a secret be reached from beyond its LAN.
	Insecure bool
	// Profile is lan, wan or local, see membership. Default: lan.
	Profile string

	// Policy is what tasks may do here, whatever a master asks. Of its RunAs, the
	// default is the agent's own user, but nobody where that is root and there is no
	// secret; only root can choose. Registered functions run inside the agent, as its
	// own user. Default: everything.
	Policy policy.Policy
	// Slots is how many tasks run at once here. Default: the number of CPUs.
	Slots int
	// CacheBytes bounds the inputs of tasks that are kept after their tasks, so
	// that the next one finds them here; who was used longest ago goes first. 0:
	// none is kept. Default: -1, which is 10 GiB, or a tenth of what is free on the
	// disk of StateDir where that is less.
	CacheBytes int64
	// Unavailable keeps new tasks away from the worker from the start.
	Unavailable bool
	// Data is the user's JSON about the node, at most about 256 KiB.
	Data json.RawMessage
	// Lease is how long a silent worker's tasks are waited for. Default: 3s.
	Lease time.Duration
	// Grace is the time a process has between being asked to end and being
	// killed. Default: 5s.
	Grace time.Duration

	// Retain is how long tasks that were submitted here can be asked for after their run
	// has ended, on disk, and RetainTasks how many of them at most: the oldest go first.
	// Default: 24h and 100,000.
	Retain      time.Duration
	RetainTasks int

	// HTTP is 127.0.0.1:PORT, or another loopback address, at which the API is
	// served too, to who has the token in the state directory; port 0 is any free
	// one. Default: the API is on the agent's socket alone.
	HTTP string
	// APIGroup is a group, by name or number, whose members may use the API's
	// socket, and so run tasks as this node. Default: only its user and root may.
	APIGroup string

	// StateDir keeps the node's key and files. Default: see package home.
	StateDir string
	// Temporary agents use a new directory that Close removes, take no part in
	// the numbering of the host's agents, and have no socket.
	Temporary bool

	// History is a file to which what happens to tasks is appended, for checking; see
	// package history. It grows without bound. Default: none.
	History string

	// Network and BeaconNetwork replace the machine's, for tests.
	Network       port.Network
	BeaconNetwork beacon.Network

	// Hooks are commands that run on this host when events happen, see package hook,
	// as the agent's user; HookTimeout is how long each may. Default: none, 30s.
	Hooks       []hook.Hook
	HookTimeout time.Duration

	// OnEvent is told of members that come, go and change, in order. It must
	// return before the next event is delivered.
	OnEvent func(membership.Event)

	Logger *log.Logger
}

// DefaultConfig returns the configuration of `scagent agent` without flags.
func DefaultConfig() Config {
	return Config{
		Roles:       []membership.Role{membership.RoleWorker, membership.RoleMaster},
		Cluster:     "default",
		Version:     Version(),
		Multicast:   true,
		Profile:     membership.ProfileLAN,
		Slots:       runtime.NumCPU(),
		CacheBytes:  -1,
		Lease:       3 * time.Second,
		Grace:       5 * time.Second,
		Retain:      24 * time.Hour,
		RetainTasks: 100_000,
		HookTimeout: hook.DefaultTimeout,
		Network:     port.Machine,
		Logger:      log.New(io.Discard, "", 0),
	}
}

// Version is the version of this module in the running program.
func Version() string {
	if bi, ok := debug.ReadBuildInfo(); ok {
		if bi.Main.Path == modulePath && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
			return bi.Main.Version
		}
		for _, d := range bi.Deps {
			if d.Path == modulePath {
				return d.Version
			}
		}
	}
	return "devel"
}

const modulePath = "github.com/scagent/scagent"

func (c *Config) check() error {
	switch {
	case len(c.Roles) == 0:
		return fmt.Errorf("agent: Roles is empty; want worker, master or tracker")
	case c.Slots < 1:
		return fmt.Errorf("agent: Slots is %d; want at least 1", c.Slots)
	case c.Lease < 100*time.Millisecond:
		return fmt.Errorf("agent: Lease is %v; want at least 100ms", c.Lease)
	case c.Retain <= 0 || c.RetainTasks < 1:
		return fmt.Errorf("agent: Retain is %v and RetainTasks %d; want both above 0", c.Retain, c.RetainTasks)
	case c.HookTimeout <= 0:
		return fmt.Errorf("agent: HookTimeout is %v; want above 0", c.HookTimeout)
	case c.Grace <= 0:
		return fmt.Errorf("agent: Grace is %v; want above 0", c.Grace)
	case len(c.Name) > 64 || strings.ContainsFunc(c.Name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("agent: Name is %q; want at most 64 printable bytes", c.Name)
	case c.Network == nil:
		return fmt.Errorf("agent: Network is nil; want port.Machine or a network for tests")
	case c.Logger == nil:
		return fmt.Errorf("agent: Logger is nil; start from DefaultConfig")
	case len(c.Data) > 0 && !json.Valid(c.Data):
		return fmt.Errorf("agent: Data is not JSON")
	case c.Temporary && c.APIGroup != "":
		return fmt.Errorf("agent: APIGroup is %q, and Temporary: such an agent has no socket; leave one of them out", c.APIGroup)
	}
	if c.HTTP != "" {
		if _, err := api.ParseTCP(c.HTTP); errors.Is(err, api.ErrNotLoopback) {
			return fmt.Errorf("-http is %q: %w, and the API is for this host alone; want 127.0.0.1:PORT, and from elsewhere: ssh -L PORT:127.0.0.1:PORT HOST", c.HTTP, err)
		} else if err != nil {
			return fmt.Errorf("-http is %q; %w", c.HTTP, err)
		}
	}
	for _, r := range c.Roles {
		if r != membership.RoleWorker && r != membership.RoleMaster && r != membership.RoleTracker {
			return fmt.Errorf("agent: role %q; want worker, master or tracker", r)
		}
	}
	for _, h := range c.Hooks {
		if err := h.Check(); err != nil {
			return fmt.Errorf("agent: hook %q: %w", h, err)
		}
	}
	if _, _, err := port.ParseBind(c.Bind); err != nil {
		return err
	}
	if err := c.Policy.Validate(); err != nil {
		return fmt.Errorf("agent: Policy: %w", err)
	}
	return nil
}

func (c *Config) has(r membership.Role) bool { return slices.Contains(c.Roles, r) }

// hostName returns the name of the n-th agent of this host.
func hostName(n int) string {
	h, err := os.Hostname()
	if err != nil || h == "" {
		h = "node"
	}
	if len(h) > 56 {
		h = h[:56]
	}
	if n > 1 {
		return fmt.Sprintf("%s-%d", h, n)
	}
	return h
}

// advertise works out the address under which others reach what is bound.
func (c *Config) advertise(bound netip.AddrPort) (netip.AddrPort, error) {
	if c.Advertise == "" {
		a, err := port.AdvertiseAddr(bound.Addr(), c.Iface)
		if err != nil {
			return netip.AddrPort{}, err
		}
		return netip.AddrPortFrom(a.Unmap().WithZone(""), bound.Port()), nil
	}
	if ap, err := netip.ParseAddrPort(c.Advertise); err == nil && ap.Port() != 0 {
		return ap, nil
	}
	if a, err := netip.ParseAddr(strings.Trim(c.Advertise, "[]")); err == nil {
		return netip.AddrPortFrom(a, bound.Port()), nil
	}
	if h, _, err := net.SplitHostPort(c.Advertise); err == nil && h != "" {
		return netip.AddrPort{}, fmt.Errorf("advertise address %q: want an IP address, and a port from 1 to 65535", c.Advertise)
	}
	return netip.AddrPort{}, fmt.Errorf("advertise address %q: want ADDR or ADDR:PORT with an IP address", c.Advertise)
}
