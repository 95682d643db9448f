package workdir

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/tasks/runner/process"
)

// restTime is how old a spare directory is before it is lent. Some file systems
// tell the time of a change by the second: what is changed then shows.
const restTime = 2 * time.Second

// Spares are work directories that are lent to one attempt after another, as long
// as each leaves them as they were made. To make two directories and remove them
// again costs a third of what a short program does, and all that do it at the same
// time wait for the directory above.
//
// One in which anything was changed is removed. The kernel notes the time of each
// change to a directory, of its contents, owner, mode and attributes alike, and
// nobody can set that time.
type Spares struct {
	root string        // constant
	user *process.User // constant; nil: the agent's own

	// mu guards the fields below. It is not held over I/O.
	mu   sync.Mutex
	idle []*spare
	all  int // idle, lent, or about to be made
	busy int // attempts that have a directory of theirs, a spare one or not
	made int // numbers given out
}

// spare is one of them. It belongs to whoever has taken it from idle.
type spare struct {
	of    *Spares
	path  string
	made  time.Time
	state [2]unix.Stat_t // as it was made, and its directory for TMPDIR
}

// NewSpares returns spare directories below root, which exists, for attempts that
// run as u, or nil as the agent itself. They are removed with root.
func NewSpares(root string, u *process.User) *Spares { return &Spares{root: root, user: u} }

// take returns a directory, or nil if there is none to be lent. Then one more is
// made for later, up to one for each attempt that runs. give is to be called after it.
func (s *Spares) take() *Dir {
	s.mu.Lock()
	s.busy++
	var one *spare
	for i, sp := range s.idle {
		if time.Since(sp.made) >= restTime {
			one = sp
			s.idle = append(s.idle[:i], s.idle[i+1:]...)
			break
		}
	}
	more := one == nil && s.all < s.busy
	if more {
		s.all++
		s.made++
	}
	n := s.made
	s.mu.Unlock()

	if more {
		s.put(s.make(n))
	}
	if one == nil {
		return nil
	}
	if !one.untouched() {
		RemoveAll(one.path) // an error: it goes with root
		s.put(nil)
		return nil
	}
	d := &Dir{path: one.path, base: one.path, spare: one}
	if s.user != nil {
		uid := int(s.user.UID)
		d.user = &uid
	}
	return d
}

// make makes one, or returns nil if that fails: attempts do without.
func (s *Spares) make(n int) *spare {
	sp := &spare{of: s, path: filepath.Join(s.root, "spare-"+strconv.Itoa(n))}
	d := &Dir{path: sp.path, base: sp.path}
	err := d.make()
	if err != nil {
		return nil
	}
	if s.user != nil {
		err = d.Give(int(s.user.UID), int(s.user.GID))
	}
	if err == nil {
		sp.made = time.Now()
		sp.state, err = sp.look()
	}
	if err != nil {
		d.Remove()
		return nil
	}
	d.Close()
	return sp
}

// put puts one back, or notes with nil that there is one less.
func (s *Spares) put(sp *spare) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sp == nil {
		s.all--
		return
	}
	s.idle = append(s.idle, sp)
}

// done notes the end of an attempt.
func (s *Spares) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
}

// look returns what shows a change.
func (sp *spare) look() (state [2]unix.Stat_t, err error) {
	for i, path := range []string{sp.path, sp.path + "/" + tmpName} {
		if err := unix.Lstat(path, &state[i]); err != nil {
			return state, os.NewSyscallError("lstat", err)
		}
		state[i].Atim = unix.Timespec{} // who only looked has changed nothing
	}
	return state, nil
}

func (sp *spare) untouched() bool {
	state, err := sp.look()
	return err == nil && state == sp.state
}

// giveBack takes the directory from the attempt that had it.
func (sp *spare) giveBack() error {
	if sp.untouched() {
		sp.of.put(sp)
		return nil
	}
	sp.of.put(nil)
	return RemoveAll(sp.path)
}
