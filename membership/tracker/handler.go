package tracker

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Path is the only one there is.
const Path = "/hostsAvailable"

// MaxBodyBytes is the most that a request may carry.
const MaxBodyBytes = 128 << 10

// Config configures a Handler.
type Config struct {
	// Members returns the hosts of the pool, with their roles. It is called for
	// each request, from its goroutine; the handler does not change what it
	// returns. nil: there is no pool, only what is announced.
	Members func() []Host
	// Logger gets what a person may want to know. nil: nothing is logged.
	Logger *log.Logger
}

// Handler answers the REST API. It starts no goroutine and needs no closing.
type Handler struct {
	cfg    Config // constant
	origin *http.CrossOriginProtection
	table  table
	full   rate.Sometimes // logging of refusals
}

// NewHandler returns a Handler without announced hosts.
func NewHandler(cfg Config) *Handler {
	if cfg.Members == nil {
		cfg.Members = func() []Host { return nil }
	}
	if cfg.Logger == nil {
		cfg.Logger = log.New(io.Discard, "", 0)
	}
	return &Handler{cfg: cfg, origin: http.NewCrossOriginProtection(), full: rate.Sometimes{Interval: time.Minute}}
}

// Announced returns the hosts that announced themselves and live, oldest first.
func (h *Handler) Announced() []Host {
	live := h.table.live()
	hosts := make([]Host, len(live))
	for i, e := range live {
		hosts[i] = e.host
	}
	return hosts
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != Path:
		fail(w, http.StatusNotFound, "not_found", "there is only "+Path)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		h.list(w)
	case r.Method == http.MethodPost:
		h.announce(w, r)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		fail(w, http.StatusMethodNotAllowed, "method_not_allowed", fmt.Sprintf("%.20q is not for this; want GET or POST", r.Method))
	}
}

func (h *Handler) announce(w http.ResponseWriter, r *http.Request) {
	if err := h.origin.Check(r); err != nil {
		fail(w, http.StatusForbidden, "cross_origin", "a page of another site may not announce hosts")
		return
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		fail(w, http.StatusUnsupportedMediaType, "bad_encoding", fmt.Sprintf("the body is encoded as %.20q; send it plain", e))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	if big := (*http.MaxBytesError)(nil); errors.As(err, &big) {
		fail(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the body is more than %d bytes", MaxBodyBytes))
		return
	} else if err != nil {
		fail(w, http.StatusBadRequest, "bad_request", "the body ended early")
		return
	}
	host, err := parseHost(body, source(r))
	if code := "bad_host"; err != nil {
		if errors.Is(err, errNotJSON) {
			code = "bad_json"
		}
		fail(w, http.StatusBadRequest, code, err.Error())
		return
	}
	isNew, err := h.table.put(host)
	if err != nil {
		h.full.Do(func() {
			h.cfg.Logger.Printf("[WARN] tracker: host refused: addr=%q error=%q", host.HostPort(), err)
		})
		w.Header().Set("Retry-After", "3")
		fail(w, http.StatusServiceUnavailable, "full", err.Error())
		return
	}
	if isNew {
		h.cfg.Logger.Printf("[DEBUG] tracker: host announced: addr=%q roles=%q name=%q", host.HostPort(), host.Roles, host.Name)
	}
	h.list(w)
}

// source returns the address that a request came from, "" if it has none.
func source(r *http.Request) string {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return ap.Addr().Unmap().WithZone("").String()
}

// list writes the hosts one by one, so that many requests for a long list do
// not each hold a copy of it.
func (h *Handler) list(w http.ResponseWriter) {
	members := h.cfg.Members()
	taken := make(map[string]bool, len(members))
	for i := range members {
		taken[members[i].HostPort()] = true
	}
	announced := h.table.live()

	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	out := bufio.NewWriter(w)
	hosts := func(role string) {
		sep := ""
		put := func(b []byte) {
			out.WriteString(sep)
			out.Write(b)
			sep = ","
		}
		for i := range members {
			if m := &members[i]; m.is(role) {
				if b, err := encode(m); err == nil {
					put(b)
				}
			}
		}
		for _, e := range announced {
			if e.host.is(role) && !taken[e.key] {
				put(e.json)
			}
		}
	}
	out.WriteString(`{"masters":[`)
	hosts(Master)
	out.WriteString(`],"workers":[`)
	hosts(Worker)
	out.WriteString("]}\n")
	out.Flush() // an error means that the client has gone
}

// encode returns h as JSON, without line end.
func encode(h *Host) ([]byte, error) {
	c := *h
	if len(c.Data) == 0 {
		c.Data = json.RawMessage("{}")
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // data is to come out as it went in
	if err := enc.Encode(&c); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// fail answers an error in one line.
func fail(w http.ResponseWriter, status int, code, message string) {
	var e errorBody
	e.Error.Code, e.Error.Message = code, message
	b, _ := json.Marshal(e) // two strings: cannot fail
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
}

// errorBody is what fail writes and the client reads.
type errorBody struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}
