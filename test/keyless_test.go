//go:build linux

package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// canary is in what only members of a secured pool may know: their names and data.
const canary = "canary5f0c9d"

// siegeTime is how long pools are attacked.
func siegeTime() time.Duration {
	if os.Getenv("SCAGENT_TEST_LONG") != "" {
		return time.Minute
	}
	return 10 * time.Second
}

// siege is a pool of three hosts, and a fourth from whose network card everything
// on their network can be heard.
type siege struct {
	*lab
	pool    []*agent
	visitor *host // has no agent
	enemy   *host
	quiet   []*agent // a pool on another network, which nobody attacks
	flags   []string // of every member, and of commands without an agent
}

// besieged makes the pool.
func besieged(t *testing.T, flags ...string) *siege {
	s := &siege{lab: newLab(t), flags: flags}
	var hosts []*host
	for range 5 {
		hosts = append(hosts, s.host())
	}
	bridge := s.connect("10.77.0", hosts...)
	bridge.sh("ip link set bridge type bridge ageing_time 0").ok(t) // forgets at once who is where, and tells all everything
	s.visitor, s.enemy = hosts[3], hosts[4]
	s.enemy.ttl(255)
	for i, role := range []string{"worker,master,tracker", "worker,master", "worker,master"} {
		args := append([]string{"-name", fmt.Sprintf("%s-%d", canary, i), "-role", role, "-slots", "4", "-data", fmt.Sprintf(`{"key":"%s-data"}`, canary)}, flags...)
		s.pool = append(s.pool, hosts[i].agent(args...))
	}
	for i, h := range s.hosts(2) {
		s.quiet = append(s.quiet, h.agent(append([]string{"-name", fmt.Sprintf("quiet-%d", i), "-slots", "4"}, flags...)...))
	}
	assemble(t, patience, s.pool...)
	assemble(t, patience, s.quiet...)
	return s
}

// orders are those of the enemy.
func (s *siege) orders(attacks ...string) orders {
	o := orders{Attacks: attacks, Cluster: "default", For: siegeTime(), Heard: filepath.Join(s.dir, "heard"), Mark: filepath.Join(s.dir, "ran"), From: []string{"10.77.0.5"}}
	for i := range 19 {
		alias := fmt.Sprintf("10.77.0.%d", 100+i)
		s.enemy.sh("ip addr add " + alias + "/24 dev eth0").ok(s.t)
		o.From = append(o.From, alias)
	}
	for _, a := range s.pool {
		o.Victims = append(o.Victims, a.victim(s.t))
	}
	return o
}

// work submits tasks until stop is closed, from each member to another, now and
// then one with contents that travel by themselves, and from the host without an
// agent. It returns how long the plain ones took, and how long one in the quiet pool
// took after each: what that one lacks as well, the attack takes from the machine.
func (s *siege) work(stop <-chan struct{}) (took, quiet []time.Duration) {
	s.t.Helper()
	input := s.file("input", strings.Repeat("x", 200<<10))
	for i := 0; ; i++ {
		select {
		case <-stop:
			return took, quiet
		default:
		}
		from, to := s.pool[i%3], s.pool[(i+1+i/3%2)%3].name
		switch i % 10 {
		case 8:
			from.call("submit", "-on", to, "-in", input, "--", "wc", "-c", "input").want(s.t, 0, "204800 input\n")
		case 9:
			args := append([]string{"submit", "-on", to, "-join", "10.77.0.1"}, s.flags...)
			s.visitor.scagent(append(args, "--", "echo", "hi")...).want(s.t, 0, "hi\n")
		default:
			took = append(took, from.call("submit", "-on", to, "--", "echo", "hi").want(s.t, 0, "hi\n").took)
			quiet = append(quiet, s.quiet[i%2].call("submit", "-on", s.quiet[1-i%2].name, "--", "echo", "hi").want(s.t, 0, "hi\n").took)
		}
	}
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

// memory is what a process has resident, and the most that it had since forgetPeak;
// what its collector has not freed yet is in it.
func memory(t testing.TB, pid int) (now, peak int64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		for name, to := range map[string]*int64{"VmRSS:": &now, "VmHWM:": &peak} {
			if rest, ok := strings.CutPrefix(line, name); ok {
				fmt.Sscan(rest, to)
				*to <<= 10
			}
		}
	}
	return now, peak
}

