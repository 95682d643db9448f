package agent

import (
	"crypto/tls"
	"net"
	"net/http"

	"github.com/scagent/scagent/agent/port"
)

// Connections to the public HTTP server of who showed no certificate. They stay open
// between requests, so their number is bounded. Where there is no secret members
// fetch contents over them, a master's many workers from it at once.
const (
	maxGuests          = 2048
	maxGuestsPerSource = 256

	maxSecuredGuests          = 256 // programs such as curl, and strangers
	maxSecuredGuestsPerSource = 64
)

// watchGuests makes a server keep to these numbers.
func (a *Agent) watchGuests(s *http.Server) {
	crowd := port.NewCrowd(maxGuests, maxGuestsPerSource)
	if a.keys != nil {
		crowd = port.NewCrowd(maxSecuredGuests, maxSecuredGuestsPerSource)
	}
	s.ConnState = func(c net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			if t, ok := c.(*tls.Conn); ok && len(t.ConnectionState().PeerCertificates) > 0 {
				return
			}
			if _, ok := crowd.Enter(c); !ok {
				a.httpCrowded.Add(1)
				c.Close()
			}
		case http.StateClosed, http.StateHijacked:
			if crowd.Leave(c) {
				a.httpCrowded.Add(1)
			}
		}
	}
}
