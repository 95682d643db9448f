package port

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// DefaultNumber is the port, TCP and UDP, of an agent that was told nothing else.
const DefaultNumber = 44201

// Config configures a Port. Start from DefaultConfig; Open copies it. A limit
// left at zero has its default.
type Config struct {
	// Bind is the address to listen on, ADDR or ADDR:PORT; see ParseBind.
	// Default: 0.0.0.0:44201.
	Bind string

	// Strict makes a taken port an error. Otherwise another free one is used.
	// Set it when a person wrote the port down, or others are told to find the
	// agent there. It means nothing for port 0. Default: false.
	Strict bool

	// Allow says which addresses may send packets and open connections; others
	// are counted and dropped before a byte is read. It is called for each and
	// must be quick. nil: all may. See Neighbours.
	Allow func(netip.Addr) bool

	// DirectOnly demands of packets, gossip and links that no router lies between:
	// they must arrive with the TTL or hop limit 255 with which agents send
	// (RFC 5082). Systems other than linux do not tell; there Allow is all.
	// HTTP is exempt, since other programs speak it too: the source address of a
	// TCP connection cannot be forged from afar.
	DirectOnly bool

	// TLS makes TLS the only way in: gossip, links and HTTP are told apart by ALPN
	// within it, and all must shake hands within FirstByteTimeout. nil: no TLS.
	TLS *tls.Config

	// Network is where sockets come from. Default: Machine.
	Network Network

	// Logger gets lines like "[WARN] port: event: key=value". Default: nowhere.
	Logger *log.Logger

	// FirstByteTimeout is how long a new connection may stay silent before it
	// is closed. Default: 5s.
	FirstByteTimeout time.Duration

	// MaxStrangers is how many connections may wait for their first byte at
	// once; when more come, others are closed, see Crowd. Default: 256.
	MaxStrangers int

	// MaxStrangersPerSource is the same for one source IP address. Default: 32.
	MaxStrangersPerSource int

	// Backlog is how many sorted connections each listener keeps until they are
	// accepted; more are closed. Default: 128.
	Backlog int
}

// DefaultConfig returns the configuration that an agent uses when told nothing.
func DefaultConfig() Config {
	return Config{
		Bind:                  netip.AddrPortFrom(netip.IPv4Unspecified(), DefaultNumber).String(),
		Network:               Machine,
		Logger:                log.New(io.Discard, "", 0),
		FirstByteTimeout:      5 * time.Second,
		MaxStrangers:          256,
		MaxStrangersPerSource: 32,
		Backlog:               128,
	}
}

// withDefaults fills in what was left at zero and checks the rest.
func (c Config) withDefaults() (Config, error) {
	d := DefaultConfig()
	if c.Network == nil {
		c.Network = d.Network
	}
	if c.Logger == nil {
		c.Logger = d.Logger
	}
	if c.FirstByteTimeout == 0 {
		c.FirstByteTimeout = d.FirstByteTimeout
	}
	if c.FirstByteTimeout < 0 {
		return c, fmt.Errorf("FirstByteTimeout is %v; want more than 0", c.FirstByteTimeout)
	}
	for _, limit := range []struct {
		name  string
		value *int
		def   int
	}{
		{"MaxStrangers", &c.MaxStrangers, d.MaxStrangers},
		{"MaxStrangersPerSource", &c.MaxStrangersPerSource, d.MaxStrangersPerSource},
		{"Backlog", &c.Backlog, d.Backlog},
	} {
		if *limit.value == 0 {
			*limit.value = limit.def
		}
		if *limit.value < 0 {
			return c, fmt.Errorf("%s is %d; want at least 1", limit.name, *limit.value)
		}
	}
	return c, nil
}

