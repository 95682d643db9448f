package tracker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ServicesPath is where sc-discovery's HTTP clients announce their services.
const ServicesPath = "/"

// service is a service as sc-discovery's clients read it. They end when one has
// no name, and hold one without available for gone.
type service struct {
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Data      json.RawMessage `json:"data"`
	Available bool            `json:"available"`
	Rinfo     rinfo           `json:"rinfo"`
}

// rinfo says where a service was announced from, as Node.js does.
type rinfo struct {
	Address string `json:"address"`
	Family  string `json:"family"` // IPv4 or IPv6; empty when address is a name
	Port    int    `json:"port"`
}

func newRinfo(addr string, port int) rinfo {
	r := rinfo{Address: addr, Port: port}
	switch ip, err := netip.ParseAddr(addr); {
	case err != nil:
	case ip.Is4():
		r.Family = "IPv4"
	default:
		r.Family = "IPv6"
	}
	return r
}

// services returns a host as services, one for each of its roles. Their ids are
// those that package beacon gives to the services of a node.
func (h *Host) services() []service {
	id := h.ID
	if id == "" {
		id = h.HostPort()
	}
	all := make([]service, len(h.Roles))
	for i, role := range h.Roles {
		all[i] = service{ID: role + ":" + id, Name: role, Data: h.Data, Available: h.Available, Rinfo: newRinfo(h.Addr, h.Port)}
	}
	return all
}

// services returns what e announced, as services.
func (e *entry) services() []service {
	if !e.host.External {
		return e.host.services()
	}
	h := &e.host
	return []service{{ID: h.ID, Name: h.Name, Data: h.Data, Available: h.Available, Rinfo: e.rinfo}}
}

// announcedService is one value of the map that is announced.
type announcedService struct {
	Name      string          `json:"name"`
	Data      json.RawMessage `json:"data"`
	Available bool            `json:"available"`
}

// parseServices reads a map of services that was announced from source. The
// keys of the map are the ids. One impossible service makes all of it an error.
func parseServices(body []byte, source netip.AddrPort) ([]*entry, error) {
	var a struct {
		Services map[string]*announcedService `json:"services"`
	}
	if err := decodeObject(body, &a); err != nil {
		return nil, err
	}
	if len(a.Services) > 0 && !source.IsValid() {
		return nil, errors.New("the request came from no address; services are announced over TCP")
	}
	all := make([]*entry, 0, len(a.Services))
	for id, s := range a.Services {
		e, err := s.entry(id, source)
		if err != nil {
			return nil, fmt.Errorf("service %.40q: %w", id, err)
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int { return strings.Compare(a.key, b.key) })
	return all, nil
}

// entry returns s as the host that is listed for it: of the role that it is
// named for, at the source of the announcement, and at the port that its data
// has as port, if it has one.
func (s *announcedService) entry(id string, source netip.AddrPort) (*entry, error) {
	switch {
	case s == nil:
		return nil, errors.New("it is null; want {id, name, data, available}")
	case s.Name == "":
		return nil, errors.New("name is missing; want a role or another text")
	case id == "" || onObject[id]:
		return nil, errors.New("want another id: clients cannot keep this one in a map")
	}
	h := Host{Addr: source.Addr().String(), Port: int(source.Port()), ID: id, Name: s.Name, Data: json.RawMessage("{}"), Available: s.Available, External: true}
	if slices.Contains([]string{Master, Worker, Tracker}, s.Name) {
		h.Roles = []string{s.Name}
	}
	if len(s.Data) > 0 {
		var compact bytes.Buffer
		if err := json.Compact(&compact, s.Data); err != nil {
			return nil, fmt.Errorf("%w: data: %w", errNotJSON, err)
		}
		h.Data = compact.Bytes()
	}
	var d struct{ Port int }
	if json.Unmarshal(h.Data, &d) == nil && d.Port >= 1 && d.Port <= 65535 {
		h.Port = d.Port
	}
	if err := h.Validate(); err != nil {
		return nil, err
	}
	return &entry{key: "service " + id, host: h, rinfo: newRinfo(h.Addr, int(source.Port()))}, nil
}

// onObject are the properties that every JavaScript object has: as the id of a
// service they end clients that keep services in a plain object.
var onObject = map[string]bool{
	"__proto__": true, "constructor": true, "hasOwnProperty": true, "isPrototypeOf": true, "propertyIsEnumerable": true,
	"toLocaleString": true, "toString": true, "valueOf": true,
	"__defineGetter__": true, "__defineSetter__": true, "__lookupGetter__": true, "__lookupSetter__": true,
}
