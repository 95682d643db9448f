package hook

import (
	"errors"
	"fmt"
	"strings"

	"github.com/scagent/scagent/agent/bus"
)

// Hook is a command that runs when an event happens.
type Hook struct {
	Pattern bus.Pattern // for the name of the event
	Command string      // a line for the shell
}

// Parse reads NAME=COMMAND. The name is a pattern, see bus.Pattern.
func Parse(s string) (Hook, error) {
	name, command, ok := strings.Cut(s, "=")
	if !ok {
		return Hook{}, errors.New("there is no =; want NAME=COMMAND, such as workerAvailable=./script")
	}
	h := Hook{bus.Pattern(name), command}
	return h, h.Check()
}

// Check says what keeps h from being a hook.
func (h Hook) Check() error {
	if _, err := bus.ParsePattern(string(h.Pattern)); err != nil {
		return err
	}
	switch {
	case strings.TrimSpace(h.Command) == "":
		return errors.New("there is no command; want NAME=COMMAND, such as workerAvailable=./script")
	case strings.Contains(h.Command, "\x00"):
		return errors.New("there is a NUL in the command, which no command line can have")
	}
	return nil
}

// String returns what Parse reads.
func (h Hook) String() string { return string(h.Pattern) + "=" + h.Command }

// nameRunes is how much of a hook the log repeats with each line.
const nameRunes = 60

// name is h as the log has it.
func (h Hook) name() string {
	r := []rune(h.String())
	if len(r) > nameRunes {
		return fmt.Sprintf("%q", string(r[:nameRunes])+"…")
	}
	return fmt.Sprintf("%q", string(r))
}
