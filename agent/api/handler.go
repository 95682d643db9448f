package api

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scagent/scagent/tasks"
)

// Options configure a handler. The zero Options are those of a unix socket, which
// the file system guards.
type Options struct {
	// Ready says whether the agent is up, for /readyz. Default: it is.
	Ready func() bool
	// Token must be sent as bearer token with every request but /healthz and
	// /readyz. Default: none is asked for.
	Token string
	// Hosts are the values that the Host header may have, such as
	// "127.0.0.1:8080"; pages served there may use the API. Default: any, and
	// no page may.
	Hosts []string
	// Elsewhere answers requests about tasks and runs that were submitted to another
	// agent, and reports whether it did; an error means that nothing was written yet.
	// Default: all are this agent's.
	Elsewhere func(w http.ResponseWriter, r *http.Request, id tasks.ID) (answered bool, err error)
	// Refused is told of each request that the guard refuses. It may be called
	// by several goroutines at once. Default: nobody is told.
	Refused func()
}

// handler is what NewHandler returns. Its fields are constant.
type handler struct {
	b        Backend
	o        Options
	served   http.Handler  // the routes
	watchers chan struct{} // a token for each client of /v1/events
}

// maxWatchers is how many clients of /v1/events there can be; more are refused.
const maxWatchers = 64

// call answers a request. An error means that nothing was written yet.
type call func(w http.ResponseWriter, r *http.Request) error

// route is a method of a path.
type route struct {
	method, pattern string
	call            call
	params          []string // that its query may have
}

// routes are all that is served. What GET and HEAD name changes nothing.
func (h *handler) routes() []route {
	return append(h.owned(), []route{
		{"GET", "/v1/info", h.info, nil},
		{"GET", "/v1/members", h.members, nil},
		{"GET", "/v1/tasks", h.list, []string{"state", "limit", "after", "newest"}},
		{"POST", "/v1/tasks", h.submit, []string{"follow", "dry_run"}},
		{"POST", "/v1/batches", h.batch, nil},
		{"GET", "/v1/events", h.events, []string{"after", "event"}},
		{"POST", "/v1/events", h.sendEvent, nil},
		{"PUT", "/v1/available", h.setAvailable, nil},
		{"PUT", "/v1/data", h.setData, nil},
		{"POST", "/v1/drain", h.drain, nil},
		{"POST", "/v1/join", h.join, nil},
		{"POST", "/v1/leave", h.leave, nil},
		{"POST", "/v1/bench", h.bench, nil},
		{"PUT", "/v1/blobs", h.putBlob, nil},
		{"GET", "/v1/blobs/{hash}", h.getBlob, nil},
		{"HEAD", "/v1/blobs/{hash}", h.getBlob, nil},
		{"GET", healthz, h.healthz, nil},
		{"HEAD", healthz, h.healthz, nil},
		{"GET", readyz, h.readyz, nil},
		{"HEAD", readyz, h.readyz, nil},
	}...)
}

// owned are the routes about one task or run. They are answered by the agent that
// it was submitted to.
func (h *handler) owned() []route {
	rs := []route{
		{"GET", "/v1/tasks/{id}", h.task, nil},
		{"GET", "/v1/tasks/{id}/output", h.output, []string{"stream", "follow"}},
		{"POST", "/v1/tasks/{id}/cancel", h.cancel, nil},
		{"GET", "/v1/runs/{id}/events", h.runEvents, []string{"follow", "output"}},
	}
	if h.o.Elsewhere == nil {
		return rs
	}
	for i, rt := range rs {
		rs[i].call = func(w http.ResponseWriter, r *http.Request) error {
			id, err := pathID(r)
			if err != nil {
				return err
			}
			if answered, err := h.o.Elsewhere(w, r, id); answered || err != nil {
				return err
			}
			return rt.call(w, r)
		}
	}
	return rs
}

// What needs no token: it tells nothing but that an agent is there.
const (
	healthz = "/healthz"
	readyz  = "/readyz"
)

// NewHandler returns the handler of the local API.
func NewHandler(b Backend, o Options) http.Handler {
	h := newHandler(b, o)
	h.serve(h.routes())
	return h
}

// NewTaskHandler returns the handler of the part of the API that is about single
// tasks and runs of this agent, for agents that are asked about them.
func NewTaskHandler(b Backend) http.Handler {
	h := newHandler(b, Options{})
	h.serve(h.owned())
	return h
}

