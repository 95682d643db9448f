//go:build linux

package test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestThreeHosts is what the tool is for: three hosts of one network, an agent
// without any flag on each, as root, and work goes from one to all.
func TestThreeHosts(t *testing.T) {
	l := newLab(t)
	l.shareMounts()
	binary(t) // not to be timed
	hosts := l.hosts(3)
	var agents []*agent
	for _, h := range hosts {
		agents = append(agents, h.launch())
	}
	last := time.Now()
	for i, h := range hosts {
		addr := fmt.Sprintf("10.77.0.%d", i+1)
		eventually(t, patience, "a host sees three workers", func() (bool, any) {
			r := h.scagent("members", "-json") // finds the agent of its own namespace
			if r.status != 0 || r.stdout == "" {
				return false, r
			}
			ms := decode[[]member](t, r.stdout)
			for _, m := range ms {
				if m.Self && m.Addr != addr {
					t.Fatalf("members on %s talks to the agent of %s", addr, m.Addr)
				}
			}
			live := alive(ms)
			return len(live) == 3 && slices.ContainsFunc(live, func(m member) bool { return m.Self }) &&
				!slices.ContainsFunc(live, func(m member) bool { return !slices.Contains(m.Roles, "worker") }), ms
		})
	}
	within(t, "three hosts see each other by multicast alone", time.Since(last), 15*time.Second)
	for _, a := range agents {
		a.up()
	}
	assemble(t, patience, agents...) // unique names, too
	host1, machine := hosts[0], strings.TrimSpace(hosts[0].sh("hostname").ok(t))
	names := []string{agents[0].name, agents[1].name, agents[2].name}
	slices.Sort(names)
	if want := []string{machine, machine + "-2", machine + "-3"}; !slices.Equal(names, want) {
		t.Errorf("the agents are %q, want %q", names, want)
	}

	l.run(t, "submit -all", func(t *testing.T) {
		r := host1.scagent("submit", "-all", "--", "hostname")
		want := ""
		for _, n := range names {
			want += n + ": " + machine + "\n"
		}
		if got := sortLines(r.ok(t)); got != sortLines(want) {
			t.Errorf("submit -all printed %q, want %q", got, want)
		}
	})
	l.run(t, "submit df -h", func(t *testing.T) {
		out := host1.scagent("submit", "df", "-h").ok(t)
		if !strings.HasPrefix(out, "Filesystem") {
			t.Errorf("submit df -h printed %q", out)
		}
	})
	l.run(t, "where", func(t *testing.T) {
		hosts[1].scagent("data", "gpu=a100").want(t, 0, "")
		where := fmt.Sprintf(`data.gpu == "a100" and facts.cpus >= %d`, runtime.NumCPU())
		hosts[2].scagent("submit", "-where", where, "--", "sh", "-c", "echo $SCAGENT_NODE").
			want(t, 0, fmt.Sprintf("%s: %s\n", agents[1].name, agents[1].name))
		hosts[2].scagent("submit", "-where", fmt.Sprintf(`data.gpu == "a100" and facts.cpus > %d`, runtime.NumCPU()), "-wait-workers", "100ms", "true").
			complains(t, 125, "no worker matches", "1 has", "facts.cpus", "2 have no data.gpu")
	})
	l.run(t, "on", func(t *testing.T) {
		host1.scagent("submit", "-on", agents[2].name, "--", "sh", "-c", "echo $SCAGENT_NODE").want(t, 0, agents[2].name+"\n")
		host1.scagent("submit", "-on", "nobody", "-wait-workers", "100ms", "true").complains(t, 125, `"nobody"`)
	})
	l.run(t, "dry-run", func(t *testing.T) {
		mark := l.dir + "/dry"
		// By the one that is known to have heard of the data.
		out := hosts[2].scagent("submit", "-dry-run", "-where", `data.gpu == "a100"`, "--", "touch", mark).ok(t)
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			if takes := f[0] == agents[1].name; f[0] != "NAME" && (f[1] == "yes") != takes {
				t.Errorf("dry-run says %q of %s", line, f[0])
			}
		}
		if n := strings.Count(out, "\n"); n != 4 {
			t.Errorf("dry-run printed %d lines, want a head and 3 workers:\n%s", n, out)
		}
		host1.sh("test ! -e "+mark).want(t, 0, "")
	})
}

func TestTwoAgentsOfOneHostFindEachOther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		host func(*lab) *host
	}{
		{"with a network", func(l *lab) *host { return l.hosts(1)[0] }},
		{"with the loopback interface alone", (*lab).host},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := c.host(newLab(t))
			a := h.agent()
			begin := time.Now()
			b := h.agent()
			assemble(t, patience, a, b)
			within(t, "two agents of a host see each other", time.Since(begin), 15*time.Second)
			if b.name != a.name+"-2" || a.addr == b.addr || a.socket == b.socket {
				t.Errorf("agents are %s at %s (%s) and %s at %s (%s); want the second to be -2 with its own port and socket",
					a.name, a.addr, a.socket, b.name, b.addr, b.socket)
			}
			if !strings.HasSuffix(a.addr, ":44201") {
				t.Errorf("the first agent is at %s, want port 44201", a.addr)
			}
			h.scagent("submit", "-on", b.name, "--", "sh", "-c", "echo $SCAGENT_NODE").want(t, 0, b.name+"\n")
		})
	}
}

// TestTwoNetworksFindEachOtherThroughATracker has a router between two networks,
// over which multicast does not go.
func TestTwoNetworksFindEachOtherThroughATracker(t *testing.T) {
	t.Parallel()
	need(t, "curl")
	l := newLab(t)
	router, a, b := l.host(), l.host(), l.host()
	l.connect("10.77.1", router, a)
	l.connect("10.77.2", router, b)
	router.sh("echo 1 > /proc/sys/net/ipv4/ip_forward").ok(t)
	a.sh("ip route add default via 10.77.1.1").ok(t)
	b.sh("ip route add default via 10.77.2.1").ok(t)

	far := b.agent("-name", "far", "-join", "10.77.1.2", "-insecure") // before there is a tracker
	near := a.agent("-name", "near", "-join", "10.77.1.2", "-insecure", "-bind", "10.77.1.2:44202")
	if live := alive(far.members()); len(live) != 1 {
		t.Errorf("without a tracker, far sees %v", live)
	}
	begin := time.Now()
	tracker := a.agent("-name", "tracker", "-role", "tracker", "-insecure")
	assemble(t, patience, tracker, far, near)
	t.Logf("a tracker that starts later is found by those that wait for it after %s", time.Since(begin).Round(time.Millisecond))
	far.call("submit", "-on", "near", "--", "echo", "over").want(t, 0, "over\n")
	near.call("submit", "-on", "far", "--", "echo", "back").want(t, 0, "back\n")
	out := b.sh("curl -sS http://10.77.1.2:44201/hostsAvailable").ok(t)
	if !strings.Contains(out, `"10.77.2.2"`) || !strings.Contains(out, `"near"`) {
		t.Errorf("the tracker answers %s", out)
	}
}
