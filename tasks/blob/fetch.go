package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
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

// Fetch downloads the content of the given hash and size from a URL that serves
// it as ServeHTTP does, unless it is here already. Fetches of one hash at the
// same time share one download. Nobody holds the content yet. Errors:
// ErrNotFound, ErrCorrupt (another content, or another size, came), ErrFull,
// ErrClosed, the cause of ctx, or what the last connection broke off with.
// Redirects are not followed.
func (s *Store) Fetch(ctx context.Context, client *http.Client, url, hash string, size int64) error {
	if !hashForm.MatchString(hash) || size < 0 {
		return fmt.Errorf("blob %.64q of %d bytes: not a hash and a size", hash, size)
	}
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return ErrClosed
		}
		if e := s.blobs[hash]; e != nil && e.verified {
			e.since = time.Now()
			s.mu.Unlock()
			return nil
		}
		left := s.blobs[hash] != nil
		other := s.fetching[hash]
		var mine chan struct{}
		if other == nil && !left {
			mine = make(chan struct{})
			s.fetching[hash] = mine
		}
		s.mu.Unlock()

		switch {
		case left: // by an earlier agent: as good as fetched, or dropped
			if f, _, err := s.Get(hash); err == nil {
				f.Close()
			} else if !errors.Is(err, ErrNotFound) {
				return err
			}
		case mine != nil:
			err := s.download(ctx, client, url, hash, size)
			s.mu.Lock()
			delete(s.fetching, hash)
			s.mu.Unlock()
			close(mine)
			return err
		default:
			select {
			case <-other:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// download fetches one content, with as many connections as it takes.
func (s *Store) download(ctx context.Context, client *http.Client, url, hash string, size int64) error {
	in, err := s.begin()
	if err != nil {
		return err
	}
	defer in.discard()
	direct := *client
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	most := int64(0) // that there ever was: a server without ranges begins anew each time
	for tries := 0; ; {
		err := in.receive(ctx, &direct, url, hash, size)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, errPermanent) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFull) || errors.Is(err, ErrNotFound) {
			return fmt.Errorf("fetch blob from %s: %w", url, err)
		}
		if in.size > most {
			most, tries = in.size, 0
		}
		if tries++; tries == fetchTries {
			return fmt.Errorf("fetch blob from %s: gave up at %d of %d bytes: %w", url, in.size, size, err)
		}
		select {
		case <-time.After(fetchBackoff << (tries - 1)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if got := in.sum(); got != hash {
		return fmt.Errorf("fetch blob from %s: %w: want %s, got %s", url, ErrCorrupt, hash, got)
	}
	_, _, err = in.commit()
	return err
}

// receive makes one request for what is missing, and returns nil when all is
// there.
func (in *inbound) receive(ctx context.Context, client *http.Client, url, hash string, size int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(fetchIdle, func() { cancel(fmt.Errorf("nothing came for %v", fetchIdle)) })
	defer idle.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errPermanent, err)
	}
	req.Header.Set("Accept-Encoding", "identity")
	if in.size > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", in.size))
		req.Header.Set("If-Range", `"`+hash+`"`)
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
		if err := in.restart(); err != nil {
			return err
		}
	case resp.StatusCode == http.StatusNotFound:
		return ErrNotFound
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("the answer was %s", resp.Status)
	default:
		return fmt.Errorf("%w: the answer was %s", errPermanent, resp.Status)
	}
	if n := resp.ContentLength; n >= 0 && in.size+n != size {
		return fmt.Errorf("%w: want %d bytes, it has %d", ErrCorrupt, size, in.size+n)
	}
	err = in.copy(ctx, &idleReader{r: resp.Body, idle: idle}, size)
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

// restart forgets what was received.
func (in *inbound) restart() error {
	if in.size == 0 {
		return nil
	}
	in.size, in.hash = 0, sha256.New()
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