func newHandler(b Backend, o Options) *handler {
	h := &handler{b: b, o: o, watchers: make(chan struct{}, maxWatchers)}
	if h.o.Refused == nil {
		h.o.Refused = func() {}
	}
	return h
}

// serve makes the handler serve these routes.
func (h *handler) serve(routes []route) {
	paths := map[string]map[string]route{} // pattern, method
	for _, rt := range routes {
		if paths[rt.pattern] == nil {
			paths[rt.pattern] = map[string]route{}
		}
		paths[rt.pattern][rt.method] = rt
	}
	mux := http.NewServeMux()
	for pattern, methods := range paths {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			rt, ok := methods[r.Method]
			if !ok {
				writeError(w, badMethod(w, r, methods))
				return
			}
			err := checkQuery(r, rt.params)
			if err == nil {
				err = rt.call(w, r)
			}
			if err != nil {
				writeError(w, err)
			}
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { writeError(w, notFound(r)) })
	// The guard has looked already, and at reads too; what it may miss of a
	// browser that changes something is seen here.
	p := http.NewCrossOriginProtection()
	p.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { writeError(w, crossSite("of another site")) }))
	h.served = p.Handler(mux)
}

func badMethod(w http.ResponseWriter, r *http.Request, methods map[string]route) error {
	allowed := slices.Sorted(maps.Keys(methods))
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return &Error{CodeBadMethod, fmt.Sprintf("the method is %.80q; want %s", r.Method, strings.Join(allowed, " or ")), http.StatusMethodNotAllowed}
}

func notFound(r *http.Request) error {
	return &Error{CodeNotFound, "there is nothing at " + strconv.Quote(r.URL.Path) + "; the routes are in the documentation of package api", http.StatusNotFound}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hd := w.Header()
	hd.Set("X-Content-Type-Options", "nosniff")
	hd.Set("Cache-Control", "no-store")
	hd.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	hd.Set("Referrer-Policy", "no-referrer")
	proven, err := h.guard(r)
	if !proven {
		// Who has not shown the token keeps no connection busy for long, neither
		// with a body that does not end nor with one request after the other.
		hd.Set("Connection", "close")
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(headerTimeout)) // best effort
	}
	if err != nil {
		h.o.Refused()
		writeError(w, err)
		return
	}
	if p := r.URL.Path; p == "" || path.Clean(p) != p {
		writeError(w, notFound(r)) // the mux would answer with a redirect
		return
	}
	h.served.ServeHTTP(w, r)
}

// checkQuery refuses parameters that the route does not have. Routes read those
// that it has with Request.URL.Query.
func checkQuery(r *http.Request, names []string) error {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return badRequest("the query cannot be read: %v", err)
	}
	for name, values := range q {
		if !slices.Contains(names, name) {
			if len(names) == 0 {
				return badRequest("unknown parameter %.80q; there is none here", name)
			}
			return badRequest("unknown parameter %.80q; want %s", name, strings.Join(names, ", "))
		}
		if len(values) > 1 {
			return badRequest("the parameter %s is there %d times; want it once", name, len(values))
		}
	}
	return nil
}

// flag reads a parameter that is 1 or, as when it is not there, 0.
func flag(q url.Values, name string) (bool, error) { return flagOr(q, name, false) }

// flagOr reads a parameter that is 1, 0 or not there.
func flagOr(q url.Values, name string, def bool) (bool, error) {
	switch v := q.Get(name); v {
	case "":
		return def, nil
	case "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	default:
		return false, badRequest("%s is %.80q; want 1 or 0", name, v)
	}
}

// pathID reads the id in the path.
func pathID(r *http.Request) (tasks.ID, error) {
	s := r.PathValue("id")
	if len(s) > 80 {
		s = s[:80]
	}
	return tasks.ParseID(s)
}

func (h *handler) healthz(w http.ResponseWriter, r *http.Request) error { return plain(w) }

func (h *handler) readyz(w http.ResponseWriter, r *http.Request) error {
	if h.o.Ready != nil && !h.o.Ready() {
		return &Error{CodeStarting, "the agent is not up: it is starting, or shutting down", http.StatusServiceUnavailable}
	}
	return plain(w)
}

func plain(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // an error is that the client is gone
	return nil
}

// noBody refuses a body where none is wanted.
func noBody(r *http.Request) error {
	var b [1]byte
	if n, _ := r.Body.Read(b[:]); n > 0 {
		return badRequest("there is a body; want none")
	}
	return nil
}
