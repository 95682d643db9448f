package home

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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

	group string // as in the options
	gid   int    // its number; -1 without one
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
	Group     string    `json:"group,omitempty"`      // who may open the socket besides its owner
	HTTP      string    `json:"http,omitempty"`       // URL of the API over TCP, http://IP:PORT
	TokenFile string    `json:"token_file,omitempty"` // with the token that it asks for
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
	gid := -1
	if o.Group != "" {
		var err error
		if gid, err = groupID(o.Group); err != nil {
			return nil, err
		}
		if env.UID != 0 && !memberOf(gid) {
			return nil, cannotGive(o.Group)
		}
	}
	dir, err := claimDir(&env, o.Group != "")
	if err != nil {
		return nil, err
	}
	base := env.stateBase()
	if o.StateDir == "" && base == "" {
		return nil, errors.New("HOME is not set, so there is no place for the agent's state; set HOME or give -state-dir")
	}
	for n := 1; n <= maxN; n++ {
		l, err := takeLock(filepath.Join(dir, fmt.Sprintf("%d.lock", n)))
		if errors.Is(err, errLocked) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("take a number for the agent in %s: %w", dir, err)
		}
		h := &Home{N: n, Socket: filepath.Join(dir, fmt.Sprintf("%d.sock", n)), StateDir: o.StateDir, group: o.Group, gid: gid, env: env, locks: []*lock{l}}
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
	if err := makeDirs(dir, mode); err != nil {
		return unusable(err)
	}
	l, err := takeLock(filepath.Join(dir, "lock"))
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
func (h *Home) Listen() (*Listener, error) {
	if h.Socket == "" {
		return nil, errors.New("a temporary home has no socket")
	}
	l, err := listen(h.Socket, h.gid)
	if h.gid >= 0 && errors.Is(err, errNotGiven) {
		return nil, cannotGive(h.group)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", h.Socket, err)
	}
	return &Listener{l: l, path: h.Socket, uid: h.env.UID, gid: h.gid}, nil
}

// errNotGiven says that the system does not let the agent give the socket away.
var errNotGiven = errors.New("the group of the socket cannot be set")

func cannotGive(group string) error {
	return fmt.Errorf("this user may not give the API's socket to the group %q; join the group, run the agent as root, or give another with -api-group", group)
}

// Access says who may open the socket: its mode, and the group whose members may
// besides its owner. It is what the file system says; empty where there is no socket.
func (h *Home) Access() (mode, group string) {
	fi, err := os.Lstat(h.Socket)
	if err != nil {
		return "", ""
	}
	return fmt.Sprintf("%04o", fi.Mode().Perm()), socketGroup(h.Socket)
}

// Announce tells clients that the agent is up: from now on Find returns it. What
// only this package knows is filled in.
func (h *Home) Announce(a Announcement) error {
	if h.N == 0 {
		return nil
	}
	ns, err := h.env.NetNS()
	if err != nil {
		return fmt.Errorf("find out this process's network namespace: %w", err)
	}
	a.Pid, a.NetNS, a.Group, a.StateDir, a.StartedAt = os.Getpid(), ns, h.group, h.StateDir, time.Now().UTC()
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if err := WriteFile(h.announcement(), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("announce the agent: %w", err)
	}
	return nil
}

// WriteFile replaces a file in one step, so that also after a power cut there is the old
// or the new one, whole. It has its mode, whatever the umask, before it has its name.
func WriteFile(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
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
