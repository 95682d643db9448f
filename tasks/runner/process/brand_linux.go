package process

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A brand is a number that a program is given when it starts and that all it
// starts inherits, whatever they do about sessions, parents, files and
// environments, so that each shows for ever whose it is. It is one of two:
//
//   - their RLIMIT_LOCKS, which linux keeps and shows of each process and has paid
//     no heed to since 2.4;
//   - where the agent may not set the limits of the user that tasks run as, a
//     supplementary group. Nobody has it, but some programs complain of a group
//     without a name.
//
// Su and sudo take both away, other programs only when they mean to.
type brand struct {
	limit uint64 // 0: none
	group uint32 // 0: none
}

// The lower bits of a brand are of the program, from 1; those above are of the
// brood. Limits leave the top bit alone, as some programs take them for signed
// numbers. Groups have it: systemd's list of what numbers are for has nothing there.
const (
	brandBits   = 16
	brandOfTask = 1<<brandBits - 1
	groupBit    = 1 << 31
)

// broodBrand returns what the brands of a brood have in common.
func broodBrand(dir string) brand {
	sum := sha256.Sum256([]byte("scagent brand " + dir))
	n := binary.BigEndian.Uint64(sum[:]) &^ brandOfTask
	return brand{limit: n >> 1 &^ brandOfTask, group: groupBit | uint32(n)}
}

// brands gives the programs of a brood their brands. A nil *brands gives none.
type brands struct {
	brood brand // one of the two kinds; constant

	mu   sync.Mutex // guards the fields below
	free []uint32
	made uint32
}

// openBrands returns the brands of a brood whose programs run as u, or an error
// that says why there can be none.
func openBrands(dir string, u *User) (*brands, error) {
	procDir() // while there are files to be had; an error: it is tried again
	err := mayLimit(u)
	if err == nil {
		return &brands{brood: brand{limit: broodBrand(dir).limit}}, nil
	}
	if u == nil {
		return nil, fmt.Errorf("brands: %w", err)
	}
	b, err2 := openGroupBrands(dir, u)
	if err2 != nil {
		return nil, fmt.Errorf("brands: %w; %w", err, err2)
	}
	return b, nil
}

// openGroupBrands returns brands that are groups.
func openGroupBrands(dir string, u *User) (*brands, error) {
	b := &brands{brood: brand{group: broodBrand(dir).group}}
	attr := syscall.SysProcAttr{Credential: u.credential()}
	b.brood.use(&attr)
	if err := tryStart(&attr); err != syscall.ENOENT {
		return nil, fmt.Errorf("there is no group %d to give: %w", b.brood.group, err)
	}
	return b, nil
}

// mayLimit says why programs that run as u cannot be given limits before they run.
func mayLimit(u *User) error {
	var own unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_LOCKS, nil, &own); err != nil {
		return os.NewSyscallError("prlimit", err)
	}
	if own.Max != unix.RLIM_INFINITY {
		return fmt.Errorf("RLIMIT_LOCKS is bounded here, by %d", own.Max)
	}
	if u != nil && (int(u.UID) != os.Getuid() || int(u.GID) != os.Getgid()) { // see prlimit(2)
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if unix.Capget(&hdr, &data[0]) != nil || data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) == 0 {
			return errors.New("the limits of other users' processes cannot be set without CAP_SYS_RESOURCE")
		}
	}
	if !mayTrace(u.credential()) {
		return errors.New("programs may not be traced here")
	}
	return nil
}

// mayTrace reports whether a program can be started traced.
func mayTrace(as *syscall.Credential) bool {
	return tryStart(&syscall.SysProcAttr{Ptrace: true, Credential: as}) == syscall.ENOENT
}

// tryStart starts a program that does not exist. That it does not is the error
// when nothing else is in the way, and comes from inside of the new process.
func tryStart(sys *syscall.SysProcAttr) error {
	pid, _, err := syscall.StartProcess("/nonexistent/program", []string{"none"}, &syscall.ProcAttr{Sys: sys})
	if err == nil {
		reapChild(pid)
		err = errors.New("something kills it")
	}
	return err
}

func (b *brands) acquire() brand {
	if b == nil {
		return brand{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.free) == 0 {
		if b.made == brandOfTask {
			return brand{}
		}
		b.made++
		b.free = append(b.free, b.made)
	}
	n := b.free[len(b.free)-1]
	b.free = b.free[:len(b.free)-1]
	if b.brood.group != 0 {
		return brand{group: b.brood.group | n}
	}
	return brand{limit: b.brood.limit | uint64(n)}
}

func (b *brands) release(one brand) {
	if one == (brand{}) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = append(b.free, (uint32(one.limit)|one.group)&brandOfTask)
}

// use makes a process start with the brand, if that is a group.
func (b brand) use(attr *syscall.SysProcAttr) {
	if b.group != 0 && attr.Credential != nil {
		c := *attr.Credential
		c.Groups = append(c.Groups[:len(c.Groups):len(c.Groups)], b.group)
		attr.Credential = &c
	}
}

// set gives the brand to a process that has not run yet, if it is a limit. An
// error: the process has none.
func (b brand) set(pid int) {
	if b.limit != 0 {
		unix.Prlimit(pid, unix.RLIMIT_LOCKS, &unix.Rlimit{Cur: b.limit, Max: unix.RLIM_INFINITY}, nil)
	}
}

// Unbrand takes the brand from this process, if it has one, as a task of some
// agent has: it is not to end with the task.
func Unbrand() { brand{limit: unix.RLIM_INFINITY}.set(0) }

// limitOf returns the limit that would be the brand of a process, 0 if it cannot
// be read. It reports false when there is no such process.
func limitOf(pid int) (limit uint64, ok bool) {
	var l unix.Rlimit
	switch unix.Prlimit(pid, unix.RLIMIT_LOCKS, nil, &l) {
	case nil:
		return l.Cur, true
	case unix.ESRCH:
		return 0, false
	}
	// Another user's; it may be read all the same.
	f := fieldsOf(pid, "limits", "Max file locks")
	if len(f) == 0 {
		return 0, true
	}
	limit, _ = strconv.ParseUint(string(f[0]), 10, 64) // an error: unlimited
	return limit, true
}

// groupsOf returns the supplementary groups of a process.
func groupsOf(pid int) (groups []uint32) {
	for _, f := range fieldsOf(pid, "status", "Groups:") {
		if n, err := strconv.ParseUint(string(f), 10, 32); err == nil {
			groups = append(groups, uint32(n))
		}
	}
	return groups
}

// fieldsOf returns the rest of a line of a file about a process, in words.
func fieldsOf(pid int, file, line string) [][]byte {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + file)
	if err != nil {
		return nil
	}
	_, rest, _ := bytes.Cut(b, []byte("\n"+line))
	rest, _, _ = bytes.Cut(rest, []byte("\n"))
	return bytes.Fields(rest)
}
