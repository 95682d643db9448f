package agent_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/membership/beacon"
	"github.com/scagent/scagent/membership/beacon/beacontest"
	"github.com/scagent/scagent/membership/seal"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

// caller is who comes to the door: a node with a secret, or with none.
type caller struct {
	keys   *secret.Keyring // nil: none
	secret *secret.Secret  // likewise
}

// host is the agent that is called, in a secured pool and with every role.
type host struct {
	*agent.Agent
	group      *beacontest.Network
	cluster    string
	addr       string
	name       string // in gossip
	secretFile string
	socket     string // of the local API
	token      string // for it over TCP
}

// door is a way in.
type door struct {
	name string
	// in reports whether the caller got in. It returns when that is decided, by an
	// answer or by the host's own count of what it refused.
	in func(t *testing.T, h *host, c *caller) bool
}

var doors = append([]door{
	{"gossip UDP", byPacket},
	{"gossip TCP", byStream},
	{"link", func(t *testing.T, h *host, c *caller) bool { return byLink(t, h, c, nil) }},
	{"task over a link", func(t *testing.T, h *host, c *caller) bool {
		task := &tasks.Task{Kind: tasks.JS, Source: "() => 1"}
		return byLink(t, h, c, task)
	}},
	{"tracker REST with a certificate", func(t *testing.T, h *host, c *caller) bool {
		return byHTTP(t, h, c, "GET", "/hostsAvailable", true, nil) != ""
	}},
	{"tracker REST with a signature", func(t *testing.T, h *host, c *caller) bool {
		return byHTTP(t, h, c, "GET", "/hostsAvailable", false, nil) != ""
	}},
	{"tracker REST, announcing", func(t *testing.T, h *host, c *caller) bool {
		return byHTTP(t, h, c, "POST", "/hostsAvailable", false, []byte(`{"addr":"10.9.9.9","port":1,"role":"worker"}`)) != ""
	}},
	{"content with a certificate", func(t *testing.T, h *host, c *caller) bool {
		return byHTTP(t, h, c, "GET", blobOf(t, h), true, nil) == "contents"
	}},
	{"content with a signature", func(t *testing.T, h *host, c *caller) bool {
		return byHTTP(t, h, c, "GET", blobOf(t, h), false, nil) == "contents"
	}},
	{"the secret itself", func(t *testing.T, h *host, c *caller) bool {
		return strings.Contains(byHTTP(t, h, c, "GET", "/scagent/v1/secret", true, nil), "sck1-")
	}},
	{"a task with a certificate", func(t *testing.T, h *host, c *caller) bool {
		return strings.Contains(byHTTP(t, h, c, "GET", taskOf(t, h), true, nil), `"kind":"function"`)
	}},
	{"a task with a signature", func(t *testing.T, h *host, c *caller) bool {
		return strings.Contains(byHTTP(t, h, c, "GET", taskOf(t, h), false, nil), `"kind":"function"`)
	}},
	{"cancelling a task", func(t *testing.T, h *host, c *caller) bool {
		return byHTTP(t, h, c, "POST", taskOf(t, h)+"/cancel", true, nil) != ""
	}},
	{"what a run does", func(t *testing.T, h *host, c *caller) bool {
		path := strings.Replace(taskOf(t, h), "/tasks/", "/runs/", 1) + "/events"
		return strings.Contains(byHTTP(t, h, c, "GET", path, true, nil), `"result"`)
	}},
	{"events with a certificate", func(t *testing.T, h *host, c *caller) bool {
		return byHTTP(t, h, c, "GET", bus.Path+"log?from=1&boot="+h.Self().Boot, true, nil) != ""
	}},
	{"events with a signature", func(t *testing.T, h *host, c *caller) bool {
		return byHTTP(t, h, c, "GET", bus.Path+"log?from=1&boot="+h.Self().Boot, false, nil) != ""
	}},
	{"beacon", byBeacon},
}, localAPI...)

// matrix says who gets in where: y or n for each of the doors, in their order.
var matrix = []struct {
	name string
	gets string
	make func(now, old *secret.Secret) *secret.Secret
}{
	{"no secret", "nnnnnnnnnnnnnnnnnynyn", func(_, _ *secret.Secret) *secret.Secret { return nil }},
	{"right", "yyyyyyyynyynyyynyynyn", func(now, _ *secret.Secret) *secret.Secret { return now }},
	{"wrong", "nnnnnnnnnnnnnnnnnynyn", func(_, _ *secret.Secret) *secret.Secret { return secret.New() }},
	{"worker-only", "yyynyyyynnnnnnynyynyn", func(now, _ *secret.Secret) *secret.Secret { return now.Token() }},
	{"rotated-out", "nnnnnnnnnnnnnnnnnynyn", func(_, old *secret.Secret) *secret.Secret { return old }},
	{"worker-only, rotated-out", "nnnnnnnnnnnnnnnnnynyn", func(_, old *secret.Secret) *secret.Secret { return old.Token() }},
}

