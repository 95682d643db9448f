package secret

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Keyring is what a node of a secured pool has: its own key and the secrets that
// it takes. Its methods may be called from any goroutine.
type Keyring struct {
	key   ed25519.PrivateKey // constant
	node  string             // constant
	pki   *PKI               // constant; nil: certificates come from the secret
	hosts []string           // constant
	now   func() time.Time   // constant

	mu    sync.Mutex // serializes changes of state
	state atomic.Pointer[state]
}

// state is constant, but for what named remembers.
type state struct {
	all    Chain              // what has ended as well
	chain  Chain              // what is taken
	seal   *Secret            // whose key seals gossip; one of chain
	certs  []*tls.Certificate // one for each entry of chain; with PKI, its only one
	gossip []GossipKey
	beacon [][]byte
	named  sync.Map // certificates that name a host, by it: see certFor
}

// GossipKey seals gossip packets.
type GossipKey struct {
	Tag    [4]byte // names the key, in public
	Secret [32]byte
}

// Config configures a Keyring.
type Config struct {
	Chain Chain              // required
	Key   ed25519.PrivateKey // the node's; not used with PKI
	PKI   *PKI               // nil: certificates come from the secret
	// Hosts are names and addresses of the node for programs like curl. The
	// certificate has one of them only for who asks for it by that name, or asks
	// for none: whoever scans the network is told no names.
	Hosts []string
}

// NewKeyring returns the keyring of the node with the key.
func NewKeyring(c Config) (*Keyring, error) {
	if len(c.Chain) == 0 {
		return nil, errors.New("the keyring has no secret")
	}
	k := &Keyring{key: c.Key, pki: c.PKI, hosts: c.Hosts, now: time.Now}
	if k.pki != nil {
		k.node = k.pki.node
	} else {
		var err error
		if k.node, err = NodeID(c.Key.Public()); err != nil {
			return nil, err
		}
	}
	return k, k.set(c.Chain, c.Chain.Current())
}

// set replaces the chain. Gossip and beacons are sealed with the keys of seal, if
// that is still taken.
func (k *Keyring) set(c Chain, seal *Secret) error {
	now := k.now()
	st := &state{all: slices.Clone(c), seal: seal}
	for i, e := range c {
		if i == 0 || !e.ended(now) {
			st.chain = append(st.chain, e)
		}
	}
	for _, e := range st.chain {
		if k.pki != nil {
			st.certs = append(st.certs, &k.pki.cert)
			continue
		}
		cert, err := e.Secret.certificate(k.key, nil)
		if err != nil {
			return err
		}
		st.certs = append(st.certs, cert)
	}
	for _, e := range st.chain {
		st.gossip = append(st.gossip, GossipKey{e.Secret.tag, e.Secret.gossip})
		st.beacon = append(st.beacon, e.Secret.discovery[:])
	}
	i := slices.IndexFunc(st.chain, func(e Entry) bool { return e.Secret.cluster == seal.cluster })
	if i < 0 {
		i, st.seal = 0, st.chain.Current()
	}
	st.gossip[0], st.gossip[i] = st.gossip[i], st.gossip[0]
	st.beacon[0], st.beacon[i] = st.beacon[i], st.beacon[0]
	k.state.Store(st)
	return nil
}

// current drops what has ended and returns the state.
func (k *Keyring) current() *state {
	st := k.state.Load()
	now := k.now()
	if !slices.ContainsFunc(st.chain, func(e Entry) bool { return e.ended(now) }) {
		return st
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	st = k.state.Load()
	if err := k.set(st.all, st.seal); err != nil {
		return st // issuing certificates does not fail the second time
	}
	return k.state.Load()
}

// Node returns the id of this node.
func (k *Keyring) Node() string { return k.node }

// Chain returns the secrets that are taken now, the current one first.
func (k *Keyring) Chain() Chain { return k.current().chain }

// History returns the secrets that were ever taken, the current one first.
func (k *Keyring) History() Chain { return k.current().all }

// Submits reports whether this node's own certificate lets it submit tasks.
func (k *Keyring) Submits() bool {
	if k.pki != nil {
		peer, err := k.pki.verify([]*x509.Certificate{k.pki.cert.Leaf}, k.pki.intermediates()...)
		return err == nil && peer.Submit
	}
	return k.current().chain.Current().Full()
}

// Replace takes over what another node's chain has that this node has not: a newer
// secret, or an earlier end of one that was replaced; see Chain.Merge. It reports
// whether that was anything. Until Promote, gossip is still sealed with the key that
// it was sealed with.
func (k *Keyring) Replace(c Chain) (bool, error) { return k.change(c, Chain.Merge) }

// Reload is Replace for what the node's own file has, see Chain.Reload.
func (k *Keyring) Reload(c Chain) (bool, error) { return k.change(c, Chain.Reload) }

func (k *Keyring) change(c Chain, how func(_, c Chain) Chain) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	st := k.state.Load()
	if len(c) == 0 {
		return false, nil
	}
	if !st.all.Current().Full() {
		c = c.Tokens()
	}
	merged := how(st.all, c)
	switch {
	case merged.Equal(st.all):
		return false, nil
	case st.all.Current().Full() && slices.ContainsFunc(merged, func(e Entry) bool { return !e.Secret.Full() }):
		return false, errors.New("the new secret is a worker token, the one in force is not")
	}
	return true, k.set(merged, st.seal)
}

// Promote seals gossip with the current key from now on. It is called when the
// others have had time to learn it.
func (k *Keyring) Promote() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if st := k.state.Load(); st.seal.cluster != st.chain.Current().cluster {
		_ = k.set(st.all, st.chain.Current()) // these certificates were issued before
	}
}

