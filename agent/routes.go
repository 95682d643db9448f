package agent

import (
	"net/http"
	"time"

	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/membership/tracker"
)

// caller is who may call a route of the public HTTP server in a secured pool. In
// the other postures the port has decided who may come, and all may call all.
type caller int

const (
	members    caller = iota + 1 // nodes, by their certificate
	submitters                   // nodes whose certificate lets them submit
	anyone                       // and programs such as curl, by a signature: see secret.SignRequest
)

const busPath = bus.Path

// route is a pattern of the public server.
type route struct {
	pattern string
	caller  caller
	handler http.Handler
}

// routes are all that is served on the agent's port.
func (a *Agent) routes() []route {
	owned := a.ownedHandler()
	rs := []route{
		{blobPath, members, a.blobs},
		{"/scagent/v1/document/", members, a.pool.DocumentHandler()},
		{tasksPath, submitters, owned},
		{runsPath, submitters, owned},
		{busPath, members, a.bus.Handler(a.sender)},
	}
	if a.keys != nil {
		rs = append(rs, route{"GET " + secretPath, members, http.HandlerFunc(a.tellSecret)})
	}
	if a.cfg.has(membership.RoleTracker) {
		a.tracker = tracker.NewHandler(tracker.Config{Members: a.hosts, Logger: a.cfg.Logger})
		rs = append(rs, route{"/", anyone, a.tracker})
	}
	return rs
}

// publicServer answers HTTP on the agent's port. Blobs may take as long as they
// move; whoever sends a request has little to say, and little time.
func (a *Agent) publicServer() *http.Server {
	mux := http.NewServeMux()
	nonces := &secret.Nonces{}
	for _, r := range a.routes() {
		mux.Handle(r.pattern, a.authorized(r, nonces))
	}
	s := &http.Server{Handler: mux, ReadTimeout: 30 * time.Second, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	a.watchGuests(s)
	return s
}

// authorized asks who calls a route.
func (a *Agent) authorized(r route, nonces *secret.Nonces) http.Handler {
	if a.keys == nil {
		return r.handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		p, err := a.keys.PeerOfTLS(req.TLS)
		if err != nil && r.caller == anyone {
			err = a.keys.CheckRequest(req, nonces)
		}
		switch {
		case err != nil:
			a.httpRefused.Add(1)
			w.Header().Set("WWW-Authenticate", "SC1")
			http.Error(w, "this pool has a secret: "+err.Error(), http.StatusUnauthorized)
			return
		case r.caller == submitters && !p.Submit:
			a.httpRefused.Add(1)
			http.Error(w, ErrWorkerToken.Error(), http.StatusForbidden)
			return
		}
		r.handler.ServeHTTP(w, req)
	})
}