// forgetPeak makes the kernel forget how much a process had resident.
func forgetPeak(t testing.TB, pid int) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// TestAKeylessHostDoesNothingToASecuredPool has a host on the network of a secured
// pool hear all that passes there, and do all that it can without the secret.
func TestAKeylessHostDoesNothingToASecuredPool(t *testing.T) {
	l := newLab(t)
	file := filepath.Join(l.dir, "secret")
	l.host().scagent("secret", "new", "-secret-file", file).ok(t)
	s := besieged(t, "-secret-file", file)
	did := s.withstand(t, 32<<20, 0)

	heard, certificates := s.readAll(t, "heard"), s.readAll(t, certificatesOf("heard"))
	wantNot := func(where string, text []byte, what, secret string) {
		if i := bytes.Index(text, []byte(secret)); i >= 0 {
			t.Errorf("the enemy read %s in %s: %q", what, where, text[max(0, i-80):min(len(text), i+80)])
		}
	}
	wantNot("what it heard", heard, "names or data", canary)
	wantNot("certificates", certificates, "names or data", canary)
	for _, a := range s.pool {
		// A certificate shows its key, of which the id is the hash.
		wantNot("what it heard", heard, "the id of "+a.name, a.victim(t).ID)
		c := a.counters()
		if n := c["gossip_refused_packet_rate"] + c["gossip_refused_packet_total_rate"]; n > 0 {
			t.Errorf("%s had its fill of packets, and dropped %d that were sealed", a.name, n)
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "ran")); err == nil {
		t.Error("a task of the enemy ran")
	}
	for _, what := range []string{"links to strangers", "answers to strangers", "answers 200", "packets to the third party", "accusations answers", "pings answers", "announcements answers"} {
		if did[what] > 0 {
			t.Errorf("%s: %d", what, did[what])
		}
	}
}

// readAll returns what is in a file of the lab, which must be something.
func (l *lab) readAll(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil || len(b) == 0 {
		t.Fatalf("%s has %d bytes, %v", name, len(b), err)
	}
	return b
}

// TestANeighbourDoesLittleToAnOpenPool has the same host do the same to a pool
// without a secret. There it may be a member, and run tasks; but who it says is dead
// says otherwise within a second, and all else must hold as well.
func TestANeighbourDoesLittleToAnOpenPool(t *testing.T) {
	s := besieged(t)
	did := s.withstand(t, 64<<20, time.Second)
	for _, what := range []string{"packets to the third party"} {
		if did[what] > 0 {
			t.Errorf("%s: %d", what, did[what])
		}
	}
	if did["links to strangers"] == 0 || did["answers 200"] == 0 {
		t.Errorf("the neighbour did not get in, so this shows nothing: %v", did)
	}
}

