package membership

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

func TestBootsAreNumbers(t *testing.T) {
	inOrder := []string{"0", "1", "9", "a", "z", "10", "z9", "100", "zzzzzzzzzz"}
	for i, a := range inOrder {
		for j, b := range inOrder {
			if got := compareBoots(a, b); got < 0 != (i < j) || got == 0 != (i == j) {
				t.Errorf("compareBoots(%q, %q) = %d", a, b, got)
			}
		}
	}
	if compareBoots("01", "1") == 0 {
		t.Error("boots that are spelled differently are different starts")
	}
}

func TestNewestBootCounts(t *testing.T) {
	now := time.Now()
	m := goldenMetas()["digest.hex"]
	at := netip.MustParseAddrPort("10.0.0.1:1")
	id := testID(1)
	old, young := gossipName(id, "5"), gossipName(id, "6")
	status := func(r *roster) string {
		p := r.current(id, now)
		if p == nil {
			return "none"
		}
		return fmt.Sprintf("%s %s", p.boot, p.status())
	}
	for _, c := range []struct {
		name string
		do   func(*roster)
		want string
	}{
		{"the old one dies", func(r *roster) { r.gone(old, now) }, "6 alive"},
		{"the old one leaves", func(r *roster) { r.said(old, now); r.gone(old, now) }, "6 alive"},
		{"the old one comes back", func(r *roster) { r.gone(old, now); r.join(old, at, m, now) }, "6 alive"},
		{"the old one changes", func(r *roster) { r.update(old, at, m) }, "6 alive"},
		{"the old one is suspect", func(r *roster) { r.suspected(old, 1) }, "6 alive"},
		{"the new one is suspect", func(r *roster) { r.suspected(young, 1) }, "6 suspect"},
		{"the new one dies", func(r *roster) { r.gone(young, now) }, "6 failed"},
		{"the new one leaves", func(r *roster) { r.said(young, now); r.gone(young, now) }, "6 left"},
		{"it says so afterwards", func(r *roster) { r.gone(young, now); r.said(young, now) }, "6 left"},
		{"only its farewell comes", func(r *roster) { r.said(young, now) }, "6 alive"},
		{"its farewell was long ago", func(r *roster) { r.said(young, now.Add(-time.Minute)); r.gone(young, now) }, "6 failed"},
		{"the new one died long ago: the clock had gone back", func(r *roster) { r.gone(young, now.Add(-time.Minute)) }, "5 alive"},
		{"suspicion of an old incarnation", func(r *roster) { r.cleared(young, 5); r.suspected(young, 4) }, "6 alive"},
		{"suspicion, answered", func(r *roster) { r.suspected(young, 4); r.cleared(young, 5) }, "6 alive"},
		{"suspicion, not answered", func(r *roster) { r.suspected(young, 4); r.cleared(young, 4) }, "6 suspect"},
	} {
		r := newRoster(gossipName(testID(9), "1"))
		r.join(young, at, m, now)
		r.join(old, at, m, now) // gossip has no order
		if r.names != 2 {
			t.Fatalf("%d alive, want 2", r.names)
		}
		c.do(r)
		if got := status(r); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A node that stays for a moment is told of by several members at once, in any
// order.
func TestAFarewellMayComeFirst(t *testing.T) {
	now := time.Now()
	m := goldenMetas()["digest.hex"]
	name := gossipName(testID(1), "1")
	for _, c := range []struct {
		name string
		do   func(*roster)
		want Status
	}{
		{"then it comes", func(r *roster) { r.join(name, here, m, now) }, Alive},
		{"then it comes, and goes", func(r *roster) { r.join(name, here, m, now); r.gone(name, now) }, Left},
		{"then it comes twice, and goes", func(r *roster) {
			r.join(name, here, m, now)
			r.join(name, here, m, now)
			r.gone(name, now)
		}, Left},
		{"it comes back, and goes without a word", func(r *roster) {
			r.join(name, here, m, now)
			r.gone(name, now)
			r.join(name, here, m, now)
			r.gone(name, now)
		}, Failed},
		{"it is long ago", func(r *roster) {
			r.expire(now.Add(2*farewellWindow), time.Minute, time.Hour)
			r.join(name, here, m, now)
			r.gone(name, now)
		}, Failed},
	} {
		r := newRoster(gossipName(testID(9), "1"))
		r.said(name, now)
		c.do(r)
		if p := r.find(name); p == nil || p.status() != c.want {
			t.Errorf("%s: %+v, want %s", c.name, p, c.want)
		}
	}
	r := newRoster(gossipName(testID(9), "1"))
	for i := range 2 * maxEarly {
		r.said(gossipName(testID(i), "1"), now)
	}
	if len(r.early) > maxEarly {
		t.Errorf("%d farewells of strangers are kept, at most %d", len(r.early), maxEarly)
	}
}

func TestRosterCountsAndForgets(t *testing.T) {
	now := time.Now()
	m := goldenMetas()["digest.hex"]
	r := newRoster(gossipName(testID(9), "1"))
	for i := range 5 {
		name := gossipName(testID(i), "1")
		r.join(name, here, m, now)
		r.join(name, here, m, now)
	}
	r.join(r.self, here, m, now)
	r.join("nonsense", here, m, now)
	for i := range 4 {
		name := gossipName(testID(i), "1")
		if i < 2 {
			r.said(name, now)
		}
		r.gone(name, now)
		r.gone(name, now)
	}
	if r.names != 1 || len(r.nodes) != 5 {
		t.Errorf("%d alive of %d, want 1 of 5", r.names, len(r.nodes))
	}
	clear(r.dirty)
	r.expire(now.Add(2*time.Minute), time.Minute, time.Hour)
	if len(r.nodes) != 3 || len(r.dirty) != 2 {
		t.Errorf("%d kept, %d changed after two minutes; want 3, 2", len(r.nodes), len(r.dirty))
	}
	r.expire(now.Add(2*time.Hour), time.Minute, time.Hour)
	if len(r.nodes) != 1 || r.find(gossipName(testID(4), "1")) == nil {
		t.Errorf("%d kept after two hours, want the one that is alive", len(r.nodes))
	}
}

func TestMembersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newLab(t).prepare(0, nil).Pool
		d := &delegate{p}
		about := goldenMetas()["digest.hex"].encode()
		node := func(i int) *memberlist.Node {
			return &memberlist.Node{
				Name: gossipName(testID(i), "1"), Addr: []byte{10, 1, byte(i >> 8), byte(i)}, Port: 1,
				Meta: about,
			}
		}
		for i := range MaxMembers - 1 {
			n := node(i + 1)
			if err := d.NotifyAlive(n); err != nil {
				t.Fatalf("member %d: %v", i, err)
			}
			d.NotifyJoin(n)
		}
		if err := d.NotifyAlive(node(20000)); !errors.Is(err, refusal(reasonFull)) {
			t.Errorf("one too many: %v", err)
		}
		if err := d.NotifyAlive(node(7)); err != nil {
			t.Errorf("one that is known: %v", err)
		}
	})
}

