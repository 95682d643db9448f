package beacon_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/membership/beacon"
	"github.com/scagent/scagent/membership/beacon/beacontest"
)

// original is a map as sc-discovery's UDP client sends it.
func original(from string, services ...string) beacon.Packet {
	b := "{" + strings.Join(services, ",") + "}"
	return beacon.Packet{Data: []byte(b), From: netip.MustParseAddr(from), TTL: 1}
}

func worker(id, data string) string {
	return fmt.Sprintf(`%q:{"id":%q,"name":"worker","data":%s,"available":true}`, id, id, data)
}

// show makes a node show itself as services, and counts how often it was asked.
func show(cfg *beacon.Config, services ...beacon.Service) (asked func() int) {
	var mu sync.Mutex
	n := 0
	cfg.Services = func() []beacon.Service {
		mu.Lock()
		defer mu.Unlock()
		n++
		return services
	}
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// record makes a node record its calls of OnExternals.
func record(cfg *beacon.Config) (calls func() [][]beacon.External) {
	var mu sync.Mutex
	var all [][]beacon.External
	cfg.OnExternals = func(e []beacon.External) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, e)
	}
	return func() [][]beacon.External {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// maps returns the maps of services that nodes of ours send, from now on.
func maps(t *testing.T, net *beacontest.Network) <-chan beacon.Packet {
	t.Helper()
	c, err := net.Open(beacon.Options{Addr: netip.MustParseAddrPort("10.9.9.9:1")})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	out := make(chan beacon.Packet, 1000)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case p := <-c.Receive():
				if p.Data[0] == '{' && p.From.String() != "10.0.7.7" {
					out <- p
				}
			case <-done:
				return
			}
		}
	})
	t.Cleanup(func() { close(done); wg.Wait(); c.Close() })
	return out
}

func names(all []beacon.External) string {
	var ids []string
	for _, e := range all {
		ids = append(ids, e.ID)
	}
	return strings.Join(ids, " ")
}

func TestAnExternalIsListedUntilItIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, p := beacontest.New(), newPool()
		cfg := config(net, p, 1)
		calls := record(&cfg)
		b := start(t, cfg)
		begin := time.Now()
		net.Inject(original("10.0.7.7", worker("w:1", `{"port":3000,"x":[1]}`), `"m:1":{"id":"m:1","name":"master","available":false}`))
		synctest.Wait()
		want := []beacon.External{
			{ID: "m:1", Name: "master", Data: json.RawMessage("{}"), Addr: netip.MustParseAddrPort("10.0.7.7:0")},
			{ID: "w:1", Name: "worker", Data: json.RawMessage(`{"port":3000,"x":[1]}`), Available: true, Addr: netip.MustParseAddrPort("10.0.7.7:3000")},
		}
		if got := b.Externals(); !reflect.DeepEqual(got, want) {
			t.Errorf("Externals() = %+v, want %+v", got, want)
		}
		if got := calls(); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			t.Errorf("OnExternals was called with %+v, want once with %+v", got, want)
		}
		time.Sleep(3 * time.Second)
		net.Inject(original("10.0.7.7", worker("w:1", `{"port":3000,"x":[1]}`)))
		synctest.Wait()
		if got := calls(); len(got) != 1 {
			t.Errorf("%d calls although nothing has changed", len(got)-1)
		}
		time.Sleep(7500*time.Millisecond - 1 - time.Since(begin))
		synctest.Wait()
		if got := names(b.Externals()); got != "m:1 w:1" {
			t.Errorf("Externals() = %s just before 7.5 s, want both", got)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := names(b.Externals()); got != "w:1" {
			t.Errorf("Externals() = %s 7.5 s after the first map, want the renewed one", got)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := calls(); len(b.Externals()) != 0 || len(got) != 3 || names(got[1]) != "w:1" || len(got[2]) != 0 {
			t.Errorf("calls = %+v, want both to go one after the other", got)
		}
		if got := p.reports(); len(got) != 0 {
			t.Errorf("reported as strangers: %+v", got)
		}
		if s := b.Stats(); s.Maps != 2 || s.Malformed+s.OffLink+s.Limited != 0 {
			t.Errorf("stats are %+v, want two maps read", s)
		}
	})
}

func TestWhatChangesOfAnExternalIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := beacontest.New()
		cfg := config(net, newPool(), 1)
		calls := record(&cfg)
		start(t, cfg)
		for i, s := range []string{
			worker("w", `{"n":1}`),
			worker("w", `{"n":2}`),
			`"w":{"id":"w","name":"worker","data":{"n":2},"available":false}`,
			`"w":{"id":"w","name":"master","data":{"n":2},"available":false}`,
		} {
			net.Inject(original("10.0.7.7", s))
			time.Sleep(200 * time.Millisecond)
			if got := calls(); len(got) != i+1 {
				t.Errorf("%d calls after %s, want %d", len(got), s, i+1)
			}
		}
	})
}

// A host with two networks is heard from two addresses.
func TestAnIDIsItsFirstSenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := beacontest.New()
		b := start(t, config(net, newPool(), 1))
		net.Inject(original("10.0.7.7", worker("w", `1`)))
		time.Sleep(3 * time.Second)
		net.Inject(original("10.0.8.8", worker("w", `2`)))
		synctest.Wait()
		if got := b.Externals(); len(got) != 1 || got[0].Addr.Addr().String() != "10.0.7.7" || string(got[0].Data) != "1" {
			t.Errorf("Externals() = %+v, want what 10.0.7.7 said", got)
		}
		time.Sleep(4500 * time.Millisecond)
		net.Inject(original("10.0.8.8", worker("w", `2`)))
		synctest.Wait()
		if got := b.Externals(); len(got) != 1 || got[0].Addr.Addr().String() != "10.0.8.8" {
			t.Errorf("Externals() = %+v, want what 10.0.8.8 says since the other is silent", got)
		}
	})
}

func TestNodesShowThemselvesOnlyWhereTheyAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, p := beacontest.New(), newPool()
		out := maps(t, net)
		var asked []func() int
		var nodes []*beacon.Beacon
		for i := range 3 {
			cfg := config(net, p, i)
			asked = append(asked, show(&cfg, beacon.Service{Name: "worker", Data: json.RawMessage(`{"gpu":1}`), Available: true}, beacon.Service{Name: "master"}))
			nodes = append(nodes, start(t, cfg))
		}
		time.Sleep(time.Minute)
		if got := len(out); got != 3*4 {
			t.Errorf("%d maps in a minute without a reader, want 4 of each node in its first 10 s", got)
		}
		first := <-out
		var got map[string]map[string]any
		if err := json.Unmarshal(first.Data, &got); err != nil || len(got) != 2 {
			t.Fatalf("sent %s, want a map of two services: %v", first.Data, err)
		}
		for len(out) > 0 {
			<-out
		}
		for _, w := range []map[string]any{
			{"name": "worker", "data": map[string]any{"gpu": 1.0}, "available": true},
			{"name": "master", "data": map[string]any{}, "available": false},
		} {
			node := "n" + strings.TrimPrefix(first.From.String(), "10.0.0.")
			w["id"], w["scagent"] = fmt.Sprint(w["name"], ":", node), node
			if g := got[w["id"].(string)]; !reflect.DeepEqual(g, w) {
				t.Errorf("sent %v, want %v", g, w)
			}
		}

		net.Inject(original("10.0.7.7")) // someone listens
		time.Sleep(500 * time.Millisecond)
		if got := len(out); got != 3 {
			t.Errorf("%d maps half a second after a reader was heard, want one of each node", got)
		}
		time.Sleep(10 * time.Minute)
		if got := len(out) / 3; got < 20 || got > 21 {
			t.Errorf("%d maps of each node after a reader was heard once, want one every 3 s for a minute", got)
		}
		for i, b := range nodes {
			if s := b.Stats(); len(b.Externals()) != 0 || s.MapsSent != uint64(asked[i]()) || s.Limited+s.Malformed != 0 {
				t.Errorf("node %d: externals %+v, stats %+v; want it to know its own kind", i, b.Externals(), s)
			}
		}
	})
}

