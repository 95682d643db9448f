package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A download goes on after a broken connection from where it was, as long as
// each fetchTries connections in a row bring some of it.
const (
	fetchTries   = 5
	fetchBackoff = 100 * time.Millisecond // before the second try; doubled for each further
	fetchIdle    = 30 * time.Second       // a connection that brings nothing for so long is given up
)

// errPermanent marks an answer that another try would not change.
var errPermanent = errors.New("refused")

// Fetch opens the content of the given hash and size, and downloads it from a URL
// that serves it as ServeHTTP does, unless it is here already. Fetches of one hash
// at the same time share one download.
//
// What is large has been compared with the checksum that its sender had from when
// it was stored there, not with its hash. It is given without that only to who
// fetches it from the same host, which can tell itself nothing but its own lie;
// all others wait until it is hashed.
//
// Errors: ErrNotFound, ErrCorrupt (another content, or another size, came),
// ErrFull, ErrClosed, the cause of ctx, or what the last connection broke off
// with. Redirects are not followed.
func (s *Store) Fetch(ctx context.Context, client *http.Client, from, hash string, size int64) (*Held, error) {
	u, err := url.Parse(from)
	if err != nil || u.Host == "" || !hashForm.MatchString(hash) || size < 0 {
		return nil, fmt.Errorf("blob %.64q of %d bytes from %.200q: not a hash, a size and a URL", hash, size, from)
	}
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		e := s.blobs[hash]
		if e != nil && (e.verified || e.source == u.Host) {
			s.holdLocked(hash, e, 1)
			s.mu.Unlock()
			if h, err := s.held(hash, e); !errors.Is(err, ErrNotFound) {
				return h, err
			}
			continue
		}
		coming := s.fetching[hash]
		if coming == nil && e == nil {
			s.fetching[hash] = make(chan struct{})
			s.fetched++
		}
		s.mu.Unlock()

		switch {
		case coming != nil:
			select {
			case <-coming:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		case e != nil: // it matches its hash, or is dropped
			if f, _, err := s.Get(hash); err == nil {
				f.Close()
			} else if !errors.Is(err, ErrNotFound) {
				return nil, err
			}
		default:
			e, err := s.fetch(ctx, client, from, u.Host, hash, size)
			s.arrived(hash)
			if err != nil {
				return nil, err
			}
			return s.held(hash, e)
		}
	}
}

// arrived ends the wait for a content that was on its way in.
func (s *Store) arrived(hash string) {
	s.mu.Lock()
	close(s.fetching[hash])
	delete(s.fetching, hash)
	s.mu.Unlock()
}

// held opens e, which is held for it. ErrNotFound: its file is gone, and so is e;
// something else may have come in its place.
func (s *Store) held(hash string, e *entry) (*Held, error) {
	f, err := os.Open(e.path)
	if errors.Is(err, fs.ErrNotExist) && s.drop(hash, e) {
		return nil, notFound(hash)
	}
	if err != nil {
		s.Release(hash)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, notFound(hash)
		}
		return nil, fmt.Errorf("blob: %w", err)
	}
	return &Held{File: f, s: s, hash: hash, e: e}, nil
}

// fetch downloads a content, which is held once then.
func (s *Store) fetch(ctx context.Context, client *http.Client, from, host, hash string, size int64) (*entry, error) {
	in, err := s.begin(size < BulkBytes)
	if err != nil {
		return nil, err
	}
	defer in.discard()
	if err := in.download(ctx, client, from, hash, size); err != nil {
		return nil, err
	}
	e := &entry{holds: 1, cached: true, verified: in.sums.sha != nil, source: host}
	switch {
	case e.verified:
	case in.told == nil: // it does not know it
		e.verified, in.sums = true, newSums(true)
		if err := in.sums.read(in.s.ctx, io.NewSectionReader(in.f, 0, size)); err != nil {
			return nil, fmt.Errorf("blob %s: %w", hash, err)
		}
	case *in.told != in.sums.crc:
		return nil, fmt.Errorf("fetch blob from %s: %w: want checksum %08x, got %08x", from, ErrCorrupt, *in.told, in.sums.crc)
	}
	if e.verified && in.sums.hash() != hash {
		return nil, fmt.Errorf("fetch blob from %s: %w: want %s, got %s", from, ErrCorrupt, hash, in.sums.hash())
	}
	return in.commit(hash, e)
}

// Receive downloads what a node has staged (see Stage) and returns its hash. It is
// held once. Errors are as Fetch's.
func (s *Store) Receive(ctx context.Context, client *http.Client, from string, size int64) (hash string, err error) {
	in, err := s.begin(true)
	if err != nil {
		return "", err
	}
	defer in.discard()
	if err := in.download(ctx, client, from, path.Base(from), size); err != nil {
		return "", err
	}
	switch {
	case in.told == nil:
		return "", fmt.Errorf("fetch blob from %s: %w: it tells no checksum", from, ErrCorrupt)
	case *in.told != in.sums.crc:
		return "", fmt.Errorf("fetch blob from %s: %w: want checksum %08x, got %08x", from, ErrCorrupt, *in.told, in.sums.crc)
	}
	hash = in.sums.hash()
	_, err = in.commit(hash, &entry{holds: 1, verified: true})
	return hash, err
}