// TestWhoGetsInWhere tries every door of an agent in a secured pool with every
// kind of credentials.
func TestWhoGetsInWhere(t *testing.T) {
	now, old := secret.New(), secret.New()
	h := secured(t, secret.Chain{{Secret: now}, {Secret: old, Until: time.Now().Add(-time.Minute)}})
	for _, row := range matrix {
		if len(row.gets) != len(doors) {
			t.Fatalf("row %q has %d cells, want %d", row.name, len(row.gets), len(doors))
		}
		for i, d := range doors {
			t.Run(row.name+"/"+d.name, func(t *testing.T) {
				c := &caller{secret: row.make(now, old)}
				if c.secret != nil {
					_, key, err := ed25519.GenerateKey(rand.Reader)
					if err != nil {
						t.Fatal(err)
					}
					if c.keys, err = secret.NewKeyring(secret.Config{Chain: secret.Chain{{Secret: c.secret}}, Key: key}); err != nil {
						t.Fatal(err)
					}
				}
				if got, want := d.in(t, h, c), row.gets[i] == 'y'; got != want {
					t.Errorf("got in: %t, want %t", got, want)
				}
			})
		}
	}
	if n := len(h.Members()); n != 1 {
		t.Errorf("the pool has %d members, want the host alone: %+v", n, h.Members())
	}
}

// secured starts the host on loopback.
func secured(t *testing.T, chain secret.Chain) *host {
	t.Helper()
	cfg := agent.DefaultConfig()
	cfg.SecretFile = filepath.Join(t.TempDir(), "secret")
	if err := chain.Save(cfg.SecretFile); err != nil {
		t.Fatal(err)
	}
	h := &host{group: beacontest.New(), cluster: "matrix-" + rand.Text()}
	cfg.Name, cfg.Temporary, cfg.Cluster, cfg.Bind, cfg.BeaconNetwork = "host", true, h.cluster, "127.0.0.1:0", h.group
	cfg.HTTP = "127.0.0.1:0"
	cfg.Roles = []membership.Role{membership.RoleWorker, membership.RoleMaster, membership.RoleTracker}
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	self := a.Self()
	h.Agent, h.addr, h.name, h.secretFile = a, self.AddrPort.String(), self.ID+"."+self.Boot, cfg.SecretFile
	h.openAPI(t)
	return h
}

// refused sums the counts of one kind of refusal.
func (h *host) refused(prefix string) (n uint64) {
	for k, v := range h.Info().Counters {
		if strings.HasPrefix(k, prefix) {
			n += v
		}
	}
	return n
}

// decided waits until one of two things is so, and says which.
func decided(t *testing.T, yes, no func() bool) bool {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if yes() {
			return true
		}
		if no() {
			return false
		}
	}
	t.Fatal("the host neither let the caller in nor counted a refusal")
	return false
}