// GossipKeys returns the keys of gossip: the first seals, any opens.
func (k *Keyring) GossipKeys() []GossipKey { return k.current().gossip }

// BeaconKeys returns the keys of beacons: the first seals, any opens.
func (k *Keyring) BeaconKeys() [][]byte { return k.current().beacon }

// maxGreeted is how many secrets a client names. A DNS name has 253 characters.
const maxGreeted = 6

// serverName is what a client greets with: the public ids of the secrets that it
// takes, by which the server finds a certificate to show that the client knows.
func (c Chain) serverName() string {
	var b strings.Builder
	for _, e := range c[:min(len(c), maxGreeted)] {
		b.WriteString(e.Secret.Cluster() + ".")
	}
	return b.String() + "scagent"
}

// base is what both sides' configurations have in common.
func base() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
}

// Server returns the configuration of a server. Gossip and links, which are the
// protocols other than http/1.1, demand a certificate. A client of http/1.1 may
// have none; who it is must then be asked otherwise, see CheckRequest.
func (k *Keyring) Server(protocols ...string) *tls.Config {
	outer := base()
	outer.NextProtos = protocols
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		st := k.current()
		c := base()
		c.NextProtos = protocols
		cert, err := k.certFor(st, hello)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{*cert}
		c.ClientAuth = tls.RequireAnyClientCert
		if len(hello.SupportedProtos) == 0 || slices.Contains(hello.SupportedProtos, "http/1.1") {
			c.ClientAuth = tls.RequestClientCert
			c.NextProtos = []string{"http/1.1"} // nothing else without a certificate
		}
		c.ClientCAs = k.pool(st)
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return nil // an HTTP client
			}
			_, err := k.verify(cs)
			return err
		}
		return c, nil
	}
	return outer
}

// certFor returns the certificate to show: that of the newest secret that the
// client named, else that of the current one. Programs such as curl compare it with what
// they call the node, so for them it says that: the name that they asked for, if it
// is one of this node's; where they asked for an address, which TLS does not tell,
// the address that they have reached and those of Config.Hosts.
func (k *Keyring) certFor(st *state, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	named := strings.Split(strings.ToLower(hello.ServerName), ".")
	for i, e := range st.chain {
		if slices.Contains(named, e.Secret.Cluster()) {
			return st.certs[i], nil
		}
	}
	if k.pki != nil {
		return st.certs[0], nil
	}
	var hosts []string
	if hello.ServerName == "" {
		if at, err := netip.ParseAddrPort(hello.Conn.LocalAddr().String()); err == nil {
			hosts = append(hosts, at.Addr().Unmap().WithZone("").String())
		}
	}
	for _, h := range k.hosts {
		_, err := netip.ParseAddr(h)
		if isAddr := err == nil; isAddr && hello.ServerName == "" || strings.EqualFold(h, hello.ServerName) {
			hosts = append(hosts, h)
		}
	}
	if len(hosts) == 0 {
		return st.certs[0], nil
	}
	by := strings.Join(hosts, " ")
	if cert, ok := st.named.Load(by); ok {
		return cert.(*tls.Certificate), nil
	}
	cert, err := st.chain.Current().certificate(k.key, hosts)
	if err == nil {
		st.named.Store(by, cert)
	}
	return cert, err
}

// pool names the authorities from which a client may show a certificate.
func (k *Keyring) pool(st *state) *x509.CertPool {
	if k.pki != nil {
		return k.pki.roots
	}
	p := x509.NewCertPool()
	for _, e := range st.chain {
		for _, a := range e.Secret.authorities() {
			p.AddCert(a.cert)
		}
	}
	return p
}

// Client returns the configuration for dialling the node with the id, or any of
// the cluster if it is empty, to speak protocol.
func (k *Keyring) Client(protocol, node string) *tls.Config {
	st := k.current()
	c := base()
	c.NextProtos = []string{protocol}
	c.ServerName = st.chain.serverName()
	c.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if k.pki != nil {
			return st.certs[0], nil
		}
		for i, e := range st.chain {
			for _, a := range e.Secret.authorities() {
				if (a.role == roleMaster) == e.Secret.Full() && slices.ContainsFunc(info.AcceptableCAs, a.isNamed) {
					return st.certs[i], nil
				}
			}
		}
		return st.certs[0], nil // it will be refused, with a reason
	}
	// What proves the server is not its name but its key: VerifyConnection is
	// what the standard verification is elsewhere.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		peer, err := k.verify(cs)
		if err == nil && node != "" && peer.Node != node {
			err = fmt.Errorf("node %s answers, want %s", peer.Node, node)
		}
		return err
	}
	return c
}

// verify checks the other side's certificates.
func (k *Keyring) verify(cs tls.ConnectionState) (Peer, error) {
	if len(cs.PeerCertificates) == 0 {
		return Peer{}, errors.New("it has no certificate")
	}
	if k.pki != nil {
		return k.pki.verify(cs.PeerCertificates)
	}
	for _, e := range k.current().chain {
		peer, err := e.Secret.verify(cs.PeerCertificates[0])
		if !errors.Is(err, errStranger) {
			return peer, err
		}
	}
	return Peer{}, errStranger
}

// PeerOf returns who is at the other end of a connection that Server or Client
// configured. A secret that has ended since the handshake does not count any more.
func (k *Keyring) PeerOf(c net.Conn) (Peer, error) {
	t, ok := c.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return Peer{}, errors.New("the connection is not TLS")
	}
	return k.verify(t.ConnectionState())
}

// PeerOfTLS is PeerOf for what HTTP servers know of a connection.
func (k *Keyring) PeerOfTLS(cs *tls.ConnectionState) (Peer, error) {
	if cs == nil {
		return Peer{}, errors.New("the connection is not TLS")
	}
	return k.verify(*cs)
}