// download fetches one content, with as many connections as it takes, and the
// checksum that its sender has.
func (in *inbound) download(ctx context.Context, client *http.Client, from, name string, size int64) error {
	direct := *client
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	most := int64(0) // that there ever was: a server without ranges begins anew each time
	whole := false
	for tries := 0; ; {
		err := in.receive(ctx, &direct, from, name, size)
		if err == nil {
			if whole || in.told != nil || size < BulkBytes {
				return nil
			}
			whole = true // it is summed up there while it is sent: ask for that
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, errPermanent) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFull) || errors.Is(err, ErrNotFound) {
			return fmt.Errorf("fetch blob from %s: %w", from, err)
		}
		if in.size > most {
			most, tries = in.size, 0
		}
		if tries++; tries == fetchTries {
			return fmt.Errorf("fetch blob from %s: gave up at %d of %d bytes: %w", from, in.size, size, err)
		}
		select {
		case <-time.After(fetchBackoff << (tries - 1)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// receive makes one request for what is missing, and returns nil when all is
// there.
func (in *inbound) receive(ctx context.Context, client *http.Client, from, name string, size int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(fetchIdle, func() { cancel(fmt.Errorf("nothing came for %v", fetchIdle)) })
	defer idle.Stop()

	whole := in.size == size && size > 0 // but for its checksum
	method := http.MethodGet
	if whole {
		method = http.MethodHead
	}
	req, err := http.NewRequestWithContext(ctx, method, from, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errPermanent, err)
	}
	req.Header.Set("Accept-Encoding", "identity")
	if in.size > 0 && !whole {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", in.size))
		req.Header.Set("If-Range", `"`+name+`"`)
	}
	resp, err := client.Do(req)
	if err != nil {
		return because(ctx, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusPartialContent &&
		strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", in.size)):
	case resp.StatusCode == http.StatusOK:
		if !whole {
			err = in.restart()
		}
	case resp.StatusCode == http.StatusNotFound:
		err = ErrNotFound
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		err = fmt.Errorf("the answer was %s", resp.Status)
	default:
		err = fmt.Errorf("%w: the answer was %s", errPermanent, resp.Status)
	}
	if err != nil {
		return err
	}
	if crc, err := strconv.ParseUint(resp.Header.Get(sumHeader), 16, 32); err == nil {
		told := uint32(crc)
		in.told = &told
	}
	if whole {
		return nil
	}
	if n := resp.ContentLength; n >= 0 && in.size+n != size {
		return fmt.Errorf("%w: want %d bytes, it has %d", ErrCorrupt, size, in.size+n)
	}
	if b, ok := resp.Body.(*bulkBody); ok && b.moves() {
		err = in.move(b, size, idle)
	} else {
		err = in.copy(ctx, &idleReader{r: resp.Body, idle: idle}, size)
	}
	switch {
	case errors.Is(err, ErrTooLarge):
		return fmt.Errorf("%w: it has more than %d bytes", ErrCorrupt, size)
	case in.size == size: // whatever broke after that
		return nil
	case err != nil:
		return because(ctx, err)
	}
	return fmt.Errorf("%w: want %d bytes, it has %d", ErrCorrupt, size, in.size)
}

// Pieces that the kernel moves are read again, to sum them up, by a second
// goroutine, which is at most so many of them behind: they are in the kernel's
// cache still.
const (
	moveBytes = 1 << 20
	moveAhead = 64
)

// move appends the body b, which makes size bytes of the whole, as copy does.
func (in *inbound) move(b *bulkBody, size int64, idle *time.Timer) error {
	queue := make(chan int64, moveAhead)
	var sumError error
	var summing sync.WaitGroup
	at := in.size
	summing.Go(func() {
		for n := range queue {
			if sumError == nil {
				sumError = in.sums.read(in.s.ctx, io.NewSectionReader(in.f, at, n))
			}
			at += n
		}
	})
	var err error
	for in.size < size && err == nil {
		idle.Reset(fetchIdle)
		var n int64
		n, err = b.moveTo(in.f, min(moveBytes, size-in.size))
		in.size += n
		queue <- n
	}
	idle.Stop()
	close(queue)
	summing.Wait()
	switch {
	case sumError != nil:
		return fmt.Errorf("%w: blob store: %w", errPermanent, sumError)
	case err != nil && isFull(err):
		return in.s.writeError(err)
	}
	return err
}

// restart forgets what was received.
func (in *inbound) restart() error {
	if in.size == 0 {
		return nil
	}
	in.size, in.sums = 0, newSums(in.sums.sha != nil)
	_, err := in.f.Seek(0, io.SeekStart)
	if err == nil {
		err = in.f.Truncate(0)
	}
	if err != nil {
		return in.s.writeError(err)
	}
	return nil
}

// because returns why ctx ended in place of err, which then only says that it did.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// idleReader lets a timer run only while it reads, from the start each time.
type idleReader struct {
	r    io.Reader
	idle *time.Timer
}

func (r *idleReader) Read(b []byte) (int, error) {
	r.idle.Reset(fetchIdle)
	defer r.idle.Stop()
	return r.r.Read(b)
}