// The list is in order whatever changes, also while it is read.
func TestViewIsSorted(t *testing.T) {
	v := newView()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 3000 {
			v.set(&Member{ID: testID(i % 100), Name: fmt.Sprint(i % 7), Busy: i})
			if i%10 == 0 {
				v.drop(testID(i % 37))
			}
		}
	}()
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		if all := v.all(); !slices.IsSortedFunc(all, compareMembers) {
			t.Fatal("not sorted")
		}
	}
	if all := v.all(); len(all) != len(v.byID) || &all[0] != &v.all()[0] {
		t.Error("an unchanged list is made anew")
	}
}

func BenchmarkMembers(b *testing.B) {
	for _, count := range []int{100, 10000} {
		p := &Pool{view: newView()}
		for i := range count {
			p.view.set(&Member{ID: testID(i), Name: fmt.Sprintf("n%05d", i), Roles: roleLists[3]})
		}
		b.Run(fmt.Sprintf("members=%d/unchanged", count), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Members()
			}
		})
		b.Run(fmt.Sprintf("members=%d/one changed", count), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p.view.set(&Member{ID: testID(1), Name: "n00001", Roles: roleLists[3], Busy: i + 1})
				p.Members()
			}
		})
	}
}

func BenchmarkGuardPacket(b *testing.B) {
	g := testGuard(b)
	alive := wire(kindAlive, goodAlive())
	packet := labelled(compound(alive, alive, alive, wire(kindPing, wirePing{1, bob, []byte{10, 0, 0, 1}, 44201, alice})))
	from := netip.MustParseAddrPort("10.0.0.1:44201")
	b.SetBytes(int64(len(packet)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.packet(packet, from); err != nil {
			b.Fatal(err)
		}
	}
}

// However many come and go, of those that are gone no more are kept than a pool has.
func TestAbsentMembersAreBounded(t *testing.T) {
	now := time.Now()
	m := goldenMetas()["digest.hex"]
	r := newRoster(gossipName(testID(0), "1"))
	ps := newPeers(&Config{FailedTTL: time.Hour})
	const count = MaxMembers + 100
	for i := range count {
		name, at := gossipName(testID(i+1), "1"), now.Add(time.Duration(i)*time.Millisecond)
		r.join(name, here, m, at)
		ps.note(&Member{ID: testID(i + 1), AddrPort: here, Status: Alive}, at)
		r.gone(name, at)
		ps.note(&Member{ID: testID(i + 1), AddrPort: here, Status: Failed}, at)
	}
	clear(r.dirty)
	later := now.Add(time.Minute)
	r.expire(later, time.Minute, time.Hour)
	ps.absent(1, nil, later)
	if len(r.nodes) != MaxMembers || len(r.dirty) != count-MaxMembers {
		t.Errorf("%d absent members are kept and %d changed, want %d and %d", len(r.nodes), len(r.dirty), MaxMembers, count-MaxMembers)
	}
	if len(ps.byID) != MaxMembers {
		t.Errorf("%d absent peers are kept, want %d", len(ps.byID), MaxMembers)
	}
	for i := range count {
		kept := i >= count-MaxMembers // who went last
		if p, pr := r.find(gossipName(testID(i+1), "1")), ps.byID[testID(i+1)]; (p != nil) != kept || (pr != nil) != kept {
			t.Fatalf("of %d that came and went, number %d is kept: member %t, peer %t; want %t", count, i, p != nil, pr != nil, kept)
		}
	}
}
