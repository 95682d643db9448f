package membership

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	minSeedBackoff = time.Second
	maxSeedBackoff = 30 * time.Second
	resolveTimeout = 5 * time.Second
	maxSeedAddrs   = 16 // tried per seed and attempt, chosen at random
	maxJoins       = 8  // at once, per attempt
)

type seedKind byte

const (
	seedHost seedKind = iota
	seedSRV
	seedURL
)

// seed is an address to join at, parsed.
type seed struct {
	kind seedKind
	text string // as given
	host string // an address or a name; for seedSRV the whole record name
	port uint16
}

// notInNames are bytes that are in no name of a host, and stand for something else.
const notInNames = "/ \t\n@?#"

// parseSeed reads one value of -join.
func parseSeed(s string) (seed, error) {
	bad := func(why string) (seed, error) {
		return seed{}, fmt.Errorf("seed %q: %s; want host, host:port, [v6]:port, srv:NAME or http://tracker:port", s, why)
	}
	sd := seed{kind: seedHost, text: s, port: DefaultPort}
	if name, ok := strings.CutPrefix(s, "srv:"); ok {
		if name == "" || strings.ContainsAny(name, notInNames+":%") {
			return bad("no name of a service record")
		}
		sd.kind, sd.host = seedSRV, name
		return sd, nil
	}
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return bad("not a URL of a tracker")
		}
		sd.kind = seedURL
		return sd, nil
	}
	sd.host = s
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		sd.host = ip.String()
	} else if strings.Contains(s, ":") {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			return bad("not an address")
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return bad("port is not 1 to 65535")
		}
		sd.host, sd.port = host, uint16(n)
	}
	if sd.host == "" || strings.ContainsAny(sd.host, notInNames) {
		return bad("no host")
	}
	if strings.Contains(sd.host, "%") {
		return bad("addresses with a zone cannot be announced to others")
	}
	return sd, nil
}

// resolve returns the addresses behind a seed.
func (p *Pool) resolve(ctx context.Context, sd seed) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	var out []netip.AddrPort
	switch sd.kind {
	case seedURL:
		if p.config.Hosts == nil {
			return nil, fmt.Errorf("seed %q: no way to ask trackers", sd.text)
		}
		hosts, err := p.config.Hosts(ctx, sd.text)
		if err != nil {
			return nil, fmt.Errorf("seed %q: %w", sd.text, err)
		}
		rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
		var errs error
		for _, h := range hosts[:min(len(hosts), maxSeedAddrs)] {
			inner, err := parseSeed(h)
			if err != nil || inner.kind != seedHost {
				errs = errors.Join(errs, fmt.Errorf("seed %q: tracker answered with %s, not an address", sd.text, quote(h)))
				continue
			}
			addrs, err := p.resolve(ctx, inner)
			errs = errors.Join(errs, err)
			out = append(out, addrs...)
		}
		if len(out) > 0 {
			errs = nil
		}
		return out, errs
	case seedSRV:
		_, records, err := p.config.Resolver.LookupSRV(ctx, "", "", sd.host)
		if err != nil {
			return nil, fmt.Errorf("seed %q: %w", sd.text, err)
		}
		var errs error
		for _, r := range records[:min(len(records), maxSeedAddrs)] {
			addrs, err := p.resolve(ctx, seed{text: sd.text, host: strings.TrimSuffix(r.Target, "."), port: r.Port})
			errs = errors.Join(errs, err)
			out = append(out, addrs...)
		}
		if len(out) > 0 {
			errs = nil
		}
		return out, errs
	}
	if ip, err := netip.ParseAddr(sd.host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), sd.port)}, nil
	}
	ips, err := p.config.Resolver.LookupNetIP(ctx, "ip", sd.host)
	if err != nil {
		return nil, fmt.Errorf("seed %q: %w", sd.text, err)
	}
	for _, ip := range ips {
		out = append(out, netip.AddrPortFrom(ip.Unmap().WithZone(""), sd.port))
	}
	return out, nil
}

// Join contacts the given addresses, which have the forms of Config.Seeds, and
// returns how many answered. The error says why none did. Joining brings two
// pools of one cluster together.
func (p *Pool) Join(ctx context.Context, addrs ...string) (int, error) {
	if p.running() == nil {
		return 0, fmt.Errorf("join: %w", ErrNotRunning)
	}
	var (
		targets []netip.AddrPort
		errs    error
	)
	for _, a := range addrs {
		sd, err := parseSeed(a)
		if err != nil {
			return 0, fmt.Errorf("join: %w", err)
		}
		found, err := p.resolve(ctx, sd)
		errs = errors.Join(errs, err)
		targets = append(targets, found...)
	}
	n, err := p.join(ctx, targets)
	if n > 0 {
		return n, nil
	}
	if errs = errors.Join(errs, err); errs == nil {
		errs = errors.New("no address to join at")
	}
	return 0, fmt.Errorf("join: %w", errs)
}

