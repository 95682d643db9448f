package function

import (
	"context"
	"encoding/json"

	"github.com/scagent/scagent/tasks"
)

// ownPrefix begins the names that are scagent's.
const ownPrefix = "scagent."

// The functions that every agent has.
const (
	Noop = ownPrefix + "noop" // takes anything, returns null
	Echo = ownPrefix + "echo" // returns its argument, or the list of them
)

var builtins = map[string]tasks.Handler{Noop: noop, Echo: echo}

func noop(context.Context, *tasks.Attempt, []byte, tasks.Encoding) ([]byte, error) { return nil, nil }

// echo returns one argument as it is and several as a list. In msgpack there is
// always one.
func echo(_ context.Context, _ *tasks.Attempt, args []byte, enc tasks.Encoding) ([]byte, error) {
	if enc != tasks.JSON || len(args) == 0 {
		return args, nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(args, &list); err != nil {
		return nil, &tasks.BadArgsError{Err: err}
	}
	switch len(list) {
	case 0:
		return nil, nil
	case 1:
		return list[0], nil
	}
	return args, nil
}