func TestANodeThatShowsNothingDoesNotPassForAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, p := beacontest.New(), newPool()
		out := maps(t, net)
		cfg := config(net, p, 1)
		show(&cfg)
		start(t, cfg)
		start(t, config(net, p, 2)) // Services is nil
		net.Inject(original("10.0.7.7"))
		time.Sleep(time.Minute)
		if got := len(out); got != 0 {
			t.Errorf("%d maps sent, want none", got)
		}
	})
}

func TestWithASecretMapsAreNeitherSentNorRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := beacontest.New()
		out := maps(t, net)
		cfg := config(net, newPool(), 1)
		cfg.Keys = func() [][]byte { return [][]byte{[]byte("0123456789abcdef")} }
		asked := show(&cfg, beacon.Service{Name: "worker"})
		calls := record(&cfg)
		b := start(t, cfg)
		p := original("10.0.7.7", worker("w", "{}"))
		p.TTL = 255
		net.Inject(p)
		time.Sleep(time.Minute)
		if len(out) != 0 || asked() != 0 || len(calls()) != 0 || len(b.Externals()) != 0 {
			t.Errorf("%d maps sent, %d times asked, externals %+v; want nothing of that", len(out), asked(), b.Externals())
		}
		if s := b.Stats(); s.Malformed != 1 || s.Maps != 0 {
			t.Errorf("stats are %+v, want the map dropped", s)
		}
	})
}

func TestAFloodOfMapsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := beacontest.New()
		cfg := config(net, newPool(), 1)
		calls := record(&cfg)
		b := start(t, cfg)
		var last time.Time
		for i := range 2000 {
			net.Inject(original("10.0.7.7", worker(fmt.Sprint("w", i), "{}")))
			synctest.Wait()
			last = time.Now()
		}
		if got := len(b.Externals()); got != 1000 {
			t.Errorf("%d externals, want 1000", got)
		}
		if s := b.Stats(); s.Maps != 1000 || s.Limited != 1000 {
			t.Errorf("stats are %+v, want 1000 maps a second read", s)
		}
		time.Sleep(time.Second)
		net.Inject(original("10.0.7.7", worker("late", "{}"), worker("w1", "{}")))
		synctest.Wait()
		if got := b.Externals(); len(got) != 1000 || b.Stats().Limited != 1001 {
			t.Errorf("%d externals, stats %+v; want no room for another", len(got), b.Stats())
		}
		if got := len(calls()); got != 2 {
			t.Errorf("%d calls of OnExternals for a flood within 100 ms, want 2", got)
		}
		time.Sleep(7500*time.Millisecond - time.Since(last))
		net.Inject(original("10.0.7.7", worker("late", "{}")))
		synctest.Wait()
		if got := names(b.Externals()); got != "late w1" {
			t.Errorf("Externals() = %s after the flood is over, want the late one and the renewed one", got)
		}
	})
}

func TestCloseWaitsForOnExternals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := beacontest.New()
		cfg := config(net, newPool(), 1)
		entered, leave := make(chan bool), make(chan bool)
		cfg.OnExternals = func([]beacon.External) { entered <- true; <-leave }
		b := start(t, cfg)
		net.Inject(original("10.0.7.7", worker("w", "{}")))
		<-entered
		closed := make(chan bool)
		go func() { b.Close(); close(closed) }()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close returned during a call of OnExternals")
		default:
		}
		close(leave)
		<-closed
	})
}
