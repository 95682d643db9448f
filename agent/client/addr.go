package client

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/home"
)

func badAddr(addr, why string) error {
	return fmt.Errorf("agent address %q %s; want unix:///path or http://127.0.0.1:PORT", addr, why)
}

// parseURL reads the URL of an agent, which must be on this host. tcp is what is
// dialled for it. What may be a secret is not repeated in errors.
func parseURL(addr string) (u *url.URL, tcp netip.AddrPort, err error) {
	u, err = url.Parse(addr)
	switch {
	case err != nil && strings.ContainsAny(addr, "@?#"):
		err = errors.New("the agent address cannot be read; want unix:///path or http://127.0.0.1:PORT")
	case err != nil:
		err = badAddr(addr, "cannot be read")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		err = fmt.Errorf("agent address %s://%s has more than a host and a port; want http://127.0.0.1:PORT, and a token comes from the agent's own file or the one that %s names, never from the address",
			u.Scheme, u.Host, tokenFileVariable)
	case u.Scheme == "https":
		err = badAddr(addr, "is TLS, which agents do not speak on a host")
	case u.Scheme != "http" || u.Host == "":
		err = badAddr(addr, "is neither")
	case u.Path != "" && u.Path != "/":
		err = badAddr(addr, "has more than a host and a port")
	case u.Port() == "" || u.Port() == "0":
		err = badAddr(addr, "has no port")
	}
	if err != nil {
		return nil, tcp, err
	}
	tcp, err = api.ParseTCP(u.Host)
	if errors.Is(err, api.ErrNotLoopback) {
		err = fmt.Errorf("agent address %q is not on this host, which the token must not leave; run the command there, or forward a port: ssh -L PORT:127.0.0.1:PORT HOST, and %s", addr, tokenFileVariable)
	} else if err != nil {
		err = badAddr(addr, "cannot be read")
	}
	return u, tcp, err
}

// tokenFileVariable names the file with the token of an agent over TCP. There is
// no other way to say it: arguments can be seen by every user.
const tokenFileVariable = "SCAGENT_TOKEN_FILE"

// token is what is sent to an agent over TCP.
type token struct {
	text   string
	source string // the file that it is from
	why    error  // there is none
}

// findToken looks for the token of the agent at a loopback address, and returns
// the address that the agent has: localhost can be that of either protocol. Only a
// live agent of this user or of root counts: it holds the port, so that the token
// does not get to another program. A file that was named must have one.
func findToken(host string, tcp netip.AddrPort) (token, netip.AddrPort, error) {
	if path := os.Getenv(tokenFileVariable); path != "" {
		text, err := home.ReadToken(path)
		if err != nil {
			return token{}, tcp, fmt.Errorf("%s: %w", tokenFileVariable, err)
		}
		return token{text: text, source: path}, tcp, nil
	}
	urls := []string{"http://" + tcp.String()}
	if strings.EqualFold(host, "localhost") {
		urls = append(urls, fmt.Sprintf("http://[::1]:%d", tcp.Port()))
	}
	a, err := home.FindHTTP(urls...)
	if errors.Is(err, home.ErrNoAgent) {
		return token{why: fmt.Errorf("no agent of this user or of root says that it is there; name the file with the token: %s", tokenFileVariable)}, tcp, nil
	}
	if err != nil {
		return token{}, tcp, err
	}
	if tcp, err = netip.ParseAddrPort(strings.TrimPrefix(a.HTTP, "http://")); err != nil {
		return token{}, tcp, err
	}
	text, err := home.ReadToken(a.TokenFile)
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("only the user whose agent it is may read %s; use its socket, -addr unix://%s, or name a file with the token: %s", a.TokenFile, a.Socket, tokenFileVariable)
	}
	return token{text: text, source: a.TokenFile, why: err}, tcp, nil
}
