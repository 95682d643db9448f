package agent

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"os"
	"slices"
	"time"

	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/membership"
)

// A secret is replaced by `scagent secret rotate` in the file of one agent. That
// agent notices, tells the pool by gossip that there is a new one, and every
// other fetches it from a member that may submit, over TLS under the old secret.
// Who slept through it fetches it when it is back, as long as the old one is
// still taken. Gossip is sealed with the new key when all have had time to learn
// it; whoever has not is still reached over TCP.

const (
	secretPath      = "/scagent/v1/secret"
	messageRotated  = 2 // gossip: there may be a newer secret; no more than this byte
	secretInterval  = 2 * time.Second
	secretAsk       = time.Minute      // a random member is asked so often anyway
	promoteAfter    = 10 * time.Second // time for all to learn a new secret
	maxSecretAnswer = 16 << 10
	secretTimeout   = 5 * time.Second
)

// loadSecret reads the secret's file, and what has replaced that secret since, as
// this node learned and kept in its state directory.
func (a *Agent) loadSecret() (secret.Chain, error) {
	a.secretRead = a.secretModified() // before, so that what replaces it meanwhile is noticed
	chain, err := secret.Load(a.cfg.SecretFile)
	if err != nil {
		return nil, err
	}
	kept, err := secret.Load(a.home.Path("secret"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("%w; move it away if the one in %s is right", err, a.cfg.SecretFile)
	case kept.Has(chain.Current()) && kept.Current().Full() == chain.Current().Full():
		return kept.Reload(chain), nil
	}
	return chain, nil
}

// watchSecret looks for a newer secret until the agent ends: in the file, and at
// other members when there is a sign of one.
func (a *Agent) watchSecret() {
	var (
		modified = a.secretRead
		refused  uint64 // packets sealed with unknown keys
		asked    = time.Now()
		inPool   = false
		promote  time.Time // when to seal with the new key; zero: nothing to do
		chain    = a.keys.Chain()
		tick     = time.NewTicker(secretInterval)
	)
	defer tick.Stop()
	replaced := func(c secret.Chain, from string, take func(secret.Chain) (bool, error)) {
		old := a.keys.Chain().Current()
		ok, err := take(c)
		if err != nil {
			a.cfg.Logger.Printf("[WARN] agent: a newer secret was not taken: from=%s err=%q", from, err)
		}
		if !ok {
			return
		}
		a.keepSecret()
		modified = a.secretModified()
		if a.keys.Chain().Current().Equal(old) {
			a.cfg.Logger.Printf("[INFO] agent: replaced secrets were changed: from=%s", from)
		} else {
			a.cfg.Logger.Printf("[INFO] agent: the secret was replaced: from=%s old_until=%s", from, a.keys.History()[1].Until.Format(time.RFC3339))
			promote = time.Now().Add(promoteAfter)
		}
		if err := a.pool.Broadcast([]byte{messageRotated}); err != nil {
			a.cfg.Logger.Printf("[WARN] agent: the pool was not told of the new secret: err=%q", err)
		}
	}
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-tick.C:
		}
		ask := false
		select {
		case <-a.rotated: // no sooner than this, however often somebody says so
			ask = true
		default:
		}
		if m := a.secretModified(); m != modified {
			modified = m
			if c, err := secret.Load(a.cfg.SecretFile); err != nil {
				a.cfg.Logger.Printf("[ERR] agent: the secret was not read again, the old one stays: err=%q", err)
			} else if replaced(c, a.cfg.SecretFile, a.keys.Reload); !a.keys.Chain().Has(c.Current()) {
				a.cfg.Logger.Printf("[WARN] agent: the file has another secret, which does not replace the one in force; it counts at the next start: file=%s", a.cfg.SecretFile)
			}
		}
		n := a.pool.Stats().Refused[membership.RefusedUnknownKey]
		ask = ask || n > refused || time.Since(asked) > secretAsk || (a.present() > 1) != inPool
		refused, inPool = n, a.present() > 1
		if ask && inPool {
			asked = time.Now()
			if c, from, err := a.askSecret(); err != nil {
				a.cfg.Logger.Printf("[DEBUG] agent: no member told the secret in force: err=%q", err)
			} else {
				replaced(c, from, a.keys.Replace)
			}
		}
		if !promote.IsZero() && time.Now().After(promote) {
			promote = time.Time{}
			a.keys.Promote()
			a.cfg.Logger.Print("[INFO] agent: gossip is sealed with the new secret")
		}
		before := chain
		chain = a.keys.Chain()
		if slices.ContainsFunc(before, func(e secret.Entry) bool { return !chain.Has(e.Secret) }) {
			a.cfg.Logger.Print("[INFO] agent: a replaced secret is no longer taken")
			a.hub.Recheck()
		}
	}
}

