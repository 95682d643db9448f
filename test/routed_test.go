//go:build linux

package test

import (
	"fmt"
	"strings"
	"testing"
)

// TestNothingRoutedPassesAnOpenPort has a pool without a secret on one network, and
// on another, behind a router, a host that knocks: as itself, and as a member. Then
// hosts of the pool's own network do the same, to show that it would be heard.
func TestNothingRoutedPassesAnOpenPort(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	one, two, router, neighbour, far := l.host(), l.host(), l.host(), l.host(), l.host()
	l.connect("10.77.0", one, two, router, neighbour)
	l.connect("10.78.0", router, far)
	for _, h := range []*host{one, two, neighbour} {
		h.sh("ip route add default via 10.77.0.3").ok(t)
	}
	router.sh("cd /proc/sys/net/ipv4 && echo 1 > ip_forward && for f in conf/*/rp_filter conf/*/send_redirects; do echo 0 > $f; done").ok(t)
	// The far host has an address of the pool's network too, and the router says
	// there that it is the one who has it.
	far.sh("ip route add default via 10.78.0.1 && ip addr add 10.77.0.77/32 dev lo").ok(t)
	router.sh("ip route add 10.77.0.77/32 via 10.78.0.2 && echo 1 > /proc/sys/net/ipv4/conf/eth0/proxy_arp").ok(t)
	pool := []*agent{one.agent("-name", "one", "-role", "worker,master,tracker"), two.agent("-name", "two")}
	assemble(t, patience, pool...)
	o := orders{Cluster: "default", For: patience}
	for _, a := range pool {
		o.Victims = append(o.Victims, a.victim(t))
	}

	const offLink, hops, none = "off_link", "hops", ""
	for _, c := range []struct {
		name    string
		from    *host
		as      string
		ttl     int
		attack  string
		packets string // why its packets are refused
		forged  string // those of other members' addresses
		streams string // gossip and links
		http    string
	}{
		{"routed", far, "10.78.0.2", 255, "knock", offLink, hops, offLink, offLink},
		{"routed, with the TTL of any program", far, "10.78.0.2", 64, "knock", offLink, hops, offLink, offLink},
		// Without a router that lies this does not happen. HTTP is for all on the
		// networks of this host, as far as addresses tell.
		{"routed, as a neighbour", far, "10.77.0.77", 255, "knock", hops, hops, hops, none},
		{"a router that passes on beacons", router, "10.78.0.2", 254, "announce", none, none, none, none},
		{"beacons of a neighbour", neighbour, "10.77.0.4", 255, "announce", none, none, none, none},
		{"attached, with the TTL of any program", neighbour, "10.77.0.4", 64, "knock", hops, none, hops, none},
		{"attached", neighbour, "10.77.0.4", 255, "knock", none, none, none, none},
	} {
		l.run(t, c.name, func(t *testing.T) {
			c.from.ttl(c.ttl)
			o.Attacks, o.From, o.TTL, o.Answers, o.Heard = []string{c.attack}, []string{c.as}, c.ttl, 0, l.dir+"/heard"
			if c.attack == "knock" && c.packets == none {
				o.Answers = knocks * len(pool)
			}
			var before []map[string]uint64
			for _, a := range pool {
				before = append(before, a.counters())
			}
			did := attacked(t, c.from.attack(o), o.For+patience)
			t.Logf("it did %v", did)
			n := func(what string) uint64 { return uint64(did[what] / len(pool)) }
			refused := map[string]uint64{}
			refused["port_packets_refused_"+c.packets] += n("packets")
			refused["port_packets_refused_"+c.forged] += n("forged packets")
			refused["port_refused_"+c.streams] += n("gossip connections") + n("link connections") + n("tls connections")
			refused["port_refused_"+c.http] += n("http connections")
			if c.streams == none {
				refused["port_refused_tls"] += n("tls connections") // for which there is no server
			}
			for i, a := range pool {
				// The kernel drops what comes from an address of its own. And not all
				// strangers of one second are taken note of.
				beacons := uint64(did["beacons"] / (2 - i))
				var grown map[string]uint64
				eventually(t, patience, a.name+" has counted all", func() (bool, any) {
					grown = a.grown(before[i])
					for _, key := range []string{"port_packets_refused_off_link", "port_packets_refused_hops", "port_refused_off_link", "port_refused_hops", "port_refused_tls"} {
						if grown[key] != refused[key] {
							return false, fmt.Sprintf("%s has grown by %d, want %d", key, grown[key], refused[key])
						}
					}
					if c.from == neighbour {
						return grown["beacon_strangers"] >= min(beacons, 1), fmt.Sprintf("none of %d beacons was heard", beacons)
					}
					return grown["beacon_refused"] >= beacons, fmt.Sprintf("beacon_refused has grown by %d, want %d", grown["beacon_refused"], beacons)
				})
				for key, by := range grown {
					if c.from == neighbour {
						break // something is meant to
					}
					if strings.HasPrefix(key, "gossip_refused") || strings.HasPrefix(key, "links_refused") || key == "beacon_strangers" {
						t.Errorf("%s of %s has grown by %d: something passed the port", key, a.name, by)
					}
				}
			}
			for sort, why := range map[string]string{"packets": c.packets, "gossip": c.streams, "link": c.streams, "http": c.http} {
				kind := map[bool]string{true: "packets", false: sort + " connections"}[sort == "packets"]
				want := did[kind]
				if sort == "packets" {
					want /= 2 // the other half are beacons, which do not belong there
				}
				if why != none {
					want = 0
				}
				if got := did[sort+" answered"]; got < want || why != none && got > 0 {
					t.Errorf("%d of %d %s were answered, want %d", got, did[kind], kind, want)
				}
			}
			// A neighbour may accuse; who is accused answers with the next gossip.
			for _, a := range pool {
				eventually(t, patience, "both are members again", func() (bool, any) {
					ms := alive(a.members())
					return len(ms) >= 2, ms
				})
			}
			for i, a := range pool {
				other := pool[1-i].name
				a.call("submit", "-on", other, "--", "sh", "-c", "echo $SCAGENT_NODE").want(t, 0, fmt.Sprintln(other))
			}
		})
	}
}
