//go:build linux

package test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sockets returns the sockets of a process at which others can call, as the kernel
// lists them: TCP and unix sockets that listen, and UDP sockets. A port that the
// system chose is written as *.
func (p *process) sockets() []string {
	p.t.Helper()
	own := map[string]bool{} // by inode
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid()))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, fd := range fds {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.pid(), fd.Name())) // it may be closed by now
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var list []string
	for _, table := range []struct {
		file, kind   string
		state, inode int // fields
		wanted       string
	}{
		{"tcp", "tcp", 3, 9, "0A"}, {"tcp6", "tcp6", 3, 9, "0A"}, // listening
		{"udp", "udp", 3, 9, ""}, {"udp6", "udp6", 3, 9, ""},
		{"unix", "unix", 5, 6, "01"},
	} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", p.pid(), table.file))
		if err != nil {
			p.t.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() { // the first is a heading, and no socket's
			fields := strings.Fields(lines.Text())
			switch {
			case len(fields) <= table.inode || !own[fields[table.inode]] || table.wanted != "" && fields[table.state] != table.wanted:
			case table.kind != "unix":
				list = append(list, table.kind+" "+socketAddr(p.t, fields[1]))
			case fields[3] != "00010000": // it is connected, or a pair: nobody can call
			case len(fields) > 7: // the kernel keeps the name from before the agent moved it to its place
				list = append(list, table.kind+" "+strings.TrimSuffix(fields[7], ".new/s"))
			default:
				list = append(list, table.kind+" without a name")
			}
		}
		if err := lines.Err(); err != nil {
			p.t.Fatal(err)
		}
	}
	slices.Sort(list)
	return list
}

// socketAddr reads an address as the kernel writes it: in words of the machine.
func socketAddr(t testing.TB, text string) string {
	t.Helper()
	ip, port, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(ip)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil {
		t.Fatalf("%q is no address of a socket", text)
	}
	for i := 0; i+4 <= len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	a, _ := netip.AddrFromSlice(b)
	if a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() && a.Is6() {
		a = a.WithZone("")
	}
	if n >= 32768 && n != 44201 {
		return fmt.Sprintf("%v *", a)
	}
	return fmt.Sprintf("%v %d", a, n)
}

// TestSocketsInEachMode compares the sockets of agents, and of a command that is a
// master for a moment, with what they are meant to be. Group sockets are those of the
// beacon: one for each interface.
func TestSocketsInEachMode(t *testing.T) {
	t.Parallel()
	file := filepath.Join(openDir(t), "secret")
	newLab(t).host().scagent("secret", "new", "-secret-file", file).ok(t)
	const api, api2 = "unix /run/scagent/1.sock", "unix /run/scagent/2.sock"
	port := []string{"tcp 0.0.0.0 44201", "udp 0.0.0.0 44201"}
	beacons := []string{"udp 224.0.0.234 44201", "udp 224.0.0.234 44201", "udp6 ff02::5ca6 44201"} // lo and eth0; eth0
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"no flags", nil, slices.Concat(port, beacons, []string{api})},
		{"worker", []string{"-role", "worker"}, slices.Concat(port, beacons, []string{api})},
		{"tracker", []string{"-role", "tracker"}, slices.Concat(port, beacons, []string{api})},
		{"secured", []string{"-secret-file", file}, slices.Concat(port, beacons, []string{api})},
		{"insecure", []string{"-insecure"}, slices.Concat(port, beacons, []string{api})},
		{"no multicast", []string{"-no-multicast"}, slices.Concat(port, []string{api})},
		{"loopback", []string{"-bind", "127.0.0.1"}, []string{"tcp 127.0.0.1 44201", "udp 127.0.0.1 44201", beacons[0], api}},
		{"loopback, no multicast", []string{"-bind", "127.0.0.1", "-no-multicast"}, []string{"tcp 127.0.0.1 44201", "udp 127.0.0.1 44201", api}},
		{"a port of one's own", []string{"-bind", "10.77.0.1:5000", "-no-multicast"}, []string{"tcp 10.77.0.1 5000", "udp 10.77.0.1 5000", api}},
		{"HTTP", []string{"-http", "127.0.0.1:8080"}, slices.Concat(port, beacons, []string{"tcp 127.0.0.1 8080", api})},
		{"HTTP by name", []string{"-http", "localhost:8080"}, slices.Concat(port, beacons, []string{"tcp 127.0.0.1 8080", api})},
		{"HTTP over IPv6", []string{"-http", "[::1]:8080"}, slices.Concat(port, beacons, []string{"tcp6 ::1 8080", api})},
		{"HTTP at any port", []string{"-http", "127.0.0.1:0"}, slices.Concat(port, beacons, []string{"tcp 127.0.0.1 *", api})},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newLab(t).hosts(1)[0]
			wantSockets(t, h.agent(c.args...).process, c.want)
			h.sh("stat -c '%F %a %U' /run/scagent/1.sock").want(t, 0, "socket 600 root\n")
		})
	}
	t.Run("two agents", func(t *testing.T) {
		t.Parallel()
		h := newLab(t).hosts(1)[0]
		first, second := h.agent(), h.agent()
		wantSockets(t, first.process, slices.Concat(port, beacons, []string{api}))
		wantSockets(t, second.process, slices.Concat([]string{"tcp 0.0.0.0 *", "udp 0.0.0.0 *"}, beacons, []string{api2}))
	})
	t.Run("a command without an agent", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		hosts := l.hosts(2)
		hosts[0].agent()
		p := hosts[1].start("submit", "--", "sh", "-c", "echo started; sleep 60")
		p.out.await(t, "started")
		wantSockets(t, p, slices.Concat(port, beacons))
	})
}

func wantSockets(t *testing.T, p *process, want []string) {
	t.Helper()
	want = slices.Sorted(slices.Values(want))
	// The beacon opens its sockets as interfaces come up, which takes an address of
	// IPv6 a moment.
	eventually(t, patience, fmt.Sprintf("the sockets are %q", want), func() (bool, any) {
		got := p.sockets()
		return slices.Equal(got, want), fmt.Sprintf("%q", got)
	})
}
