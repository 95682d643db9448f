package beacon

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A map of services is one datagram of JSON, as sc-discovery sends it to the
// same group and port:
//
//	{"ID":{"id":"ID","name":"worker","data":{...},"available":true},...}
//
// What a node of ours sends has "scagent":"NODE" beside the four. A host that
// only listens sends an empty map.

// MaxMapBytes is the largest map of services that is looked at.
const MaxMapBytes = 8 << 10

const (
	maxSentMapBytes = 1400 // travels in one piece
	maxServiceText  = 256  // bytes of an id, and of a name
)

// Service is what sc-discovery calls one. A node is one for each of its roles.
type Service struct {
	Name      string          // the role
	Data      json.RawMessage // any JSON; nil is {}
	Available bool
}

// wireService is one value of a map. Readers want the first four fields.
type wireService struct {
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Data      json.RawMessage `json:"data"`
	Available bool            `json:"available"`
	Scagent   string          `json:"scagent,omitempty"` // the node that says so, if it is one of ours
}

// isMap tells a map of services from an announcement.
func isMap(b []byte) bool { return len(b) > 0 && b[0] == '{' }

// encodeMap returns the datagram for the services of a node. Their data is left
// out when it would not fit.
func encodeMap(node string, services []Service) ([]byte, error) {
	all := make(map[string]*wireService, len(services))
	for _, s := range services {
		w := &wireService{ID: s.Name + ":" + node, Name: s.Name, Data: s.Data, Available: s.Available, Scagent: node}
		if len(w.Data) == 0 || len(w.Data) > maxSentMapBytes {
			w.Data = json.RawMessage("{}")
		}
		all[w.ID] = w
	}
	b, err := json.Marshal(all)
	if err != nil || len(b) > maxSentMapBytes {
		for _, w := range all {
			w.Data = json.RawMessage("{}")
		}
		b, err = json.Marshal(all)
	}
	if err == nil && len(b) > maxSentMapBytes {
		err = fmt.Errorf("the services take %d bytes without their data, at most %d", len(b), maxSentMapBytes)
	}
	return b, err
}

var errNoMap = errors.New("not a map of services")

// decodeMap reads a datagram. It returns the services that are not of nodes of
// ours, without address, and whether an sc-discovery host sent it. One
// impossible service makes all of it an error.
func decodeMap(b []byte) (all []External, external bool, err error) {
	if len(b) > MaxMapBytes || !isMap(b) || !utf8.Valid(b) {
		return nil, false, errNoMap
	}
	var m map[string]*wireService
	if json.Unmarshal(b, &m) != nil {
		return nil, false, errNoMap
	}
	for id, s := range m {
		switch {
		case s == nil || !isServiceText(id) || !isServiceText(s.Name):
			return nil, false, errNoMap
		case s.Scagent != "":
			continue
		case len(s.Data) == 0:
			s.Data = json.RawMessage("{}")
		}
		all = append(all, External{ID: id, Name: s.Name, Data: s.Data, Available: s.Available})
	}
	return all, len(all) > 0 || len(m) == 0, nil
}

func isServiceText(s string) bool {
	return s != "" && len(s) <= maxServiceText && !strings.ContainsFunc(s, unicode.IsControl)
}
