package scdiscovery

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scagent/scagent/membership/beacon"
	"github.com/scagent/scagent/membership/tracker"
)

const patience = 20 * time.Second

// lack skips the test for want of something.
func lack(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("SCAGENT_TEST_NO_SKIP") != "" {
		t.Fatalf("this machine lacks %s, and nothing may be skipped", what)
	}
	t.Skipf("SKIPPED: this machine lacks %s", what)
}

// seen is a line that the client prints.
type seen struct {
	Event, ID, Name string
	Data            json.RawMessage
	Rinfo           struct {
		Address, Family string
		Port            int
	}
}

// client is a client.js that runs.
type client struct {
	t     *testing.T
	lines <-chan seen // closed when it has ended
	stop  func()      // ends it and waits
}

// run starts the client.
func run(t *testing.T, args ...string) *client {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		lack(t, "node, to run a client of sc-discovery's protocol")
	}
	cmd := exec.Command(node, append([]string{"client.js"}, args...)...)
	var wrong strings.Builder
	cmd.Stderr = &wrong
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan seen, 1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			var l seen
			if err := json.Unmarshal(s.Bytes(), &l); err != nil {
				t.Errorf("the client printed %q: %v", s.Text(), err)
			}
			lines <- l
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("client.js %q: %v\n%s", args, err, &wrong)
		}
	}()
	stop := func() { in.Close(); <-ended }
	t.Cleanup(stop)
	return &client{t: t, lines: lines, stop: stop}
}

// await returns the next line, which must be of an event of a service.
func (c *client) await(event, id string) seen {
	c.t.Helper()
	select {
	case l, ok := <-c.lines:
		if !ok {
			c.t.Fatalf("the client ended; want it to print %s %s", event, id)
		}
		if l.Event != event || l.ID != id {
			c.t.Fatalf("the client printed %+v; want %s %s", l, event, id)
		}
		return l
	case <-time.After(patience):
		c.t.Fatalf("the client did not print %s %s within %v", event, id, patience)
	}
	panic("not reached")
}

// first returns the first two lines, by event and id: JSON keeps no order, nor
// does the network.
func (c *client) first() map[string]seen {
	c.t.Helper()
	got := map[string]seen{}
	for timeout := time.After(patience); len(got) < 2; {
		select {
		case l, ok := <-c.lines:
			if !ok {
				c.t.Fatalf("the client ended after it had printed %+v", got)
			}
			got[l.Event+" "+l.ID] = l
		case <-timeout:
			c.t.Fatalf("the client printed only %+v within %v", got, patience)
		}
	}
	return got
}

func TestAClientAndATrackerFindEachOther(t *testing.T) {
	t.Parallel()
	var members atomic.Pointer[[]tracker.Host]
	set := func(hosts ...tracker.Host) { members.Store(&hosts) }
	n1 := tracker.Host{ID: "n1", Name: "box", Addr: "10.0.0.1", Port: 44201, Roles: []string{"worker"}, Data: json.RawMessage(`{"gpu":1}`), Available: true}
	set(n1)
	h := tracker.NewHandler(tracker.Config{Members: func() []tracker.Host { return *members.Load() }})
	s := httptest.NewServer(h)
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := run(t, "http", u.Hostname(), u.Port(), "50", `{"id":"master:js","name":"master","data":{"port":3000},"available":true}`)

	got := c.first()
	w := got["available worker:n1"]
	if w.Name != "worker" || string(w.Data) != `{"gpu":1}` || w.Rinfo.Address != "10.0.0.1" || w.Rinfo.Family != "IPv4" || w.Rinfo.Port != 44201 {
		t.Errorf("the client saw %+v, want the worker of the pool", got)
	}
	if e := got["echo master:js"]; e.Rinfo.Address != "127.0.0.1" || e.Rinfo.Family != "IPv4" || e.Rinfo.Port == 0 {
		t.Errorf("the client saw %+v, want its own service from where it announced it", got)
	}
	a := h.Announced()
	if len(a) != 1 || a[0].ID != "master:js" || a[0].HostPort() != "127.0.0.1:3000" || !a[0].External || len(a[0].Roles) != 1 || a[0].Roles[0] != "master" {
		t.Errorf("Announced() = %+v, want the master of the client", a)
	}
	hosts, err := tracker.List(t.Context(), s.Client(), s.URL)
	if err != nil || len(hosts.Masters) != 1 || hosts.Masters[0].HostPort() != "127.0.0.1:3000" || len(hosts.Workers) != 1 || hosts.Workers[0].ID != "n1" {
		t.Errorf("List = %+v, %v; want the client among the masters and n1 among the workers", hosts, err)
	}

	busy := n1
	busy.Available = false
	set(busy)
	c.await("unavailable", "worker:n1")
	set(n1)
	c.await("available", "worker:n1")
	changed := n1
	changed.Data = json.RawMessage(`{"gpu":2}`)
	set(changed)
	if l := c.await("update", "worker:n1"); string(l.Data) != `{"gpu":2}` {
		t.Errorf("the client saw the data %s, want it changed", l.Data)
	}
	set()
	c.await("unavailable", "worker:n1")
}

