package tracker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"
)

// errNotJSON marks a body that is no JSON object, as opposed to one that says
// something impossible.
var errNotJSON = errors.New("the body is not a JSON object")

// announced is the body of an announcement.
type announced struct {
	Addr      *string         `json:"addr"`
	Port      *int            `json:"port"`
	Role      string          `json:"role"`
	Roles     []string        `json:"roles"`
	Data      json.RawMessage `json:"data"`
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Available *bool           `json:"available"` // absent: true
	Slots     int             `json:"slots"`
}

// wanted says what JSON each field takes.
var wanted = map[string]string{
	"addr":      "a string",
	"port":      "a whole number, 1 to 65535",
	"role":      "a string",
	"roles":     "a list of strings",
	"id":        "a string",
	"name":      "a string",
	"available": "true or false",
	"slots":     "a whole number",
	"services":  "a map from id to {id, name, data, available}",
}

// parseHost reads an announcement. A host that does not say its address has
// that of source.
func parseHost(body []byte, source string) (Host, error) {
	var a announced
	if err := decodeObject(body, &a); err != nil {
		return Host{}, err
	}
	h := Host{Addr: source, Data: json.RawMessage("{}"), ID: a.ID, Name: a.Name, Roles: a.Roles, Available: true, Slots: a.Slots}
	if a.Role != "" {
		h.Roles = append(h.Roles, a.Role)
	}
	slices.Sort(h.Roles)
	h.Roles = slices.Compact(h.Roles)
	switch {
	case a.Addr != nil:
		h.Addr = canonical(*a.Addr)
	case source == "":
		return Host{}, errors.New("addr is missing, and the request came from no address; want an IP address or a host name")
	}
	if a.Port == nil {
		return Host{}, errors.New("port is missing; want 1 to 65535")
	}
	h.Port = *a.Port
	if a.Available != nil {
		h.Available = *a.Available
	}
	if len(a.Data) > 0 {
		var compact bytes.Buffer
		if err := json.Compact(&compact, a.Data); err != nil {
			return Host{}, fmt.Errorf("%w: data: %w", errNotJSON, err)
		}
		h.Data = compact.Bytes()
	}
	if err := h.Validate(); err != nil {
		return Host{}, err
	}
	if !h.is(Master) && !h.is(Worker) {
		return Host{}, errors.New("role is missing; want worker, master or both in roles")
	}
	return h, nil
}

// canonical makes the spellings of one address or name the same.
func canonical(addr string) string {
	if ip, err := netip.ParseAddr(addr); err == nil {
		return ip.Unmap().String()
	}
	return strings.ToLower(addr)
}

// decodeObject decodes one JSON object and nothing else, and says what is wrong
// without the words of package json, which are for Go programmers.
func decodeObject(body []byte, v any) error {
	first, _ := utf8.DecodeRune(bytes.TrimLeft(body, " \t\r\n"))
	switch {
	case !utf8.Valid(body):
		return fmt.Errorf("%w: it is not UTF-8", errNotJSON)
	case first == utf8.RuneError:
		return fmt.Errorf("%w: it is empty", errNotJSON)
	case first != '{':
		return fmt.Errorf("%w: it starts with %q", errNotJSON, first)
	}
	err := json.Unmarshal(body, v)
	if e := (*json.UnmarshalTypeError)(nil); errors.As(err, &e) {
		field, _, _ := strings.Cut(e.Field, ".")
		return fmt.Errorf("%s is a %.40s; want %s", field, e.Value, wanted[field])
	} else if err != nil {
		return fmt.Errorf("%w: %w", errNotJSON, err)
	}
	return nil
}
