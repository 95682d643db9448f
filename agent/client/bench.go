package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/scagent/scagent/agent/api"
)

// Bench has the agent measure the pool, and calls each with every figure as it is
// there. When ctx ends, or each returns an error, the agent stops measuring.
func (c *Client) Bench(ctx context.Context, r api.BenchRequest, each func(api.Figure) error) error {
	resp, err := c.do(ctx, http.MethodPost, "/v1/bench", nil, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for d := json.NewDecoder(resp.Body); ; {
		var l api.BenchLine
		switch err := d.Decode(&l); {
		case err == io.EOF:
			return nil
		case err != nil:
			return c.failed(ctx, err)
		case l.Error != nil:
			return l.Error
		case l.Figure == nil:
			return fmt.Errorf("the agent at %s sent a line that is no figure; is it another version?", c.addr)
		}
		if err := each(*l.Figure); err != nil {
			return err
		}
	}
}
