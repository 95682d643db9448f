package agent

import (
	"context"
	"errors"

	"github.com/scagent/scagent/agent/api"
)

// SendEvent sends an event on the bus, for the API.
func (a *Agent) SendEvent(ctx context.Context, r api.SendRequest) (api.Sent, error) {
	return api.Sent{}, errors.New("under construction")
}

// RequestEvent asks for replies, for the API.
func (a *Agent) RequestEvent(ctx context.Context, r api.SendRequest, reply func(api.Reply) error) error {
	return errors.New("under construction")
}