// join contacts addresses, several at once, and returns how many answered by the
// time ctx ends. This node's own address is passed over.
func (p *Pool) join(ctx context.Context, targets []netip.AddrPort) (int, error) {
	type answer struct{ err error }
	answers := make(chan answer, len(targets))
	slots := make(chan struct{}, maxJoins)
	asked := 0
	for _, t := range targets {
		if t == p.config.Advertise {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		asked++
		ok := p.spawn(func() {
			answers <- answer{p.contact(t)}
			<-slots
		})
		if !ok {
			return 0, ErrNotRunning
		}
	}
	n := 0
	var errs error
	for range asked {
		select {
		case a := <-answers:
			if a.err == nil {
				n++
			}
			errs = errors.Join(errs, a.err)
		case <-ctx.Done():
			if n == 0 {
				errs = errors.Join(errs, ctx.Err())
			}
			return n, errs
		}
	}
	return n, errs
}

// contact exchanges all that is known with the node at an address. It takes no
// longer than a stream may.
func (p *Pool) contact(at netip.AddrPort) error {
	// memberlist wants to be told a name; at a seed nobody knows it yet.
	_, err := p.list.Join([]string{"unknown/" + at.String()})
	if err != nil {
		p.joinErrors.Add(1)
		return fmt.Errorf("%v did not answer as a member of cluster %q: %s", at, p.config.Cluster, p.joinFailure(err))
	}
	p.joins.Add(1)
	return nil
}

// joinFailure says on one line what kept memberlist from joining at one address; it
// makes a list of that.
func (p *Pool) joinFailure(err error) string {
	text := err.Error()
	if _, one, ok := strings.Cut(text, "* failed to join "); ok {
		_, text, _ = strings.Cut(one, ": ") // the address
	}
	text = strings.Join(strings.Fields(text), " ")
	hungUp := strings.HasSuffix(text, syscall.ECONNRESET.Error()) || strings.HasSuffix(text, syscall.EPIPE.Error()) || strings.HasSuffix(text, io.EOF.Error())
	if hungUp && p.config.GossipKeys == nil {
		text += "; if that pool has a secret, this node needs it too"
	}
	return text
}

// spawn runs f in a goroutine that Close waits for, unless the Pool is closed.
func (p *Pool) spawn(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == lifeClosed || p.list == nil {
		return false
	}
	p.wg.Go(f)
	return true
}

// seedState is what seedLoop remembers of a seed.
type seedState struct {
	answered bool
	backoff  time.Duration
	next     time.Time
}

// seedLoop tries seeds until each has answered, and again when nobody is left.
func (p *Pool) seedLoop() {
	states := make([]seedState, len(p.seeds))
	for len(states) > 0 {
		alone := p.alive() == 0
		var wg sync.WaitGroup
		for i := range states {
			st := &states[i]
			if st.answered && alone { // it went away, or nobody whom it told of may be in
				st.answered = false
				st.wait()
			}
			if st.answered || time.Now().Before(st.next) {
				continue
			}
			wg.Go(func() { p.trySeed(p.seeds[i], st) })
		}
		wg.Wait()
		if p.alive() > 0 {
			for i := range states {
				if states[i].answered {
					states[i].backoff = 0
				}
			}
		}
		if p.alive() > 0 && !slices.ContainsFunc(states, func(st seedState) bool { return !st.answered }) {
			select { // nothing to do, and an idle process is not woken for nothing
			case <-p.lonely:
			case <-p.ctx.Done():
				return
			}
		}
		if !p.sleep(minSeedBackoff / 2) {
			return
		}
	}
}

// wait sets when the seed is tried next: each time later, until somebody was met there.
func (st *seedState) wait() time.Duration {
	st.backoff = max(minSeedBackoff, min(2*st.backoff, maxSeedBackoff))
	d := jitter(st.backoff)
	st.next = time.Now().Add(d)
	return d
}

func (p *Pool) trySeed(sd seed, st *seedState) {
	addrs, err := p.resolve(p.ctx, sd)
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	here := p.presentAddrs()
	strangers := addrs[:0:0]
	for _, a := range addrs {
		if _, ok := here[a]; ok {
			st.answered = true
		} else {
			strangers = append(strangers, a)
		}
	}
	if !st.answered {
		var n int
		var joinErr error
		n, joinErr = p.join(p.ctx, strangers[:min(len(strangers), maxSeedAddrs)])
		err = errors.Join(err, joinErr)
		st.answered = n > 0
	}
	if st.answered {
		p.log.Printf("[INFO] membership: joined: seed=%s members=%d", quote(sd.text), p.alive()+1)
		return
	}
	wait := st.wait()
	if err != nil && p.ctx.Err() == nil {
		p.log.Printf("[WARN] membership: seed did not answer, will try again: seed=%s in=%s error=%s",
			quote(sd.text), wait.Round(time.Millisecond), quote(err.Error()))
	}
}

// presentAddrs returns the addresses of the members that are present, this node
// not included.
func (p *Pool) presentAddrs() map[netip.AddrPort]struct{} {
	all := p.view.all()
	addrs := make(map[netip.AddrPort]struct{}, len(all))
	for _, m := range all {
		if m.Status.Present() && !m.Self {
			addrs[m.AddrPort] = struct{}{}
		}
	}
	return addrs
}
