package api

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// guard refuses requests that other sites' pages, or names that were made to
// point here, could make a browser send, and those without the token. proven says
// that the client has shown the token, if one is asked for.
//
// The token alone would do: a page of another site does not have it. The rest is
// for the day on which one gets out.
func (h *handler) guard(r *http.Request) (proven bool, err error) {
	proven = h.hasToken(r)
	if err := h.checkOrigin(r); err != nil {
		return proven, err
	}
	if !proven && r.URL.Path != healthz && r.URL.Path != readyz {
		return false, &Error{CodeUnauthorized, "the token is missing or wrong; send this agent's as Authorization: Bearer TOKEN, as nothing else is read", http.StatusUnauthorized}
	}
	return proven, nil
}

// checkOrigin refuses requests that are for another server, or from the pages of
// another site.
func (h *handler) checkOrigin(r *http.Request) error {
	// A browser sends neither the form for proxies nor "*".
	if r.RequestURI != "" && r.RequestURI[0] != '/' {
		return &Error{CodeBadHost, fmt.Sprintf("the request is for %.80q; want a path, as the agent is no proxy", r.RequestURI), http.StatusMisdirectedRequest}
	}
	if len(h.o.Hosts) > 0 && !slices.Contains(h.o.Hosts, r.Host) {
		return &Error{CodeBadHost, fmt.Sprintf("the Host is %.80q; want %s", r.Host, strings.Join(h.o.Hosts, " or ")), http.StatusMisdirectedRequest}
	}
	// Pages are served to browsers, and none of them speaks over a unix socket.
	for _, o := range r.Header.Values("Origin") {
		if len(h.o.Hosts) == 0 || o != "http://"+r.Host {
			return crossSite(fmt.Sprintf("whose Origin is %.80q", o))
		}
	}
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if len(h.o.Hosts) == 0 || site != "same-origin" && site != "none" {
			return crossSite(fmt.Sprintf("whose Sec-Fetch-Site is %.80q", site))
		}
	}
	return nil
}

func crossSite(whose string) error {
	return &Error{CodeBadOrigin, "pages " + whose + " may not use the agent", http.StatusForbidden}
}

// hasToken reports whether the client may use the API: it has sent the token, once
// and in the one header that no page and no link can make a browser send.
func (h *handler) hasToken(r *http.Request) bool {
	if h.o.Token == "" {
		return true
	}
	sent := r.Header.Values("Authorization")
	if len(sent) != 1 {
		return false
	}
	scheme, token, _ := strings.Cut(sent[0], " ")
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare([]byte(token), []byte(h.o.Token)) == 1
}