// secretModified tells one state of the file from another.
func (a *Agent) secretModified() string {
	st, err := os.Stat(a.cfg.SecretFile)
	if err != nil {
		return ""
	}
	return fmt.Sprint(st.ModTime().UnixNano(), st.Size())
}

// keepSecret writes the secrets where the next start finds them: into the file
// that the agent was given, if it may, and into its own directory.
func (a *Agent) keepSecret() {
	chain := a.keys.History()
	if b, err := os.ReadFile(a.cfg.SecretFile); err != nil || !bytes.Equal(b, chain.Text()) {
		if err := chain.Save(a.cfg.SecretFile); err != nil {
			a.cfg.Logger.Printf("[WARN] agent: the new secret is kept in the state directory alone: err=%q", err)
		}
	}
	if err := chain.Save(a.home.Path("secret")); err != nil {
		a.cfg.Logger.Printf("[ERR] agent: the new secret is not kept, and a restart may not find the pool: err=%q", err)
	}
}

// askSecret fetches the secrets of a random member that may submit. Masters are
// asked first: the others may have worker tokens.
func (a *Agent) askSecret() (secret.Chain, string, error) {
	members := a.pool.Members()
	rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	slices.SortStableFunc(members, func(x, y membership.Member) int {
		return cmp.Compare(masterFirst(&x), masterFirst(&y))
	})
	last, tries := errors.New("there is no other"), 0
	for i := range members {
		m := &members[i]
		if m.Self || !m.Status.Present() {
			continue
		}
		if tries++; tries > 3 {
			break
		}
		chain, err := a.fetchSecret(m.ID)
		if err == nil {
			return chain, m.Name, nil
		}
		last = err
	}
	return nil, "", last
}

func masterFirst(m *membership.Member) int {
	if m.Has(membership.RoleMaster) {
		return 0
	}
	return 1
}

// fetchSecret asks a node, which must prove that it may submit: from a worker's
// answer whoever has a token could put a secret of its own in force.
func (a *Agent) fetchSecret(node string) (secret.Chain, error) {
	var peer secret.Peer
	var unproven error
	ctx, cancel := context.WithTimeout(a.ctx, secretTimeout)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { peer, unproven = a.keys.PeerOf(i.Conn) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+node+secretPath, nil)
	if err != nil {
		return nil, err
	}
	res, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	switch {
	case unproven != nil:
		return nil, unproven
	case !peer.Submit:
		return nil, fmt.Errorf("node %s has a worker token", node)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxSecretAnswer+1))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("node %s answered %s", node, res.Status)
	}
	return secret.ParseChain(b)
}

// tellSecret answers members of the pool: with the secrets who may submit, with
// worker tokens who may not. What a node tells that has only a token itself is not
// believed.
func (a *Agent) tellSecret(w http.ResponseWriter, r *http.Request) {
	peer, err := a.keys.PeerOfTLS(r.TLS)
	if err != nil { // the wrapper has let nobody else through
		http.Error(w, "want a node's certificate", http.StatusForbidden)
		return
	}
	chain := a.keys.Chain()
	if !peer.Submit {
		chain = chain.Tokens()
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(chain.Text()) // an error is that the client is gone
}
