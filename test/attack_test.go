//go:build linux

package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// An attacker is this very program, started again on a host of the lab. It does
// what its orders say for as long as they say, at the rates that the attacks have,
// writes down what victims let it read, and ends by itself.

// ordersVariable has the orders of an attacker in its environment.
const ordersVariable = "SCAGENT_TEST_ORDERS"

// orders are what an attacker is to do, and what it knows: as much as anybody can
// find out who listens on the network, and the names that nodes have in gossip,
// which only members know.
type orders struct {
	Attacks []string // keys of attacks
	Victims []victim
	From    []string // addresses of the attacker's host, the first its own
	TTL     int      // of what announce sends
	Answers int      // to packets, for which knock waits
	Cluster string
	For     time.Duration
	Heard   string // file for what victims let it read; certificates go into another, see certificatesOf
	Mark    string // file that tasks of the attacker would make
}

type victim struct {
	Addr   netip.AddrPort
	ID     string
	Gossip string // its name in gossip
}

// attacks by name. Each goes on until ctx ends, or is done before.
var attacks = map[string]func(a *attacker, ctx context.Context) error{}

// attacker is the process's own view of itself.
type attacker struct {
	orders

	mu           sync.Mutex // guards the fields below
	did          map[string]int
	heard        *os.File
	certificates *os.File
}

// count notes that something was done.
func (a *attacker) count(what string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.did[what] += n
}

// hear notes what a victim let the attacker read.
func (a *attacker) hear(b []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.did["bytes heard"] += len(b)
	a.heard.Write(append(b, '\n'))
}

// see notes a certificate that a victim showed.
func (a *attacker) see(der []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.did["certificates seen"]++
	a.certificates.Write(append(der, '\n'))
}

// pace calls f about so many times a second until ctx ends or f fails.
func pace(ctx context.Context, perSecond int, f func(i int) error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	begin, n := time.Now(), 0
	for {
		for due := int(time.Since(begin).Seconds() * float64(perSecond)); n < due; n++ {
			if err := f(n); err != nil || ctx.Err() != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// asAttacker is what TestMain does in an attacker: it reports on standard output.
func asAttacker(text string) int {
	a := &attacker{did: map[string]int{}}
	if err := json.Unmarshal([]byte(text), &a.orders); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	for path, f := range map[string]**os.File{a.Heard: &a.heard, certificatesOf(a.Heard): &a.certificates} {
		var err error
		if *f, err = os.Create(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.For)
	defer cancel()
	var wg sync.WaitGroup
	for _, name := range a.Attacks {
		wg.Go(func() {
			if err := attacks[name](a, ctx); err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
				cancel()
			}
		})
	}
	wg.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	json.NewEncoder(os.Stdout).Encode(a.did)
	if err := errors.Join(a.heard.Close(), a.certificates.Close()); err != nil || ctx.Err() == context.Canceled {
		return 1
	}
	return 0
}

// attack starts an attacker on the host. What victims let it read goes into the
// file of its orders.
func (h *host) attack(o orders) *process {
	h.lab.t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		h.lab.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		h.lab.t.Fatal(err)
	}
	cmd := h.Command(self)
	cmd.Env = append(cmd.Env, ordersVariable+"="+string(text))
	return start(h.lab.t, cmd)
}

// attacked waits for the end of an attacker, and returns what it says it did.
func attacked(t testing.TB, p *process, limit time.Duration) map[string]int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.signal(syscall.SIGQUIT)
		<-p.done
		t.Fatalf("the attacker has not ended after %v:\n%s", limit, p.err)
	}
	if r := p.await(); r.status != 0 {
		t.Fatalf("the attacker failed: %s", r)
	}
	return decode[map[string]int](t, p.out.String())
}

// victim is the agent as an attacker knows it.
func (a *agent) victim(t testing.TB) victim {
	t.Helper()
	line := a.err.await(t, "membership: started:")
	var id, boot string
	for _, f := range fieldsOf(line) {
		switch f[0] {
		case "id":
			id = f[1]
		case "boot":
			boot = f[1]
		}
	}
	return victim{Addr: netip.MustParseAddrPort(a.addr), ID: id, Gossip: id + "." + boot}
}

// allAttacks are the names of all attacks but those named.
func allAttacks(but ...string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(attacks)), func(s string) bool { return slices.Contains(but, s) })
}

// certificatesOf is the file for the certificates beside that for what was heard.
func certificatesOf(heard string) string { return heard + ".certificates" }

// fieldsOf returns the key=value pairs of a line of the log.
func fieldsOf(line string) (all [][2]string) {
	for _, w := range strings.Fields(line) {
		if k, v, ok := strings.Cut(w, "="); ok {
			all = append(all, [2]string{k, v})
		}
	}
	return all
}
