package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/scagent/scagent/agent/client"
)

// maxDataFileBytes bounds a file with data; the agent's own limit is lower.
const maxDataFileBytes = 1 << 20

// dataValue is data about a node as flags and arguments give it: KEY=VALUE sets
// a key, JSON or @FILE replaces everything before it.
type dataValue struct{ raw json.RawMessage }

// String returns the JSON.
func (d *dataValue) String() string { return string(d.raw) }

// Set applies one argument.
func (d *dataValue) Set(s string) error {
	if path, ok := strings.CutPrefix(s, "@"); ok {
		b, err := readLimited(path, maxDataFileBytes)
		if err != nil {
			return err
		}
		return d.replace(b, path+" is not JSON")
	}
	if json.Valid([]byte(s)) {
		return d.replace([]byte(s), "")
	}
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" || strings.ContainsAny(key[:1], `{["`) {
		return errors.New("want KEY=VALUE, JSON or @FILE")
	}
	return d.merge(key, jsonValue(value))
}

func (d *dataValue) replace(b []byte, bad string) error {
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return fmt.Errorf("%s: %w", bad, err)
	}
	d.raw = out.Bytes()
	return nil
}

// merge sets a key of what is an object, or nothing yet.
func (d *dataValue) merge(key string, value json.RawMessage) error {
	object := map[string]json.RawMessage{}
	if len(d.raw) > 0 && string(d.raw) != "null" {
		if err := json.Unmarshal(d.raw, &object); err != nil {
			return errors.New("a key can be set in an object only, and the data is none; replace it first, as with '{}'")
		}
	}
	object[key] = value
	b, err := json.Marshal(object)
	if err != nil {
		return err
	}
	d.raw = b
	return nil
}

// jsonValue returns s if it is JSON, else s as a JSON string.
func jsonValue(s string) json.RawMessage {
	if json.Valid([]byte(s)) {
		return json.RawMessage(s)
	}
	return jsonString(s)
}

// DataCommand prints or changes the data of this node.
type DataCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *DataCommand) Synopsis() string { return "print, set or replace this node's data" }

// Help says how the command is called.
func (c *DataCommand) Help() string {
	return manual{
		name: "data", usage: []string{"", "KEY=VALUE…", "JSON | @FILE"},
		about: `
Prints the data of this node, sets keys of it, or replaces it. A VALUE that is JSON is taken as JSON,
another one as a string. Data is seen by every member, and -where can ask for it.`,
		flags: simpleFlags(&common{}), example: "scagent data gpu=a100 rack=4\nscagent data @node.json",
	}.String()
}

// Run prints or changes it.
func (c *DataCommand) Run(args []string) int {
	return simple(c.env, "data", c.Help(), args, checkData, func(ctx context.Context, cl *client.Client, o *common, changes []string) (int, error) {
		d := &dataValue{}
		var err error
		if d.raw, err = ownData(ctx, cl); err != nil {
			return 0, err
		}
		if len(changes) == 0 {
			return c.env.print(string(d.raw) + "\n"), nil
		}
		if err := d.apply(changes); err != nil {
			return 0, err
		}
		return exitOK, cl.SetData(ctx, d.raw)
	})
}

// checkData finds out whether the changes could be made to an object.
func checkData(changes []string) error { return (&dataValue{}).apply(changes) }

func (d *dataValue) apply(changes []string) error {
	for _, s := range changes {
		if err := d.Set(s); err != nil {
			return fmt.Errorf("%q: %w", shorten(s, 80), err)
		}
	}
	return nil
}

func ownData(ctx context.Context, cl *client.Client) (json.RawMessage, error) {
	members, err := cl.Members(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.Self && len(m.Data) > 0 {
			return m.Data, nil
		}
	}
	return json.RawMessage("null"), nil
}
