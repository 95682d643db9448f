package home

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxN is how many agents of one user a host can have.
const maxN = 10_000

// Options say what a home is to be. The zero Options are the defaults.
type Options struct {
	StateDir string // the state directory itself, in place of the usual one
	Group    string // a group that may open the socket, by name or number
	Env      *Env   // default: OSEnv
}

// Home is where one agent lives. Its fields are constant.
type Home struct {
	N        int    // 0: a temporary home, without socket
	StateDir string // absolute; this agent's alone
	Socket   string // path of the socket of the local API

	group string
	env   Env

	mu    sync.Mutex // guards the fields below
	locks []*lock
	temp  bool // StateDir goes with Release
}

// Announcement is what N.json says about the agent that has the number.
type Announcement struct {
	Pid       int       `json:"pid"`
	NetNS     uint64    `json:"netns"` // inode of its network namespace
	ID        string    `json:"id"`    // node id
	Name      string    `json:"name"`
	Group     string    `json:"group,omitempty"` // who may open the socket besides its owner
	StateDir  string    `json:"state_dir"`
	StartedAt time.Time `json:"started_at"`
}

// Claim takes the first free number for this process, with its state directory,
// which is made if need be. It must be given back with Release.
func Claim(o Options) (*Home, error) {
	env := OSEnv()
	if o.Env != nil {
		env = *o.Env
	}
	dir, err := claimDir(&env)
	if err != nil {
		return nil, err
	}
	if o.Group != "" {
		if env.UID > 0 {
			return nil, fmt.Errorf("-api-group does nothing in %s, which only this user can enter; run the agent as root, or leave it out", dir)
		}
		if _, err := groupID(o.Group); err != nil {
			return nil, err
		}
	}
	base := env.stateBase()
	if o.StateDir == "" && base == "" {
		return nil, errors.New("HOME is not set, so there is no place for the agent's state; set HOME or give -state-dir")
	}
	for n := 1; n <= maxN; n++ {
		l, err := tryLock(filepath.Join(dir, fmt.Sprintf("%d.lock", n)))
		if errors.Is(err, errLocked) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("take a number for the agent in %s: %w", dir, err)
		}
		h := &Home{N: n, Socket: filepath.Join(dir, fmt.Sprintf("%d.sock", n)), StateDir: o.StateDir, group: o.Group, env: env, locks: []*lock{l}}
		if h.StateDir == "" {
			h.StateDir = filepath.Join(base, fmt.Sprint(n))
		}
		err = h.settle()
		if errors.Is(err, errLocked) && o.StateDir == "" {
			l.release() // an agent with another runtime directory has the number
			continue
		}
		if err != nil {
			h.Release()
			return nil, err
		}
		return h, nil
	}
	return nil, fmt.Errorf("%d agents run under this user already; stop one, or see %s", maxN, dir)
}

// settle takes the state directory and removes what a dead agent left behind.
func (h *Home) settle() error {
	if err := h.takeState(); err != nil {
		return err
	}
	for _, p := range []string{h.Socket, h.announcement()} {
		if err := removeFile(p); err != nil {
			return fmt.Errorf("remove what an earlier agent left: %w", err)
		}
	}
	return checkSocketPath(h.Socket)
}

// takeState makes the state directory and locks it.
func (h *Home) takeState() error {
	unusable := func(err error) error {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return fmt.Errorf("the state directory %s cannot be used (%w); make it writable for this user, or give another with -state-dir", h.StateDir, err)
	}
	dir, err := filepath.Abs(h.StateDir)
	if err != nil {
		return unusable(err)
	}
	h.StateDir = dir
	mode := fs.FileMode(0o700)
	if h.env.UID == 0 {
		mode = 0o711 // tasks that run as another user must reach their work directories
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return unusable(err)
	}
	l, err := tryLock(filepath.Join(dir, "lock"))
	if errors.Is(err, errLocked) {
		return fmt.Errorf("the state directory %s %w by another agent; give this one its own with -state-dir", dir, err)
	}
	if err != nil {
		return unusable(err)
	}
	h.locks = append(h.locks, l)
	return nil
}

// Temporary returns a home with a new state directory, which Release removes, and
// neither number nor socket.
func Temporary() (*Home, error) {
	dir, err := os.MkdirTemp("", "scagent-")
	if err != nil {
		return nil, fmt.Errorf("no place for a temporary state directory: %w; set TMPDIR to a writable directory", err)
	}
	h := &Home{StateDir: dir, env: OSEnv(), temp: true}
	if h.env.UID == 0 {
		if err := os.Chmod(dir, 0o711); err != nil { // as in takeState
			return nil, fmt.Errorf("temporary state directory: %w", err)
		}
	}
	return h, nil
}

func (h *Home) announcement() string {
	return filepath.Join(filepath.Dir(h.Socket), fmt.Sprintf("%d.json", h.N))
}

// Listen makes the socket: it can be opened by its owner and the group of the
// options alone, from its first moment. Release removes it.
func (h *Home) Listen() (net.Listener, error) {
	if h.Socket == "" {
		return nil, errors.New("a temporary home has no socket")
	}
	l, err := listen(h.Socket, h.group)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", h.Socket, err)
	}
	return l, nil
}

// Announce tells clients that the agent is up: from now on Find returns it.
func (h *Home) Announce(id, name string) error {
	if h.N == 0 {
		return nil
	}
	ns, err := h.env.NetNS()
	if err != nil {
		return fmt.Errorf("find out this process's network namespace: %w", err)
	}
	b, err := json.Marshal(Announcement{Pid: os.Getpid(), NetNS: ns, ID: id, Name: name, Group: h.group,
		StateDir: h.StateDir, StartedAt: time.Now().UTC()})
	if err != nil {
		return err
	}
	path := h.announcement()
	f, err := os.CreateTemp(filepath.Dir(path), ".announce-")
	if err != nil {
		return fmt.Errorf("announce the agent: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("announce the agent: %w", err)
	}
	return nil
}

// Path returns the path of a file or directory in the state directory.
func (h *Home) Path(name string) string { return filepath.Join(h.StateDir, name) }

// Release gives the number and the state directory back, and removes the socket
// and the announcement. It may be called twice. The error says what could not be
// removed; the number is free all the same.
func (h *Home) Release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	if h.N > 0 && len(h.locks) == 2 {
		errs = append(errs, removeFile(h.announcement()), removeFile(h.Socket))
	}
	for _, l := range h.locks {
		l.release()
	}
	h.locks = nil
	if h.temp {
		errs = append(errs, os.RemoveAll(h.StateDir))
	}
	return errors.Join(errs...)
}

// removeFile removes a file if it is there.
func removeFile(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
