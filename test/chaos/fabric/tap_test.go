//go:build linux

package fabric

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/scagent/scagent/test/hosts"
)

// pair returns a switch with two hosts, 10.79.0.1 and 10.79.0.2, whose ports are
// called one and two.
func pair(t testing.TB) (*Switch, []*hosts.Host) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("SCAGENT_TEST_NO_SKIP") != "" {
			t.Fatal("this is not root, and nothing may be skipped")
		}
		t.Skip("SKIPPED: this machine lacks root")
	}
	lab := hosts.New(t.TempDir(), nil)
	t.Cleanup(lab.Close)
	s := New(1)
	t.Cleanup(s.Close)
	var list []*hosts.Host
	for i, name := range []string{"one", "two"} {
		h, err := lab.Host()
		if err != nil {
			t.Fatal(err)
		}
		if err := Attach(s, name, h, netip.AddrFrom4([4]byte{10, 79, 0, byte(i + 1)})); err != nil {
			t.Fatal(err)
		}
		list = append(list, h)
	}
	return s, list
}

// connect returns both ends of a TCP connection between the hosts.
func connect(t testing.TB, hs []*hosts.Host) (from, to net.Conn) {
	t.Helper()
	var l net.Listener
	var err error
	if e := hs[1].Inside(func() { l, err = net.Listen("tcp", "10.79.0.2:0") }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	defer l.Close()
	if e := hs[0].Inside(func() { from, err = net.Dial("tcp", l.Addr().String()) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	t.Cleanup(func() { from.Close() })
	if to, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { to.Close() })
	return from, to
}

// TestTCPPassesAnUnkindSwitch sends what must arrive whole over a network that
// loses, delays, reorders, duplicates and corrupts packets.
func TestTCPPassesAnUnkindSwitch(t *testing.T) {
	s, hs := pair(t)
	from, to := connect(t, hs)
	bad := Policy{LossPercent: 2, DuplicatePercent: 5, CorruptPercent: 2, Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, ReorderPercent: 5}
	s.Set("one", "two", bad)
	s.Set("two", "one", bad)
	const lines = 100_000 // so many that each is bound to happen
	go func() {
		for i := range lines {
			fmt.Fprintf(from, "%08d\n", i)
		}
		from.Close()
	}()
	to.SetReadDeadline(time.Now().Add(time.Minute))
	got, err := io.ReadAll(to)
	if err != nil || len(got) != 9*lines {
		t.Fatalf("%d bytes arrived, want %d; %v", len(got), 9*lines, err)
	}
	for i := range lines {
		if want := fmt.Sprintf("%08d\n", i); string(got[9*i:9*i+9]) != want {
			t.Fatalf("line %d arrived as %q", i, got[9*i:9*i+9])
		}
	}
	st := s.Stats("one", "two")
	t.Logf("one to two: %+v", st)
	if st.Lost == 0 || st.Duplicated == 0 || st.Corrupted == 0 || st.Reordered == 0 {
		t.Errorf("the switch was kind: %+v", st)
	}
	s.Set("one", "two", Policy{Cut: true})
	var ping net.Conn
	if err := hs[0].Inside(func() { ping, err = net.DialTimeout("tcp", "10.79.0.2:9", 200*time.Millisecond) }); err != nil {
		t.Fatal(err)
	}
	if e, ok := err.(net.Error); !ok || !e.Timeout() {
		t.Errorf("dial over a cut: %v, %v; want a timeout", ping, err)
	}
}

// BenchmarkSwitch sends bytes from one host to another over TCP.
func BenchmarkSwitch(b *testing.B) {
	s, hs := pair(b)
	from, to := connect(b, hs)
	const size = 1 << 20
	b.SetBytes(size)
	buf := make([]byte, size)
	done := make(chan error, 1)
	before := s.Stats("one", "two").Passed
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{to}, make([]byte, size))
		done <- err
	}()
	begin := time.Now()
	for b.Loop() {
		if _, err := from.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	from.Close()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(s.Stats("one", "two").Passed-before)/time.Since(begin).Seconds(), "packets/s")
}
