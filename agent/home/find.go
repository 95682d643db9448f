package home

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxAnnouncement bounds an N.json that is read.
const maxAnnouncement = 64 << 10

// Agent is a live agent of this host.
type Agent struct {
	N      int
	UID    int    // whose it is
	Socket string // path
	Up     bool   // it has announced itself; if not, it is starting
	Announcement
}

// ErrNoAgent says that no agent runs on this host, as far as this user can see. It
// is wrapped by a *NoAgentError.
var ErrNoAgent = errors.New("no agent answers")

// NoAgentError says where an agent was looked for.
type NoAgentError struct{ Tried []string }

func (e *NoAgentError) Error() string {
	return fmt.Sprintf("%v: there is none in %s; start one with `scagent agent`, or name another with -addr",
		ErrNoAgent, strings.Join(e.Tried, " or "))
}

func (e *NoAgentError) Unwrap() error { return ErrNoAgent }

// OthersError says that agents run on this host, but none that a client without
// an address may take.
type OthersError struct{ Agents []Agent }

func (e *OthersError) Error() string {
	var list []string
	for _, a := range e.Agents {
		switch {
		case !a.Up:
			list = append(list, fmt.Sprintf("unix://%s is only starting", a.Socket))
		default:
			list = append(list, fmt.Sprintf("%q (pid %d, unix://%s) is in another network namespace", a.Name, a.Pid, a.Socket))
		}
	}
	return fmt.Sprintf("no agent runs in this network namespace, but %s; name one with -addr, or start one here with `scagent agent`", strings.Join(list, ", "))
}

// NoAccessError says that there is an agent whose socket this user may not open.
type NoAccessError struct {
	Socket string
	Group  string // who may besides its owner; empty: nobody
}

func (e *NoAccessError) Error() string {
	if e.Group == "" {
		return fmt.Sprintf("the agent at unix://%s is there for its owner alone; run this as that user, or restart the agent with -api-group GROUP, a group that you are in", e.Socket)
	}
	return fmt.Sprintf("the agent at unix://%s is there for its owner and the group %q; join that group, or run this as a user who is in it", e.Socket, e.Group)
}

// Unwrap returns fs.ErrPermission.
func (e *NoAccessError) Unwrap() error { return fs.ErrPermission }

// NoAccess returns the error for a socket that may not be opened.
func NoAccess(socket string) *NoAccessError {
	return &NoAccessError{Socket: socket, Group: socketGroup(socket)}
}

// Find returns the agent that a client takes when it was given no address: the
// lowest of its user's in its network namespace, else root's. Its errors are
// *NoAgentError, *OthersError and *NoAccessError.
func Find() (*Agent, error) {
	env := OSEnv()
	return env.Find()
}

// Find is the function Find in another environment.
func (e *Env) Find() (*Agent, error) {
	ns, err := e.NetNS()
	if err != nil {
		return nil, fmt.Errorf("find out this process's network namespace: %w", err)
	}
	var others []Agent
	var denied *NoAccessError
	var tried []string
	for _, uid := range e.users() {
		tried = append(tried, e.runtimeDirs(uid)...)
		for _, a := range e.agentsOf(uid) {
			switch {
			case !a.Up || a.NetNS != ns:
				others = append(others, a)
			case !errors.Is(e.MayOpen(a.Socket), fs.ErrPermission):
				return &a, nil
			case denied == nil:
				denied = NoAccess(a.Socket)
			}
		}
	}
	switch {
	case denied != nil:
		return nil, denied
	case len(others) > 0:
		return nil, &OthersError{Agents: others}
	}
	return nil, &NoAgentError{Tried: tried}
}

// FindHTTP returns the agent that serves its API over TCP at the first of the
// URLs at which one does: the user's own or root's, in this network namespace,
// as elsewhere another program may have that address. Its error is ErrNoAgent if
// there is none.
func FindHTTP(urls ...string) (*Agent, error) {
	env := OSEnv()
	return env.FindHTTP(urls...)
}

// FindHTTP is the function FindHTTP in another environment.
func (e *Env) FindHTTP(urls ...string) (*Agent, error) {
	ns, err := e.NetNS()
	if err != nil {
		return nil, fmt.Errorf("find out this process's network namespace: %w", err)
	}
	var all []Agent
	for _, uid := range e.users() {
		all = append(all, e.agentsOf(uid)...)
	}
	for _, u := range urls {
		for _, a := range all {
			if a.Up && a.NetNS == ns && a.HTTP == u {
				return &a, nil
			}
		}
	}
	return nil, ErrNoAgent
}

// users are those whose agents a client takes, its own first.
func (e *Env) users() []int {
	if e.UID > 0 {
		return []int{e.UID, 0}
	}
	return []int{e.UID}
}

// agentsOf returns the live agents of a user, the lowest number first.
func (e *Env) agentsOf(uid int) []Agent {
	var found []Agent
	for _, dir := range e.runtimeDirs(uid) {
		found = append(found, agentsIn(dir, uid)...)
	}
	slices.SortStableFunc(found, func(a, b Agent) int { return cmp.Compare(a.N, b.N) })
	return found
}

// agentsIn returns the live agents of a directory. One that others can write to
// has none: an agent would not live there, and whoever made the socket could be
// anybody.
func agentsIn(dir string, uid int) []Agent {
	if checkDir(dir, uid) != nil {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var live []Agent
	for _, e := range entries {
		number, ok := strings.CutSuffix(e.Name(), ".lock")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n < 1 || n > maxN {
			continue
		}
		a := Agent{N: n, UID: uid, Socket: filepath.Join(dir, number+".sock")}
		said, ok := readAnnouncement(filepath.Join(dir, number+".json"))
		a.Announcement, a.Up = said, ok
		held, err := locked(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrPermission) {
			held = ok && running(said.Pid) // another user's
		}
		if held {
			live = append(live, a)
		}
	}
	return live
}

func readAnnouncement(path string) (a Announcement, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return a, false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAnnouncement))
	return a, err == nil && json.Unmarshal(b, &a) == nil
}
