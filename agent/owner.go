package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
)

// The id of a task says which node it was submitted to, and that node alone knows
// it. Whoever is asked about a task of another node asks that node, over HTTP on
// the port, for the same path below ownedPrefix. What is asked so is answered there
// or not at all: it is never passed on again.
const (
	ownedPrefix = "/scagent"
	tasksPath   = "/scagent/v1/tasks/"
	runsPath    = "/scagent/v1/runs/"

	// askerHeader has the id of the node that asks.
	askerHeader = "Scagent-Node"
	// maxAsked bounds the body of what is passed on, all of which is small.
	maxAsked = 256 << 10
	// ownerTimeout bounds how long an owner may take to be reached, and again for the
	// head of its answer.
	ownerTimeout = 10 * time.Second
	// presence is how often it is looked whether the other end is in the pool still.
	presence = time.Second
)

// passed are the headers of an owner's answer that the client sees.
var passed = []string{"Content-Type", "Scagent-Cut-Bytes", "Retry-After"}

// newOwners returns the transport to the owners of tasks, whose hosts are node ids.
// In a secured pool they have to prove that they may submit: who has a worker token
// owns no task, whatever its id.
func (a *Agent) newOwners() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(ctx, ownerTimeout)
			defer cancel()
			c, err := a.dialNode(ctx, port.SortHTTP, node)
			if err != nil || a.keys == nil {
				return c, err
			}
			p, err := a.keys.PeerOf(c)
			if err == nil && !p.Submit {
				err = errors.New("it has a worker token")
			}
			if err != nil {
				c.Close()
				return nil, err
			}
			return c, nil
		},
		ResponseHeaderTimeout:  ownerTimeout,
		MaxResponseHeaderBytes: 16 << 10,
		IdleConnTimeout:        time.Minute,
		DisableCompression:     true,
	}
}

// elsewhere answers a request about a task or run of another node with that node's
// answer, see api.Options.
func (a *Agent) elsewhere(w http.ResponseWriter, r *http.Request, id tasks.ID) (bool, error) {
	if err := a.running(); err != nil {
		return false, err
	}
	owners, known := ownersOf(a.pool.Members(), id)
	if strings.HasPrefix(a.id.id, id.Owner()) && (len(owners) == 0 || a.knows(id)) {
		return false, nil
	}
	if len(owners) == 0 {
		status := http.StatusNotFound
		if known {
			status = http.StatusServiceUnavailable
		}
		return true, ownerAway(id, status)
	}
	if a.keys != nil && !a.keys.Submits() {
		return true, ErrWorkerToken
	}
	return true, a.askOwners(w, r, owners, id)
}

// ownerAway is the error of a task whose owner is not in the pool.
func ownerAway(id tasks.ID, status int) error {
	return &api.Error{Code: api.CodeOwnerAway, Status: status,
		Message: fmt.Sprintf("task %s was submitted by node %s, which is not in the pool now; its tasks go on when it is back", id, id.Owner())}
}

// askOwners passes the answer of the owner on, which is one of the nodes: ids begin
// alike by chance once in 2^40, and then all are asked. An error means that nothing
// was written.
func (a *Agent) askOwners(w http.ResponseWriter, r *http.Request, owners []string, id tasks.ID) (err error) {
	var body []byte
	if r.Method == http.MethodPost {
		if body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxAsked)); err != nil {
			return err
		}
	}
	for i, node := range owners {
		var done bool
		if done, err = a.askOwner(w, r, body, node, id, i == len(owners)-1); done {
			return nil
		}
	}
	return err
}

// ownersOf returns the other nodes that may have submitted a task, of those that are
// in the pool. known says that there is one that is not.
func ownersOf(members []membership.Member, id tasks.ID) (owners []string, known bool) {
	for _, m := range members {
		switch {
		case m.Self || !strings.HasPrefix(m.ID, id.Owner()):
		case m.Status.Present():
			owners = append(owners, m.ID)
		default:
			known = true
		}
	}
	return owners, known
}

// knows reports whether a task or run was submitted here.
func (a *Agent) knows(id tasks.ID) bool {
	if _, err := a.master.Task(id); err == nil {
		return true
	}
	_, err := a.master.Run(id)
	return err == nil
}

