package hook

import (
	"net"
	"strconv"
	"strings"

	"github.com/scagent/scagent/agent/api"
)

// maxDataBytes is how much data an event may have for it to be in the environment
// too: that of a process is bounded, its input is not.
const maxDataBytes = 4 << 10

const ownPrefix = "SCAGENT_"

// runVariable has a value for each run of a command that no other run has, so that
// what it starts is found, see process.Spec.Marks.
const runVariable = ownPrefix + "HOOK_RUN"

// Mark returns how the entry of the environment begins that each run of a command
// has, when dir is a directory that no other agent has or had: a process.Brood's.
func Mark(dir string) string { return runVariable + "=" + dir + "/" }

// inherited is what commands get of the agent's own environment. What begins with
// SCAGENT_ is how the agent was called, or, when it is itself a task or a hook of
// another agent, that one's.
func inherited(environ []string) []string {
	var env []string
	for _, e := range environ {
		if !strings.HasPrefix(e, ownPrefix) {
			env = append(env, e)
		}
	}
	return env
}

// eventEnv is what the environment of a command says of its event. What an event
// does not have is not there. asked: whoever sent it waits for what is written.
func eventEnv(e *api.Event, asked bool) []string {
	var env []string
	set := func(name, value string) {
		// A value that has a NUL would keep the command from running.
		env = append(env, ownPrefix+name+"="+strings.ReplaceAll(value, "\x00", ""))
	}
	set("EVENT", e.Event)
	set("EVENT_SEQ", strconv.FormatUint(e.Seq, 10))
	at, _ := e.Time.MarshalText() // it has no error
	set("EVENT_TIME", string(at))
	if e.FromID != "" {
		set("EVENT_FROM", e.From)
		set("EVENT_FROM_ID", e.FromID)
		set("EVENT_LAMPORT", strconv.FormatUint(e.Lamport, 10))
	}
	if asked {
		set("EVENT_REQUEST", "1")
	}
	if e.Data != nil {
		if b, err := e.Data.MarshalJSON(); err == nil && len(b) <= maxDataBytes {
			set("EVENT_DATA", string(b))
		}
	}
	if m := e.Member; m != nil {
		set("MEMBER_NAME", m.Name)
		set("MEMBER_ID", m.ID)
		set("MEMBER_ADDR", net.JoinHostPort(m.Addr, strconv.Itoa(m.Port)))
		set("MEMBER_STATUS", m.Status)
		set("MEMBER_ROLES", strings.Join(m.Roles, ","))
	}
	if t := e.Task; t != nil {
		set("TASK_ID", t.ID.String())
		set("TASK_RUN_ID", t.Run.String())
		set("TASK_STATE", string(t.State))
		set("TASK_WORKER", t.Worker)
		set("TASK_KIND", string(t.Kind))
	}
	return env
}
