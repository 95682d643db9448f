package api

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// guard refuses requests that other sites' pages, or names that were made to point
// here, could make a browser send, and those without the token.
func (h *handler) guard(r *http.Request) error {
	if len(h.o.Hosts) > 0 && !slices.Contains(h.o.Hosts, r.Host) {
		return &Error{CodeBadHost, fmt.Sprintf("the Host is %.80q; want %s", r.Host, strings.Join(h.o.Hosts, " or ")), http.StatusMisdirectedRequest}
	}
	for _, o := range r.Header.Values("Origin") {
		if len(h.o.Hosts) == 0 || o != "http://"+r.Host {
			return &Error{CodeBadOrigin, fmt.Sprintf("the Origin is %.80q; pages of other sites may not use the agent", o), http.StatusForbidden}
		}
	}
	if h.o.Token == "" || r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		return nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare([]byte(token), []byte(h.o.Token)) != 1 {
		return &Error{CodeUnauthorized, "the token is missing or wrong; send this agent's as Authorization: Bearer TOKEN", http.StatusUnauthorized}
	}
	return nil
}