// askOwner passes a request on to a node, and its answer back. Unless it is the last
// that is asked, its word that it does not know the task is no answer. Unless done,
// nothing was written.
func (a *Agent) askOwner(w http.ResponseWriter, r *http.Request, body []byte, node string, id tasks.ID, last bool) (done bool, err error) {
	ctx, cancel := a.whilePresent(r.Context(), node)
	defer cancel()
	url := "http://" + node + ownedPrefix + r.URL.EscapedPath()
	if r.URL.RawQuery != "" {
		url += "?" + r.URL.RawQuery
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	// Nothing else of what the client sent is the owner's business, its token least.
	req.Header.Set(askerHeader, a.id.id)
	if t := r.Header.Get("Content-Type"); t != "" && len(body) > 0 {
		req.Header.Set("Content-Type", t)
	}
	res, err := a.owners.RoundTrip(req)
	if err != nil && ctx.Err() != nil && r.Context().Err() == nil { // it has left the pool meanwhile
		return false, ownerAway(id, http.StatusServiceUnavailable)
	}
	if err != nil {
		return false, &api.Error{Code: api.CodeOwnerAway, Status: http.StatusServiceUnavailable,
			Message: fmt.Sprintf("task %s was submitted by node %s, which does not answer: %v", id, id.Owner(), err)}
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotFound && !last:
		return false, nil
	case res.StatusCode >= 300 && res.Header.Get("Content-Type") != "application/json":
		return false, &api.Error{Code: api.CodeOwnerAway, Status: http.StatusBadGateway,
			Message: fmt.Sprintf("task %s was submitted by node %s, which answers %s; is its scagent older than this one?", id, id.Owner(), res.Status)}
	}
	for _, name := range passed {
		if v := res.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.WriteHeader(res.StatusCode)
	pass(w, res.Body)
	return true, nil
}

// pass copies an answer as it comes. What was not whole must not look so: the
// client is hung up on.
func pass(w http.ResponseWriter, from io.Reader) {
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Time{}) // where there is one: a stream takes as long as its tasks
	b, n := make([]byte, 32<<10), 0
	for {
		// The head first, when there is nothing yet. An error: the client is gone.
		if _, err := w.Write(b[:n]); err != nil || rc.Flush() != nil {
			return
		}
		var err error
		switch n, err = from.Read(b); {
		case n > 0: // the error comes again
		case err == io.EOF:
			return
		case err != nil:
			panic(http.ErrAbortHandler)
		}
	}
}

// whilePresent returns a context that also ends when a node is no longer in the
// pool: TCP says so only after many minutes.
func (a *Agent) whilePresent(ctx context.Context, node string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		tick := time.NewTicker(presence)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-a.ctx.Done():
				return
			case <-tick.C:
				if m, ok := a.pool.Member(node); !ok || !m.Status.Present() {
					return
				}
			}
		}
	}()
	return ctx, func() { cancel(); <-done }
}

// ownedHandler answers other nodes about tasks that were submitted here.
func (a *Agent) ownedHandler() http.Handler {
	h := http.StripPrefix(ownedPrefix, api.NewTaskHandler(a))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.ContentLength != 0 { // before its end it does not show that a client is gone
			http.Error(w, "there is a body; want none", http.StatusBadRequest)
			return
		}
		if node := a.asker(r); node != "" {
			// A task waits for who follows it. It must not wait for a node that is gone.
			rc := http.NewResponseController(w)
			ctx, cancel := a.whilePresent(r.Context(), node)
			defer cancel()
			defer context.AfterFunc(ctx, func() { rc.SetWriteDeadline(time.Now()) })()
			r = r.WithContext(ctx)
		}
		h.ServeHTTP(w, r)
	})
}

// asker is the member that sends a request, by its certificate where there are some;
// empty for one that does not say.
func (a *Agent) asker(r *http.Request) string {
	node := r.Header.Get(askerHeader)
	if a.keys != nil {
		p, err := a.keys.PeerOfTLS(r.TLS)
		if err != nil {
			return ""
		}
		node = p.Node
	}
	if m, ok := a.pool.Member(node); !ok || !m.Status.Present() {
		return ""
	}
	return node
}
