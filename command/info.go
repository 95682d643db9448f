package command

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
)

// InfoCommand shows this host's agent.
type InfoCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *InfoCommand) Synopsis() string {
	return "show this agent: version, addresses, posture, limits, counters"
}

// Help says how the command is called.
func (c *InfoCommand) Help() string {
	return manual{
		name: "info", flags: simpleFlags(&common{}), usage: []string{""},
		about: "Shows the agent of this host.", example: "scagent info",
	}.String()
}

// Run shows it.
func (c *InfoCommand) Run(args []string) int {
	return simple(c.env, "info", c.Help(), args, none, func(ctx context.Context, cl *client.Client, o *common, _ []string) (int, error) {
		info, err := cl.Info(ctx)
		if err != nil {
			return 0, err
		}
		if o.json {
			return c.env.printJSON(info), nil
		}
		return c.env.print(formatInfo(&info)), nil
	})
}

func formatInfo(i *api.Info) string {
	b := &fields{}
	b.add("Name", i.Name)
	b.add("Id", i.ID)
	b.add("Version", i.Version)
	b.add("Cluster", i.Cluster)
	b.add("Roles", strings.Join(i.Roles, ", "))
	b.add("Address", i.Addr)
	b.add("Bound to", i.Bind)
	b.add("Posture", i.Posture)
	b.add("Trust", i.Trust)
	kinds := make([]string, len(i.Kinds))
	for k, v := range i.Kinds {
		kinds[k] = string(v)
	}
	b.add("Kinds", strings.Join(kinds, ", "))
	if p, err := json.Marshal(i.Policy); err == nil { // it always is
		b.add("Policy", string(p))
	}
	b.add("Functions", strings.Join(i.Functions, ", "))
	b.add("Slots", fmt.Sprintf("%d busy of %d", i.Busy, i.Slots))
	b.add("Available", yesNo(i.Available))
	if i.Draining {
		b.add("Draining", "yes")
	}
	b.add("Pid", fmt.Sprint(i.Pid))
	b.add("State", i.StateDir)
	b.add("Socket", formatSocket(i))
	if i.HTTP != "" {
		b.add("HTTP", fmt.Sprintf("%s, token in %s", i.HTTP, i.TokenFile))
	}
	b.add("Started", stamp(&api.Time{Time: i.StartedAt}))
	b.add("Goroutines", fmt.Sprint(i.Goroutines))
	for _, k := range slices.Sorted(maps.Keys(i.Limits)) {
		b.add("Limit "+clean(k), fmt.Sprint(i.Limits[k]))
	}
	for _, k := range slices.Sorted(maps.Keys(i.Counters)) {
		b.add("Counter "+clean(k), fmt.Sprint(i.Counters[k]))
	}
	return b.String()
}

// formatSocket is the socket of the API, and who may open it.
func formatSocket(i *api.Info) string {
	switch {
	case i.SocketMode == "":
		return i.Socket
	case i.SocketGroup == "":
		return fmt.Sprintf("%s, mode %s", i.Socket, i.SocketMode)
	}
	return fmt.Sprintf("%s, mode %s, group %s", i.Socket, i.SocketMode, i.SocketGroup)
}
