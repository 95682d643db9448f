package membership

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// rejoinInterval is how often some absent peer is tried, whatever its own
	// back-off: two halves of a pool that was cut apart find each other by it.
	rejoinInterval   = 10 * time.Second
	rejoinAtOnce     = 3
	startAtOnce      = 8 // at the start, when all are absent
	minRejoinBackoff = 10 * time.Second
	maxRejoinBackoff = 5 * time.Minute

	maxPeersFileBytes = 8 << 20
	saveDelay         = 2 * time.Second // after a change
)

// peer is a node that was a member, so that it can be looked for.
type peer struct {
	addr    netip.AddrPort
	seen    time.Time // when it was last known to be present
	present bool

	backoff time.Duration
	next    time.Time // not to be tried before, unless nobody else is to be tried
}

// peers are the nodes to look for when they are absent: known members that did
// not leave.
type peers struct {
	file      string // empty: kept in memory only
	self      string
	forgetTTL time.Duration
	changed   chan struct{} // cap 1: to be saved

	mu   sync.Mutex // guards the fields below
	byID map[string]*peer
}

func newPeers(c *Config) *peers {
	return &peers{
		file: c.PeersFile, self: c.ID, forgetTTL: c.FailedTTL,
		changed: make(chan struct{}, 1), byID: make(map[string]*peer),
	}
}

// note takes up a member as it is now.
func (ps *peers) note(m *Member, now time.Time) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	pr := ps.byID[m.ID]
	switch {
	case m.Status == Left:
		if pr == nil {
			return
		}
		delete(ps.byID, m.ID)
	case m.Status.Present():
		if pr != nil && pr.present && pr.addr == m.AddrPort {
			return
		}
		ps.byID[m.ID] = &peer{addr: m.AddrPort, seen: now, present: true}
	default:
		if pr == nil || !pr.present {
			return
		}
		pr.present, pr.seen = false, now
	}
	signal(ps.changed)
}

// absent returns up to n addresses to try now: those whose time has come, the
// one overdue for longest first, and if there are none one at random. Addresses
// in here are members already and are passed over. Peers absent for too long, or
// too many, are forgotten.
func (ps *peers) absent(n int, here map[netip.AddrPort]struct{}, now time.Time) []netip.AddrPort {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	seen := make(map[string]time.Time)
	for id, pr := range ps.byID {
		switch {
		case pr.present:
		case now.Sub(pr.seen) > ps.forgetTTL:
			delete(ps.byID, id)
			signal(ps.changed)
		default:
			seen[id] = pr.seen
		}
	}
	for _, id := range tooMany(seen) {
		delete(ps.byID, id)
		delete(seen, id)
		signal(ps.changed)
	}
	var away []*peer
	for id := range seen {
		pr := ps.byID[id]
		if _, ok := here[pr.addr]; !ok {
			away = append(away, pr)
		}
	}
	if len(away) == 0 {
		return nil
	}
	due := slices.DeleteFunc(slices.Clone(away), func(pr *peer) bool { return now.Before(pr.next) })
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	slices.SortStableFunc(due, func(a, b *peer) int { return a.next.Compare(b.next) })
	due = due[:min(len(due), n)]
	if len(due) < n {
		due = append(due, away[rand.IntN(len(away))])
	}
	addrs := make([]netip.AddrPort, 0, len(due))
	for _, pr := range due {
		if slices.Contains(addrs, pr.addr) {
			continue
		}
		// Success makes the peer present, which forgets the back-off.
		pr.backoff = max(minRejoinBackoff, min(2*pr.backoff, maxRejoinBackoff))
		pr.next = now.Add(jitter(pr.backoff))
		addrs = append(addrs, pr.addr)
	}
	return addrs
}

// peersFile is the form of the file.
type peersFile struct {
	Version int         `json:"version"` // 1
	Peers   []savedPeer `json:"peers"`
}

type savedPeer struct {
	ID   string         `json:"id"`
	Addr netip.AddrPort `json:"addr"`
	Seen time.Time      `json:"seen"`
}

// load reads the file. That there is none yet is no error. Entries that cannot
// be are passed over. The time from the file's last change until now does not
// count: nothing changed in it, or this node was off and looked for nobody.
func (ps *peers) load() error {
	if ps.file == "" {
		return nil
	}
	f, err := os.Open(ps.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPeersFileBytes))
	if err != nil {
		return fmt.Errorf("read %s: %w", ps.file, err)
	}
	var content peersFile
	if err := json.Unmarshal(b, &content); err != nil {
		return fmt.Errorf("read %s: %w", ps.file, err)
	}
	if content.Version != 1 {
		return fmt.Errorf("read %s: version %d; this version of scagent knows 1", ps.file, content.Version)
	}
	now := time.Now()
	var newest time.Time
	for _, s := range content.Peers {
		if s.Seen.After(newest) {
			newest = s.Seen
		}
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, s := range content.Peers[:min(len(content.Peers), MaxMembers)] {
		if age := newest.Sub(s.Seen); validID(s.ID) && s.ID != ps.self && checkHostAddr(s.Addr) == nil && age <= ps.forgetTTL {
			ps.byID[s.ID] = &peer{addr: s.Addr, seen: now.Add(-age)}
		}
	}
	return nil
}

// save writes the file anew; a reader sees the old or the new one, whole.
func (ps *peers) save() error {
	if ps.file == "" {
		return nil
	}
	now := time.Now()
	content := peersFile{Version: 1, Peers: []savedPeer{}}
	ps.mu.Lock()
	for id, pr := range ps.byID {
		if pr.present {
			pr.seen = now
		}
		seen := now.Add(-now.Sub(pr.seen)) // by the clock as it is now, which may have been set since
		content.Peers = append(content.Peers, savedPeer{id, pr.addr, seen.UTC().Truncate(time.Second)})
	}
	ps.mu.Unlock()
	slices.SortFunc(content.Peers, func(a, b savedPeer) int { return cmp.Compare(a.ID, b.ID) })
	b, err := json.MarshalIndent(content, "", " ")
	if err != nil {
		return fmt.Errorf("save peers: %w", err)
	}
	if err := writeFile(ps.file, append(b, '\n')); err != nil {
		return fmt.Errorf("save peers: %w", err)
	}
	return nil
}

// writeFile replaces a file's content in one step.
func writeFile(name string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once renamed
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// rejoinLoop looks for absent peers, and saves the peers when they change.
func (p *Pool) rejoinLoop() {
	p.rejoin(startAtOnce)
	again := time.NewTimer(jitter(rejoinInterval))
	defer again.Stop()
	var save <-chan time.Time // set while a change waits to be saved
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-again.C:
			p.rejoin(rejoinAtOnce)
			again.Reset(jitter(rejoinInterval))
		case <-p.peers.changed:
			if save == nil {
				save = time.After(saveDelay)
			}
		case <-save:
			save = nil
			if err := p.peers.save(); err != nil {
				p.log.Printf("[WARN] membership: %s", quote(err.Error()))
			}
		}
	}
}

// rejoin tries up to n absent peers.
func (p *Pool) rejoin(n int) {
	targets := p.peers.absent(n, p.presentAddrs(), time.Now())
	if len(targets) == 0 {
		return
	}
	if found, _ := p.join(p.ctx, targets); found > 0 { // that absent ones do not answer is no news
		p.log.Printf("[INFO] membership: found absent members: answered=%d members=%d", found, p.alive()+1)
	}
}