// Port is an open address. Its methods may be called from any goroutine.
type Port struct {
	config  Config // constant
	tcp     net.Listener
	packets net.PacketConn
	gossip  *listener
	links   *listener
	http    *listener

	counts    counts
	strangers *Crowd
	refusals  rate.Sometimes // of log lines about refused connections
	unproved  rate.Sometimes // of log lines about who does not have the secret

	wg        sync.WaitGroup // the accepting goroutine and one for each stranger
	closing   chan struct{}  // closed by Close
	closeOnce sync.Once
	closeErr  error // written within closeOnce
}

// Open binds the address and starts to sort what arrives; ctx bounds the
// opening alone. A taken port is an error if config.Strict is set, and such an
// error is one line that says what to do.
func Open(ctx context.Context, config Config) (*Port, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	bind, _, err := ParseBind(config.Bind)
	if err != nil {
		return nil, err
	}
	tcp, packets, err := config.Network.Listen(ctx, bind.String())
	if err != nil && isTaken(err) && !config.Strict && bind.Port() != 0 {
		free := netip.AddrPortFrom(bind.Addr(), 0)
		tcp, packets, err = config.Network.Listen(ctx, free.String())
		if err == nil {
			config.Logger.Printf("[INFO] port: taken, another is used: taken=%s used=%s", bind, tcp.Addr())
		}
	}
	if err != nil {
		return nil, explain(bind, err)
	}
	p := &Port{
		config:    config,
		tcp:       tcp,
		packets:   packets,
		gossip:    newListener(tcp.Addr(), config.Backlog),
		links:     newListener(tcp.Addr(), config.Backlog),
		http:      newListener(tcp.Addr(), config.Backlog),
		strangers: NewCrowd(config.MaxStrangers, config.MaxStrangersPerSource),
		refusals:  rate.Sometimes{First: 1, Interval: time.Minute},
		unproved:  rate.Sometimes{First: 10, Interval: time.Minute},
		closing:   make(chan struct{}),
	}
	p.wg.Go(p.accept)
	return p, nil
}

// Gossip returns the listener of memberlist's streams. Like Links and HTTP it
// returns the same one at each call. Closing it ends that sort alone:
// connections of that sort are then refused.
func (p *Port) Gossip() net.Listener { return p.gossip }

// Links returns the listener of the connections over which tasks travel. Their
// first byte, LinkMagic, is still to be read.
func (p *Port) Links() net.Listener { return p.links }

// HTTP returns the listener of plain HTTP connections.
func (p *Port) HTTP() net.Listener { return p.http }

// Packets returns the UDP socket, from which only packets can be read that
// Config.Allow and Config.DirectOnly let through. The Port closes it.
func (p *Port) Packets() net.PacketConn {
	if p.config.Allow == nil && !p.config.DirectOnly {
		return p.packets
	}
	return &packetFilter{p.packets, p.config.Allow, p.config.DirectOnly, &p.counts}
}

// Dial connects to addr, "ip:port", over TCP. The caller owns the connection
// and says with its first byte what it is.
func (p *Port) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return p.config.Network.Dial(ctx, addr)
}

// Addr returns the bound address. Its IP address may be unspecified: see
// AdvertiseAddr for the one to tell others.
func (p *Port) Addr() netip.AddrPort {
	addr := addrPortOf(p.tcp.Addr())
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}

// Close closes the sockets, the listeners with what nobody accepted from them,
// and all strangers, and waits until the last goroutine has ended. Connections
// already accepted stay open. Later calls return what the first did.
func (p *Port) Close() error {
	p.closeOnce.Do(func() {
		close(p.closing)
		p.closeErr = errors.Join(ignoreClosed(p.tcp.Close()), ignoreClosed(p.packets.Close()))
		p.strangers.Close()
		for _, l := range []*listener{p.gossip, p.links, p.http} {
			l.Close()
		}
	})
	p.wg.Wait()
	return p.closeErr
}

// ignoreClosed drops the error of closing what its user has closed already.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// addrPortOf returns the address of a TCP or UDP end, or the zero AddrPort.
func addrPortOf(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort()
	case *net.UDPAddr:
		return a.AddrPort()
	}
	return netip.AddrPort{}
}