// ping is memberlist's, for the host, with the cluster's label in front.
func (h *host) ping(t *testing.T, from netip.AddrPort) []byte {
	t.Helper()
	label := "scagent/" + h.cluster
	b := bytes.NewBuffer(append([]byte{244, byte(len(label))}, label...))
	b.WriteByte(0)
	err := codec.NewEncoder(b, &codec.MsgpackHandle{}).Encode(map[string]any{
		"SeqNo": 7, "Node": h.name, "SourceAddr": from.Addr().AsSlice(), "SourcePort": from.Port(), "SourceNode": strings.Repeat("a", 26) + ".1",
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func byPacket(t *testing.T, h *host, c *caller) bool {
	s, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := h.ping(t, s.LocalAddr().(*net.UDPAddr).AddrPort())
	var sealer *seal.Sealer
	if c.keys != nil {
		sealer = seal.New(c.keys.Node(), 1, func() []seal.Key {
			k := c.keys.GossipKeys()[0]
			return []seal.Key{{Tag: k.Tag, Secret: k.Secret}}
		})
		b = sealer.Seal(nil, b, h.Self().AddrPort)
	}
	before := h.refused("gossip_refused_packet_")
	to, err := net.ResolveUDPAddr("udp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteTo(b, to); err != nil {
		t.Fatal(err)
	}
	return decided(t, func() bool {
		buf := make([]byte, 2000)
		s.SetReadDeadline(time.Now().Add(time.Millisecond))
		n, _, err := s.ReadFrom(buf)
		if err != nil || sealer == nil {
			return err == nil
		}
		_, err = sealer.Open(nil, buf[:n], s.LocalAddr().(*net.UDPAddr).AddrPort())
		return err == nil
	}, func() bool { return h.refused("gossip_refused_packet_") > before })
}

// connect dials the host as what the caller is: with the certificate of its
// secret, or with none.
func (c *caller) connect(t *testing.T, h *host, sort port.Sort, certificate bool) (net.Conn, error) {
	t.Helper()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{sort.ALPN()}}}
	if c.keys != nil && certificate {
		d.Config = c.keys.Client(sort.ALPN(), h.Self().ID)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", h.addr)
	if err == nil {
		conn.SetDeadline(time.Now().Add(10 * time.Second))
	}
	return conn, err
}

func byStream(t *testing.T, h *host, c *caller) bool {
	dials := []func() (net.Conn, error){func() (net.Conn, error) { return c.connect(t, h, port.SortGossip, true) }}
	if c.keys == nil {
		dials = append(dials, func() (net.Conn, error) { return net.Dial("tcp", h.addr) })
	}
	for _, dial := range dials {
		conn, err := dial()
		if err != nil {
			continue
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write(h.ping(t, netip.MustParseAddrPort("127.0.0.1:1"))); err != nil {
			continue
		}
		if n, _ := conn.Read(make([]byte, 1)); n > 0 {
			return true
		}
	}
	return false
}

// answers notes what a worker says to a master.
type answers struct {
	wire.FromWorker
	mu  sync.Mutex
	all []string
}

func (a *answers) note(s string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, s)
}

func (a *answers) Accept(*wire.Link, wire.Key, bool)                       { a.note("accepted") }
func (a *answers) Reject(_ *wire.Link, _ wire.Key, _ tasks.Code, _ string) { a.note("rejected") }
func (a *answers) Started(*wire.Link, wire.Key)                            { a.note("started") }
func (a *answers) Output(*wire.Link, wire.Key, wire.Stream, []byte)        {}
func (a *answers) Result(_ *wire.Link, _ wire.Key, o *tasks.Outcome) {
	a.note("result " + string(o.Value))
}

func (a *answers) has(s string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.all {
		if one == s {
			return true
		}
	}
	return false
}

// byLink greets, and with a task offers it too: got in means that its result came.
func byLink(t *testing.T, h *host, c *caller, task *tasks.Task) bool {
	node := strings.Repeat("b", 26)
	if c.keys != nil {
		node = c.keys.Node()
	}
	said := &answers{}
	hub, err := wire.NewHub(wire.Config{
		Self:   wire.Hello{Node: node, Boot: "1", Cluster: h.cluster, Name: "caller"},
		Master: said, Lease: 10 * time.Second,
		Dial: func(context.Context, string) (net.Conn, error) { return c.connect(t, h, port.SortLink, true) },
	})
	if err != nil {
		t.Fatal(err)
	}
	hub.Start()
	defer hub.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	l, err := hub.Connect(ctx, h.Self().ID)
	if err != nil || task == nil {
		return err == nil
	}
	forbidden := h.refused("links_forbidden")
	if err := l.SendOffer(&wire.Offer{Key: wire.Key{Task: tasks.ID{1}, N: 1}, Slots: 1, Spec: wire.AppendTask(nil, task)}); err != nil {
		t.Fatal(err)
	}
	return decided(t, func() bool { return said.has("result 1") }, func() bool { return h.refused("links_forbidden") > forbidden })
}

func blobOf(t *testing.T, h *host) string {
	t.Helper()
	hash, _, err := h.PutBlob(t.Context(), strings.NewReader("contents"))
	if err != nil {
		t.Fatal(err)
	}
	return "/scagent/v1/blob/" + hash
}

// taskOf is where others ask about a task of the host.
func taskOf(t *testing.T, h *host) string {
	t.Helper()
	run, err := h.Submit(t.Context(), submission(tasks.Task{Kind: tasks.Function, Name: "scagent.noop"}, tasks.Any()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return "/scagent/v1/tasks/" + run.Tasks()[0].ID.String()
}

// byHTTP returns the answer to a request, empty if it was refused. It comes with
// the caller's certificate, or with its signature.
func byHTTP(t *testing.T, h *host, c *caller, method, path string, certificate bool, body []byte) string {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			return c.connect(t, h, port.SortHTTP, certificate)
		},
	}}
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+h.addr+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if c.secret != nil && !certificate {
		req.Header.Set("Authorization", c.secret.SignRequest(method, path, body, time.Now()))
	}
	res, err := client.Do(req)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		if res.StatusCode != http.StatusUnauthorized && res.StatusCode != http.StatusForbidden {
			t.Errorf("%s %s: %s %q, want 200, 401 or 403", method, path, res.Status, b)
		}
		return ""
	}
	return string(b)
}

// byBeacon announces a node: got in means that the host takes it for one to join.
func byBeacon(t *testing.T, h *host, c *caller) bool {
	cfg := beacon.Config{
		Cluster: h.cluster, Node: strings.Repeat("c", 26), Boot: "1", Name: "caller", Addr: netip.MustParseAddrPort("127.0.0.1:9"),
		Network: h.group, Known: func(string) bool { return true }, OnStranger: func(beacon.Heard) {},
	}
	if c.keys != nil {
		cfg.Node, cfg.Keys = c.keys.Node(), c.keys.BeaconKeys
	}
	b, err := beacon.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	strangers, refused := h.refused("beacon_strangers"), h.refused("beacon_refused")
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	return decided(t, func() bool { return h.refused("beacon_strangers") > strangers }, func() bool { return h.refused("beacon_refused") > refused })
}