// withstand attacks the pool, and checks what must hold: nobody is lost for longer
// than it takes to deny a death, all tasks are done and about as fast as elsewhere,
// no member needs so much more memory, or fills its log.
func (s *siege) withstand(t *testing.T, moreMemory int64, blip time.Duration) (did map[string]int) {
	t.Helper()
	var monitors []*process
	for _, a := range s.pool {
		monitors = append(monitors, a.begin("monitor", "-json"))
	}
	o := s.orders(allAttacks("knock", "announce")...)

	calm := make(chan struct{})
	time.AfterFunc(3*time.Second, func() { close(calm) })
	before, _ := s.work(calm)
	base := map[*agent]int64{}
	for _, a := range s.pool {
		forgetPeak(t, a.pid())
		base[a], _ = memory(t, a.pid())
	}

	p := s.enemy.attack(o)
	took, quiet := s.work(p.done)
	did = attacked(t, p, o.For+patience)
	t.Logf("the enemy did: %v", did)
	t.Logf("%d tasks; median %v, of a pool that is not attacked %v, before %v", len(took), median(took), median(quiet), median(before))
	if limit := 5*median(quiet) + 50*time.Millisecond; median(took) > limit {
		t.Errorf("tasks took %v under attack, %v in another pool at the same time; want at most %v", median(took), median(quiet), limit)
	}
	for i, a := range s.pool {
		now, peak := memory(t, a.pid())
		t.Logf("%s had %d MiB, %d at its peak, has %d", a.name, base[a]>>20, peak>>20, now>>20)
		if peak-base[a] > moreMemory {
			t.Errorf("%s needed %d MiB more under attack, want at most %d", a.name, (peak-base[a])>>20, moreMemory>>20)
		}
		eventually(t, patience, a.name+" sees all alive", func() (bool, any) { // who is suspected says otherwise
			ms := alive(a.members())
			return len(ms) >= len(s.pool), ms
		})
		lines := strings.Count(a.err.String(), "\n")
		t.Logf("%s wrote %d lines", a.name, lines)
		if limit := 200 + 50*int(o.For.Seconds()); lines > limit {
			t.Errorf("%s wrote %d lines into its log, want at most %d", a.name, lines, limit)
		}
		if strings.ContainsFunc(a.err.String(), func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
			t.Errorf("the log of %s has control characters: %q", a.name, a.err)
		}
		monitors[i].signal(syscall.SIGINT)
		s.noneGone(t, a.name, monitors[i].await().stdout, blip)
		t.Logf("%s: %v", a.name, a.grown(nil))
	}
	return did
}

// noneGone wants no member of the pool to have gone, as an agent saw it, for longer
// than a blip; and none at all without.
func (s *siege) noneGone(t *testing.T, who, events string, blip time.Duration) {
	t.Helper()
	suspicions, denied := 0, 0
	gone := map[string]time.Time{} // by event of coming back and name
	for line := range strings.Lines(events) {
		var e struct {
			Event  string
			Time   time.Time
			Member *member
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if e.Member == nil || !strings.HasPrefix(e.Member.Name, canary) {
			continue
		}
		if e.Member.Status == "suspect" {
			suspicions++
		}
		if e.Event == "update" {
			continue
		}
		if blip == 0 {
			t.Errorf("%s saw: %s", who, line)
		}
		if role, ok := strings.CutSuffix(e.Event, "Unavailable"); ok {
			gone[role+e.Member.Name] = e.Time
		} else if role, ok := strings.CutSuffix(e.Event, "Available"); ok {
			if took := e.Time.Sub(gone[role+e.Member.Name]); took > blip {
				t.Errorf("%s missed %s for %v, want at most %v", who, e.Member.Name, took, blip)
			}
			delete(gone, role+e.Member.Name)
			denied++
		}
	}
	for what := range gone {
		t.Errorf("%s misses %s at the end", who, what)
	}
	t.Logf("%s suspected others %d times; %d were said to be gone, and denied it", who, suspicions, denied)
}

// counters are those of info.
func (a *agent) counters() map[string]uint64 {
	a.host.lab.t.Helper()
	return decode[struct{ Counters map[string]uint64 }](a.host.lab.t, a.call("info", "-json").ok(a.host.lab.t)).Counters
}

// grown returns the counters that have grown, and by how much.
func (a *agent) grown(since map[string]uint64) map[string]uint64 {
	a.host.lab.t.Helper()
	more := map[string]uint64{}
	for k, v := range a.counters() {
		if v > since[k] {
			more[k] = v - since[k]
		}
	}
	return more
}
