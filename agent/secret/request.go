package secret

import (
	"bytes"
	"container/list"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	scheme = "SC1"

	// requestAge is how far the clocks of the two sides may be apart.
	requestAge = 2 * time.Minute
	// MaxSignedBytes is the longest body of a signed request. It is read before the
	// signature can be checked, so it is no longer than what a tracker takes.
	MaxSignedBytes = 128 << 10
	maxNonces      = 100_000
	nonceBytes     = 16
)

// SignRequest returns the value of the Authorization header for a request of a
// client that has no certificate:
//
//	SC1 ts=1764000000,nonce=…,body=…,sig=…
//
// body is the SHA-256 of the body, sig the HMAC-SHA256, with K discovery of the
// package comment, of these lines: the method, the path with its query, ts, nonce
// and body, joined by "\n"; all are in hexadecimal. It is good for one request,
// within two minutes of ts. That the header has the digest too lets a server check
// the signature before it reads any of the body.
func (s *Secret) SignRequest(method, pathQuery string, body []byte, now time.Time) string {
	var nonce [nonceBytes]byte
	rand.Read(nonce[:])
	ts, n, sum := strconv.FormatInt(now.Unix(), 10), hex.EncodeToString(nonce[:]), bodySum(body)
	return fmt.Sprintf("%s ts=%s,nonce=%s,body=%s,sig=%x", scheme, ts, n, sum, s.signature(method, pathQuery, ts, n, sum))
}

func (s *Secret) signature(method, pathQuery, ts, nonce, bodySum string) []byte {
	mac := hmac.New(sha256.New, s.discovery[:])
	io.WriteString(mac, strings.Join([]string{method, pathQuery, ts, nonce, bodySum}, "\n"))
	return mac.Sum(nil)
}

func bodySum(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Nonces remembers the nonces of requests, so that none is good twice. The zero
// value is ready.
type Nonces struct {
	mu   sync.Mutex
	seen map[string]struct{}
	old  list.List // of seenNonce, the oldest in front
}

type seenNonce struct {
	nonce string
	until time.Time
}

// take reports whether the nonce is new. When too many are remembered, it is not
// known, and the answer is no.
func (n *Nonces) take(nonce string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for e := n.old.Front(); e != nil && now.After(e.Value.(seenNonce).until); e = n.old.Front() {
		delete(n.seen, n.old.Remove(e).(seenNonce).nonce)
	}
	if _, ok := n.seen[nonce]; ok || len(n.seen) >= maxNonces {
		return false
	}
	if n.seen == nil {
		n.seen = map[string]struct{}{}
	}
	n.seen[nonce] = struct{}{}
	n.old.PushBack(seenNonce{nonce, now.Add(2*requestAge + time.Second)})
	return true
}

// CheckRequest says whether r was signed with one of the keyring's secrets. It
// reads the body and puts it back.
func (k *Keyring) CheckRequest(r *http.Request, nonces *Nonces) error {
	kind, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(kind, scheme) {
		return errors.New("want a node's certificate, or a signed request: see scagent secret header")
	}
	fields := map[string]string{}
	for _, f := range strings.Split(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		if _, twice := fields[name]; twice || len(fields) > 8 {
			return errors.New("the Authorization header cannot be read")
		}
		fields[name] = value
	}
	ts, err := strconv.ParseInt(fields["ts"], 10, 64)
	sig, err2 := hex.DecodeString(fields["sig"])
	if nonce, err3 := hex.DecodeString(fields["nonce"]); err != nil || err2 != nil || err3 != nil || len(nonce) != nonceBytes {
		return errors.New("the Authorization header cannot be read")
	}
	now := k.now()
	if age := now.Sub(time.Unix(ts, 0)); age > requestAge || age < -requestAge {
		return fmt.Errorf("the request was signed %v from now, want at most %v: set the clocks, and sign again", age.Round(time.Second), requestAge)
	}
	signed := slices.ContainsFunc(k.current().chain, func(e Entry) bool {
		return hmac.Equal(sig, e.Secret.signature(r.Method, r.URL.RequestURI(), fields["ts"], fields["nonce"], fields["body"]))
	})
	if !signed {
		return errors.New("the signature is wrong; sign with this cluster's secret")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxSignedBytes+1))
	if err != nil || len(body) > MaxSignedBytes {
		return fmt.Errorf("the body cannot be read, or has more than %d bytes", MaxSignedBytes)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if bodySum(body) != fields["body"] {
		return errors.New("the body is not the one that was signed; give it to scagent secret header too")
	}
	if !nonces.take(fields["nonce"], now) {
		return errors.New("the request was made before; sign each one anew")
	}
	return nil
}