// loopback returns the loopback interface, and a UDP port that nobody uses.
func loopback(t *testing.T) (name string, port uint16) {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 && i.Flags&net.FlagUp != 0 {
			name = i.Name
		}
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil || name == "" {
		lack(t, "a loopback interface that is up")
	}
	defer c.Close()
	return name, c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

func TestAClientAndABeaconHearEachOther(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		lack(t, "sockets that can be bound to a multicast group, so that a beacon hears")
	}
	lo, port := loopback(t)
	var available atomic.Bool
	available.Store(true)
	changes := make(chan []beacon.External, 100)
	b, err := beacon.New(beacon.Config{
		Cluster: "test", Node: "n1", Boot: "1", Name: "box", Addr: netip.MustParseAddrPort("127.0.0.1:44201"),
		Known: func(string) bool { return false }, OnStranger: func(beacon.Heard) {},
		Services: func() []beacon.Service {
			return []beacon.Service{{Name: "worker", Data: json.RawMessage(`{"gpu":1}`), Available: available.Load()}}
		},
		OnExternals: func(e []beacon.External) { changes <- e },
		Network:     beacon.MulticastPort(port), Interfaces: []string{lo},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c := run(t, "udp", "127.0.0.1", strconv.Itoa(int(port)), "3000", `{"id":"master:js","name":"master","data":{"port":3000},"available":true}`)

	heard := func() []beacon.External {
		t.Helper()
		select {
		case e := <-changes:
			return e
		case <-time.After(patience):
			t.Fatalf("nothing has changed within %v; stats %+v", patience, b.Stats())
		}
		panic("not reached")
	}
	e := heard()
	if len(e) != 1 || e[0].ID != "master:js" || e[0].Name != "master" || string(e[0].Data) != `{"port":3000}` || !e[0].Available || e[0].Addr.String() != "127.0.0.1:3000" {
		t.Errorf("the beacon heard %+v, want the master of the client", e)
	}
	got := c.first()
	l := got["available worker:n1"]
	if l.Name != "worker" || string(l.Data) != `{"gpu":1}` || l.Rinfo.Address != "127.0.0.1" || l.Rinfo.Port != int(port) {
		t.Errorf("the client heard %+v, want the worker of the node", got)
	}
	available.Store(false)
	c.await("unavailable", "worker:n1")
	c.stop()
	for e = heard(); len(e) > 0 || len(b.Externals()) > 0; e = heard() { // it was late once, and heard again
	}
	if s := b.Stats(); s.Malformed+s.OffLink+s.Limited != 0 {
		t.Errorf("stats are %+v, want nothing dropped", s)
	}
}
