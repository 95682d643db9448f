package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/home"
)

// localAPI is where the local API is served. Its fields are constant from Start on.
type localAPI struct {
	socket *home.Listener // nil for an agent that is temporary

	// Nil or empty without Config.HTTP.
	tcp              net.Listener
	url              string // http://IP:PORT
	token, tokenFile string
}

// listenHTTP opens the port of Config.HTTP, before anybody has heard of this agent:
// when it is taken the agent never was there. It is served when the agent is up.
func (a *Agent) listenHTTP(ctx context.Context) (err error) {
	if a.cfg.HTTP == "" {
		return nil
	}
	addr, err := api.ParseTCP(a.cfg.HTTP) // as Config.check did
	if err != nil {
		return err
	}
	if a.local.token, a.local.tokenFile, err = a.home.Token(); err != nil {
		return fmt.Errorf("-http: %w", err)
	}
	if a.local.tcp, err = api.ListenTCP(ctx, addr); err != nil {
		return fmt.Errorf("-http: %w", err)
	}
	a.local.url = "http://" + a.local.tcp.Addr().String()
	return nil
}

// openAPI serves the local API on the agent's socket and, if it has one, its port,
// and tells clients of this host.
func (a *Agent) openAPI() (err error) {
	if a.home.Socket != "" {
		if a.local.socket, err = a.home.Listen(); err != nil {
			return err
		}
		a.serve(a.local.socket, api.NewServer(a.APIHandler()))
	}
	if a.local.tcp != nil {
		bound, err := netip.ParseAddrPort(a.local.tcp.Addr().String())
		if err != nil {
			return err
		}
		a.serve(a.local.tcp, api.NewServer(api.NewHandler(a, api.Options{
			Ready: a.Ready, Token: a.local.token, Hosts: api.Hosts(bound), Elsewhere: a.elsewhere, Refused: a.apiRefused,
		})))
	}
	return a.home.Announce(home.Announcement{ID: a.id.id, Name: a.name, HTTP: a.local.url, TokenFile: a.local.tokenFile})
}

func (a *Agent) apiRefused() { a.apiRefusals.Add(1) }

// APIHandler is the local API, for programs that serve it elsewhere than on the
// agent's socket. Who can reach it can run tasks.
func (a *Agent) APIHandler() http.Handler {
	return api.NewHandler(a, api.Options{Ready: a.Ready, Elsewhere: a.elsewhere, Refused: a.apiRefused})
}
