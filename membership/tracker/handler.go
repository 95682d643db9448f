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

// Path is where hosts are listed and announced.
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
	cfg       Config // constant
	origin    *http.CrossOriginProtection
	table     table
	farewells farewells
	full      rate.Sometimes // logging of refusals
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
// Those of which External is true announced a service.
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
	case r.URL.Path == ServicesPath && r.Method == http.MethodPost:
		h.announceServices(w, r)
	case r.URL.Path != Path:
		fail(w, http.StatusNotFound, "not_found", "there is only "+Path+", and POST "+ServicesPath)
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
	body, ok := h.read(w, r)
	if !ok {
		return
	}
	source := ""
	if from := sourceOf(r); from.IsValid() {
		source = from.Addr().String()
	}
	host, err := parseHost(body, source)
	if err != nil {
		refuse(w, "bad_host", err)
		return
	}
	if h.put(w, hostEntry(host)) {
		h.list(w)
	}
}

func (h *Handler) announceServices(w http.ResponseWriter, r *http.Request) {
	body, ok := h.read(w, r)
	if !ok {
		return
	}
	services, err := parseServices(body, sourceOf(r))
	if err != nil {
		refuse(w, "bad_service", err)
		return
	}
	if h.put(w, services...) {
		h.listServices(w)
	}
}

// read returns the body of a request, or answers why it does not.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	if err := h.origin.Check(r); err != nil {
		fail(w, http.StatusForbidden, "cross_origin", "a page of another site may not announce hosts")
		return nil, false
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		fail(w, http.StatusUnsupportedMediaType, "bad_encoding", fmt.Sprintf("the body is encoded as %.20q; send it plain", e))
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	if big := (*http.MaxBytesError)(nil); errors.As(err, &big) {
		fail(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the body is more than %d bytes", MaxBodyBytes))
		return nil, false
	} else if err != nil {
		fail(w, http.StatusBadRequest, "bad_request", "the body ended early")
		return nil, false
	}
	return body, true
}

// refuse answers what is wrong with a body.
func refuse(w http.ResponseWriter, code string, err error) {
	if errors.Is(err, errNotJSON) {
		code = "bad_json"
	}
	fail(w, http.StatusBadRequest, code, err.Error())
}

// put adds or renews all for which there is room, or answers that there is not
// for some.
func (h *Handler) put(w http.ResponseWriter, all ...*entry) bool {
	var full error
	for _, e := range all {
		isNew, err := h.table.add(e)
		if err != nil {
			full = err
			h.full.Do(func() {
				h.cfg.Logger.Printf("[WARN] tracker: host refused: addr=%q error=%q", e.host.HostPort(), err)
			})
		} else if isNew {
			h.cfg.Logger.Printf("[DEBUG] tracker: host announced: addr=%q roles=%q name=%q external=%t", e.host.HostPort(), e.host.Roles, e.host.Name, e.host.External)
		}
	}
	if full != nil {
		w.Header().Set("Retry-After", "3")
		fail(w, http.StatusServiceUnavailable, "full", full.Error())
	}
	return full == nil
}

// sourceOf returns the address that a request came from, not valid if it has none.
func sourceOf(r *http.Request) netip.AddrPort {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// list writes the hosts one by one, so that many requests for a long list do
// not each hold a copy of it.
func (h *Handler) list(w http.ResponseWriter) {
	members, taken, announced := h.hosts()
	out := answer(w)
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
			if e.host.is(role) && !taken[e.host.HostPort()] {
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

// listServices writes the map of all services, and of those that have gone a
// short while ago. Of two with one id, a member's is listed, or else the older.
func (h *Handler) listServices(w http.ResponseWriter) {
	number := h.farewells.begin()
	members, taken, announced := h.hosts()
	var all []service
	ids := make(map[string]bool)
	add := func(services []service) {
		for _, s := range services {
			if !ids[s.ID] {
				ids[s.ID] = true
				all = append(all, s)
			}
		}
	}
	for i := range members {
		add(members[i].services())
	}
	for _, e := range announced {
		if e.host.External || !taken[e.key] {
			add(e.services())
		}
	}
	all = append(all, h.farewells.to(all, number)...)

	out := answer(w)
	sep := "{"
	for i := range all {
		s := &all[i]
		if len(s.Data) == 0 {
			s.Data = json.RawMessage("{}")
		}
		id, _ := marshal(s.ID) // a string: cannot fail
		if b, err := marshal(s); err == nil {
			out.WriteString(sep)
			out.Write(id)
			out.WriteString(":")
			out.Write(b)
			sep = ","
		}
	}
	if sep == "{" {
		out.WriteString(sep)
	}
	out.WriteString("}\n")
	out.Flush() // an error means that the client has gone
}

// hosts returns what is listed, and which addresses are of members.
func (h *Handler) hosts() (members []Host, taken map[string]bool, announced []*entry) {
	members = h.cfg.Members()
	taken = make(map[string]bool, len(members))
	for i := range members {
		taken[members[i].HostPort()] = true
	}
	return members, taken, h.table.live()
}

// answer begins an answer in JSON.
func answer(w http.ResponseWriter) *bufio.Writer {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	return bufio.NewWriter(w)
}

// encode returns h as JSON, without line end.
func encode(h *Host) ([]byte, error) {
	c := *h
	if len(c.Data) == 0 {
		c.Data = json.RawMessage("{}")
	}
	return marshal(&c)
}

// marshal returns v as JSON, with data as it came: json.Marshal would escape it.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
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
