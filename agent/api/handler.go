package api

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

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
}

// handler is what NewHandler returns. Its fields are constant.
type handler struct {
	b        Backend
	o        Options
	mux      *http.ServeMux
	watchers chan struct{} // a token for each client of /v1/events
}

// maxWatchers is how many clients of /v1/events there can be; more are refused.
const maxWatchers = 64

// call answers a request. An error means that nothing was written yet.
type call func(w http.ResponseWriter, r *http.Request) error

// NewHandler returns the handler of the local API.
func NewHandler(b Backend, o Options) http.Handler {
	h := &handler{b: b, o: o, mux: http.NewServeMux(), watchers: make(chan struct{}, maxWatchers)}
	for pattern, calls := range map[string]map[string]call{
		"/v1/info":              {"GET": h.info},
		"/v1/members":           {"GET": h.members},
		"/v1/tasks":             {"GET": h.list, "POST": h.submit},
		"/v1/tasks/{id}":        {"GET": h.task},
		"/v1/tasks/{id}/output": {"GET": h.output},
		"/v1/tasks/{id}/cancel": {"POST": h.cancel},
		"/v1/runs/{id}/events":  {"GET": h.runEvents},
		"/v1/events":            {"GET": h.events},
		"/v1/available":         {"PUT": h.setAvailable},
		"/v1/data":              {"PUT": h.setData},
		"/v1/join":              {"POST": h.join},
		"/v1/leave":             {"POST": h.leave},
		"/v1/blobs":             {"PUT": h.putBlob},
		"/v1/blobs/{hash}":      {"GET": h.getBlob, "HEAD": h.getBlob},
		"/healthz":              {"GET": h.healthz, "HEAD": h.healthz},
		"/readyz":               {"GET": h.readyz, "HEAD": h.readyz},
	} {
		h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			c := calls[r.Method]
			if c == nil {
				var allowed []string
				for m := range calls {
					allowed = append(allowed, m)
				}
				slices.Sort(allowed)
				w.Header().Set("Allow", strings.Join(allowed, ", "))
				writeError(w, &Error{CodeBadMethod, "the method is " + strconv.Quote(r.Method) + "; want " + strings.Join(allowed, " or "), http.StatusMethodNotAllowed})
				return
			}
			if err := c(w, r); err != nil {
				writeError(w, err)
			}
		})
	}
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { writeError(w, notFound(r)) })
	return h
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
	if err := h.guard(r); err != nil {
		writeError(w, err)
		return
	}
	if p := r.URL.Path; p == "" || path.Clean(p) != p {
		writeError(w, notFound(r)) // the mux would answer with a redirect
		return
	}
	h.mux.ServeHTTP(w, r)
}

// query returns the parameters of a request, of which it may have the named ones.
func query(r *http.Request, names ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the query cannot be read: %v", err)
	}
	for name, values := range q {
		if !slices.Contains(names, name) {
			if len(names) == 0 {
				return nil, badRequest("unknown parameter %.80q; there is none here", name)
			}
			return nil, badRequest("unknown parameter %.80q; want %s", name, strings.Join(names, ", "))
		}
		if len(values) > 1 {
			return nil, badRequest("the parameter %s is there %d times; want it once", name, len(values))
		}
	}
	return q, nil
}

// flag reads a parameter that is 1 or 0.
func flag(q url.Values, name string) (bool, error) {
	switch v := q.Get(name); v {
	case "", "0", "false":
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
