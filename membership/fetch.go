package membership

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxFetches      = 8 // at once
	fetchTimeout    = 5 * time.Second
	minFetchBackoff = 250 * time.Millisecond
	maxFetchBackoff = 30 * time.Second

	// maxCacheBytes bounds the documents kept in all. Beyond it documents stay
	// unknown: that takes a thousand nodes with the largest ones.
	maxCacheBytes = 256 << 20
	trimInterval  = time.Minute
)

// documents keeps the documents of members by digest, and fetches those that did
// not fit into metadata.
type documents struct {
	pool   *Pool
	client *http.Transport
	slots  chan struct{} // a token per fetch under way; cap is maxFetches
	wg     sync.WaitGroup

	fetched, errors atomic.Uint64

	// mu guards the fields below. Lock order: documents.mu, then Pool.mu.
	mu      sync.Mutex
	known   map[digest]kept
	bytes   int                            // of all that is known
	wanted  map[digest]map[string]struct{} // ids that announce a document being fetched
	trimmed time.Time
}

type kept struct {
	document *Document
	bytes    int
}

func newDocuments(p *Pool) *documents {
	dial := p.config.DialHTTP
	return &documents{
		pool: p,
		client: &http.Transport{
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) },
			// Each member is asked rarely, and once at a time.
			DisableKeepAlives: true,
			// A small answer must not become a large one.
			DisableCompression:     true,
			MaxResponseHeaderBytes: 8 << 10,
		},
		slots:  make(chan struct{}, maxFetches),
		known:  make(map[digest]kept),
		wanted: make(map[digest]map[string]struct{}),
	}
}

// get returns the document that m announces, or nil when it is to be fetched,
// and what identifies it.
func (d *documents) get(m *meta) (*Document, digest) {
	d.mu.Lock()
	have, ok := d.known[m.digest]
	d.mu.Unlock()
	if ok || m.inside == nil {
		return have.document, m.digest
	}
	encoded, err := inflate(m.inside)
	if err != nil {
		return nil, m.digest
	}
	doc, err := decodeDocument(encoded)
	if err != nil || d.keep(m.digest, doc, len(encoded)) != nil {
		return nil, m.digest
	}
	return doc, m.digest
}

func (d *documents) keep(key digest, doc *Document, bytes int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bytes+bytes > maxCacheBytes {
		return fmt.Errorf("documents of all members exceed %d bytes", maxCacheBytes)
	}
	if _, ok := d.known[key]; !ok {
		d.known[key] = kept{doc, bytes}
		d.bytes += bytes
	}
	return nil
}

// want fetches a document, from the member with the given id or any other that
// announces it, until it is there or nobody announces it any more. Only the
// keeper calls it.
func (d *documents) want(key digest, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ids, underWay := d.wanted[key]
	if !underWay {
		ids = make(map[string]struct{})
		d.wanted[key] = ids
	}
	ids[id] = struct{}{}
	if !underWay {
		d.wg.Go(func() { d.fetchUntilDone(key) })
	}
}

func (d *documents) fetchUntilDone(key digest) {
	p := d.pool
	// All members learn of a new document at about the same time: the more there
	// are, the longer they spread their questions.
	spread := min(50*time.Millisecond+time.Duration(p.alive())*2*time.Millisecond, 1500*time.Millisecond)
	wait := rand.N(spread)
	for backoff := minFetchBackoff; ; backoff = min(2*backoff, maxFetchBackoff) {
		if !p.sleep(wait) {
			return
		}
		owner, ok := d.owner(key)
		if !ok {
			return
		}
		select {
		case d.slots <- struct{}{}:
		case <-p.ctx.Done():
			return
		}
		err := d.fetch(key, owner)
		<-d.slots
		if err == nil {
			d.fetched.Add(1)
			d.arrived(key)
			return
		}
		d.errors.Add(1)
		p.log.Printf("[DEBUG] membership: document not fetched: addr=%s digest=%s error=%s",
			owner, key, quote(err.Error()))
		wait = jitter(backoff)
	}
}

// owner returns the address of a member that announces a document. When there is
// none any more, the document is no longer wanted.
func (d *documents) owner(key digest) (netip.AddrPort, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.wanted[key] { // in no particular order, so each gets its turn
		if addr, ok := d.pool.announces(id, key); ok {
			return addr, true
		}
		delete(d.wanted[key], id)
	}
	delete(d.wanted, key)
	return netip.AddrPort{}, false
}

// announces returns the address of a member if it is present and its metadata
// names the document.
func (p *Pool) announces(id string, key digest) (netip.AddrPort, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	proc := p.roster.current(id, time.Now())
	if proc == nil || !proc.alive || proc.meta.inside != nil || proc.meta.digest != key {
		return netip.AddrPort{}, false
	}
	return proc.addr, true
}

// arrived shows the document at all members that announce it.
func (d *documents) arrived(key digest) {
	d.mu.Lock()
	ids := d.wanted[key]
	delete(d.wanted, key)
	d.mu.Unlock()
	p := d.pool
	p.mu.Lock()
	for id := range ids {
		p.roster.dirty[id] = struct{}{}
	}
	p.mu.Unlock()
	signal(p.wake)
}

func (d *documents) fetch(key digest, owner netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(d.pool.ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+owner.String()+documentPath+key.String(), nil)
	if err != nil {
		return err
	}
	resp, err := d.client.RoundTrip(req) // which follows no redirects
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxDocumentBytes+1))
	if err != nil {
		return err
	}
	if len(b) > MaxDocumentBytes {
		return fmt.Errorf("%w: more than %d bytes", ErrDocumentTooLarge, MaxDocumentBytes)
	}
	if digestOf(b) != key {
		return errors.New("the document is not the announced one")
	}
	doc, err := decodeDocument(b)
	if err != nil {
		return err
	}
	return d.keep(key, doc, len(b))
}

// trim forgets, now and then, the documents that no process announces.
func (d *documents) trim(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.trimmed) < trimInterval {
		return
	}
	d.trimmed = now
	used := make(map[digest]struct{})
	d.pool.mu.Lock()
	for _, list := range d.pool.roster.nodes {
		for _, proc := range list {
			used[proc.meta.digest] = struct{}{}
		}
	}
	d.pool.mu.Unlock()
	for key, k := range d.known {
		if _, ok := used[key]; !ok {
			delete(d.known, key)
			d.bytes -= k.bytes
		}
	}
}

// wait returns when no fetch is under way. The Pool's context has ended.
func (d *documents) wait() { d.wg.Wait() }
