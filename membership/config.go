package membership

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/scagent/scagent/membership/seal"
)

// DefaultPort is where seeds are expected that name no port.
const DefaultPort = 44201

// Limits on what callers hand over, and on the pool as a whole.
const (
	MaxSendBytes      = 1200  // for Send: fits one datagram
	MaxBroadcastBytes = 1000  // for Broadcast: rides along in gossip
	MaxMembers        = 10000 // more nodes than this are refused

	maxClusterBytes = 64
)

// Profiles for Config.Profile.
const (
	ProfileLAN   = "lan"   // one network; a silent node is noticed in about 7 s, a process that was killed in 2 s
	ProfileWAN   = "wan"   // slow, lossy paths; about 45 s
	ProfileLocal = "local" // all on one host
)

// Config configures a Pool. Start from DefaultConfig; New copies it, so later
// changes to the caller's value have no effect. Callbacks must not call Leave or
// Close, which wait for them.
type Config struct {
	// ID is the node's id: 26 characters of lower-case base32. It stays the same
	// through restarts and belongs to one node only.
	ID string
	// Boot tells the node's starts apart: up to 10 digits and lower-case letters
	// that, read as a base-36 number, are larger at each start.
	Boot string
	// Name is for people: at most 64 bytes, printable, at least one.
	Name string
	// Cluster keeps pools apart that could reach each other, at most 64 bytes.
	// It is no secret. Default: "default".
	Cluster string

	Roles     []Role   // at least one
	Slots     int      // at most about a million; 0 is right for a node that runs nothing
	Version   string   // of scagent, at most 32 bytes
	Available bool     // whether a worker wants tasks
	Document  Document // see SetDocument

	// Listener and Packets are where streams and packets of gossip arrive. They
	// belong to the Pool from New on; Close closes them.
	Listener net.Listener
	Packets  net.PacketConn
	// Dial opens a stream for gossip to an address of the form "ip:port". node is
	// the id of the node that must answer there, empty when any may.
	Dial func(ctx context.Context, node, addr string) (net.Conn, error)
	// DialHTTP opens a connection for fetching documents, which anyone may have:
	// they are known by digest. Default: Dial, for any node.
	DialHTTP func(ctx context.Context, addr string) (net.Conn, error)
	// GossipKeys returns the keys of a pool with a secret: packets are sealed with
	// the first, and what is not sealed with one of them is dropped unread. It is
	// called for each packet and never returns none. Streams are as safe as what
	// Dial and Listener make of them. nil: packets are not sealed.
	GossipKeys func() []seal.Key
	// Advertise is the address under which others reach this node.
	Advertise netip.AddrPort
	// Allow says which addresses members may announce; a non-nil error refuses
	// one. It is asked for every announcement and must not block. Default: all
	// that can be a host's.
	Allow func(netip.Addr) error

	// Seeds are addresses to join at: host, host:port, [v6]:port, names with
	// several addresses, srv:NAME, http://tracker:port. They are tried until
	// they answer, for ever, and again when the node finds itself alone.
	Seeds []string
	// Hosts asks the tracker at url for addresses of the form "host:port".
	// Needed only for seeds that are URLs.
	Hosts func(ctx context.Context, url string) ([]string, error)
	// Resolver looks names up. Default: net.DefaultResolver.
	Resolver Resolver
	// PeersFile keeps known members across restarts, so that the node finds its
	// pool again without a seed. Default: empty, which keeps nothing on disk.
	PeersFile string

	// OnEvent is told of members that come, go and change, in order, from one
	// goroutine. While it is busy, changes to one member are merged. The first
	// events are about this node itself.
	OnEvent func(Event)
	// OnMessage receives what others sent with Send and Broadcast, from one
	// goroutine of its own. While it is busy, 1024 messages wait and further
	// ones are dropped and counted. from is the sender's node id as the message
	// claims it.
	OnMessage func(from string, msg []byte)

	// Profile is one of the Profile constants. Default: ProfileLAN.
	Profile string
	// LeftTTL is how long a member that left stays listed. Default: 1 minute.
	LeftTTL time.Duration
	// FailedTTL is how long a member that failed stays listed and is tried
	// again. Default: 72 hours.
	FailedTTL time.Duration
	// Logger receives the log. Default: none is written.
	Logger *log.Logger
}

// Resolver is the part of net.Resolver that seeds need.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// DefaultConfig returns a Config with the defaults filled in; who the node is
// and how it reaches others is the caller's to add.
func DefaultConfig() Config {
	return Config{
		Cluster:   "default",
		Roles:     []Role{RoleWorker, RoleMaster},
		Available: true,
		Profile:   ProfileLAN,
		Resolver:  net.DefaultResolver,
		LeftTTL:   time.Minute,
		FailedTTL: 72 * time.Hour,
	}
}

// complete returns c with defaults for what was left out, checked.
func (c Config) complete() (Config, error) {
	d := DefaultConfig()
	if c.Cluster == "" {
		c.Cluster = d.Cluster
	}
	if c.Profile == "" {
		c.Profile = d.Profile
	}
	if c.Resolver == nil {
		c.Resolver = d.Resolver
	}
	if c.LeftTTL == 0 {
		c.LeftTTL = d.LeftTTL
	}
	if c.FailedTTL == 0 {
		c.FailedTTL = d.FailedTTL
	}
	if dial := c.Dial; c.DialHTTP == nil && dial != nil {
		c.DialHTTP = func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "", addr) }
	}
	if c.Logger == nil {
		c.Logger = log.New(io.Discard, "", 0)
	}
	c.Roles = slices.Clone(c.Roles)
	c.Seeds = slices.Clone(c.Seeds)
	c.Advertise = netip.AddrPortFrom(c.Advertise.Addr().Unmap(), c.Advertise.Port())
	return c, c.check()
}

func (c *Config) check() error {
	if !validID(c.ID) {
		return fmt.Errorf("config: ID is %q; want %d characters of lower-case base32", c.ID, idChars)
	}
	if !validBoot(c.Boot) {
		return fmt.Errorf("config: Boot is %q; want 1 to %d digits and lower-case letters", c.Boot, maxBootChars)
	}
	if c.Name == "" {
		return errors.New("config: Name is empty; want a name for people, such as the host's")
	}
	if err := errors.Join(checkText("Name", c.Name, maxNameBytes), checkText("Cluster", c.Cluster, maxClusterBytes),
		checkText("Version", c.Version, maxVersionBytes)); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if len(c.Roles) == 0 {
		return errors.New("config: Roles is empty; want at least one of worker, master, tracker")
	}
	for _, r := range c.Roles {
		if !slices.Contains(roles[:], r) {
			return fmt.Errorf("config: Roles has %q; want worker, master or tracker", r)
		}
	}
	if c.Slots < 0 || c.Slots > maxSlots {
		return fmt.Errorf("config: Slots is %d; want 0 to %d", c.Slots, maxSlots)
	}
	if c.Listener == nil || c.Packets == nil || c.Dial == nil {
		return errors.New("config: Listener, Packets or Dial is missing; want all three")
	}
	if err := checkHostAddr(c.Advertise); err != nil {
		return fmt.Errorf("config: Advertise is %v: %w; want the address under which others reach this node", c.Advertise, err)
	}
	if c.LeftTTL < 0 || c.FailedTTL < 0 {
		return fmt.Errorf("config: LeftTTL is %v, FailedTTL is %v; want both above 0", c.LeftTTL, c.FailedTTL)
	}
	for _, s := range c.Seeds {
		sd, err := parseSeed(s)
		if err != nil {
			return err
		}
		if sd.kind == seedURL && c.Hosts == nil {
			return fmt.Errorf("seed %q is a URL, but Hosts is missing; want a function that asks trackers", s)
		}
	}
	_, err := c.memberlist()
	return err
}

// label returns what separates clusters on the wire. It is prefixed so that no
// other user of memberlist has it by accident.
func (c *Config) label() string { return "scagent/" + c.Cluster }

// memberlist returns memberlist's configuration for the profile, without the
// parts that belong to a running Pool.
func (c *Config) memberlist() (*memberlist.Config, error) {
	var m *memberlist.Config
	switch c.Profile {
	case ProfileLAN:
		m = memberlist.DefaultLANConfig()
		// Half of memberlist's: a push/pull on a LAN that takes longer fails.
		m.TCPTimeout = 5 * time.Second
	case ProfileWAN:
		m = memberlist.DefaultWANConfig()
		m.TCPTimeout = 20 * time.Second
		m.GossipInterval = 200 * time.Millisecond
	case ProfileLocal:
		m = memberlist.DefaultLocalConfig()
		// One second is too short for a busy host.
		m.TCPTimeout = 5 * time.Second
	default:
		return nil, fmt.Errorf("config: Profile is %q; want %s, %s or %s", c.Profile, ProfileLAN, ProfileWAN, ProfileLocal)
	}
	if c.Profile != ProfileWAN {
		// To more nodes than the LAN default: metadata here is large, about two
		// announcements fit into a packet, and a tick without anything to say sends
		// nothing. More ticks would do too, but each wakes an idle process.
		m.GossipInterval = 200 * time.Millisecond
		m.GossipNodes = 8
	}
	m.Name = gossipName(c.ID, c.Boot)
	m.Label = c.label()
	m.RequireNodeNames = true
	m.EnableCompression = false // the guard could not look inside
	if c.GossipKeys != nil {
		m.UDPBufferSize -= seal.Overhead
	}
	m.DeadNodeReclaimTime = 5 * time.Second
	m.DelegateProtocolMin, m.DelegateProtocolMax, m.DelegateProtocolVersion = 1, 1, 1
	m.BindPort = int(c.Advertise.Port())
	m.AdvertiseAddr = c.Advertise.Addr().String()
	m.AdvertisePort = int(c.Advertise.Port())
	return m, nil
}

// checkHostAddr says what keeps an address from being a host's.
func checkHostAddr(a netip.AddrPort) error {
	ip := a.Addr()
	switch {
	case !ip.IsValid():
		return errors.New("no address")
	case ip.Zone() != "":
		return errors.New("an address with a zone means nothing elsewhere")
	case ip.IsUnspecified(), ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return errors.New("not the address of a host")
	case a.Port() == 0:
		return errors.New("port 0")
	}
	return nil
}
