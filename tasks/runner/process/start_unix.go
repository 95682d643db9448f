//go:build unix

package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/tasks"
)

// pathOf returns the directories in which the task's PATH has programs looked for.
func pathOf(s *Spec) []string {
	path := ""
	for _, e := range s.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	return strings.Split(path, ":")
}

// lookup returns the path to execute: argv[0] itself if it has a slash, else the first
// match in the directories, and those that come after it.
func lookup(s *Spec, dirs []string) (file string, rest []string, err error) {
	name := s.Argv[0]
	if strings.Contains(name, "/") {
		return name, nil, nil
	}
	var found error
	for i, dir := range dirs {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + name
		at := file
		if !filepath.IsAbs(at) {
			at = filepath.Join(s.Dir, at)
		}
		var st unix.Stat_t
		if unix.Stat(at, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
			continue
		}
		if unix.Access(at, unix.X_OK) == nil {
			return file, dirs[i+1:], nil
		}
		found = &StartError{Code: tasks.NotExecutable, Err: unix.EACCES,
			Text: fmt.Sprintf("%s: permission denied: the file is not executable", file)}
	}
	if found != nil {
		return "", nil, found
	}
	return "", nil, &StartError{Code: tasks.NotFound, Err: unix.ENOENT,
		Text: fmt.Sprintf("%s: no such program in the PATH of the task, %q", name, strings.Join(dirs, ":"))}
}

// credential returns u as the kernel is told; nil: the agent's own.
func (u *User) credential() *syscall.Credential {
	if u == nil {
		return nil
	}
	return &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
}

// startError says what err, from starting the program at path, means.
func startError(s *Spec, path string, err error) error {
	e := &StartError{Err: err}
	if st, derr := os.Stat(s.Dir); s.Dir != "" && (derr != nil || !st.IsDir()) {
		e.Code, e.Text = tasks.BadInput, fmt.Sprintf("directory %s: there is no such directory here", s.Dir)
		return e
	}
	at := path
	if !filepath.IsAbs(at) {
		at = filepath.Join(s.Dir, at)
	}
	st, serr := os.Stat(at)
	call := (*os.SyscallError)(nil)
	switch {
	case errors.As(err, &call) && call.Syscall == "prlimit":
		e.Code, e.Text = tasks.Internal, fmt.Sprintf("start %s: this agent may not limit processes of another user (%v); give it CAP_SYS_RESOURCE, or run it as that user", path, err)
	case errors.As(err, &call) && call.Syscall == "ptrace":
		e.Code, e.Text = tasks.Internal, fmt.Sprintf("start %s: limits cannot be set where programs may not be traced (%v)", path, err)
	case errors.Is(err, syscall.ENOENT) && serr == nil:
		e.Code, e.Text = tasks.NotExecutable, path+": the interpreter that it names is not here"
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		e.Code, e.Text = tasks.NotFound, path+": no such program"
	case serr == nil && st.IsDir():
		e.Code, e.Text = tasks.NotExecutable, path+": is a directory, not a program"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		e.Code, e.Text = tasks.NotExecutable, path+": permission denied: the file, its directory or the file system does not allow to execute it"
	case errors.Is(err, syscall.ENOEXEC):
		e.Code, e.Text = tasks.NotExecutable, path+": neither a program for this machine nor a script with a #! line"
	case errors.Is(err, syscall.E2BIG):
		e.Code, e.Text = tasks.NotExecutable, path+": the arguments and environment are too long for this system; send them as standard input or a file"
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG),
		errors.Is(err, syscall.ETXTBSY):
		e.Code, e.Text = tasks.NotExecutable, fmt.Sprintf("%s: %v", path, err)
	case Exhausted(err):
		e.Code, e.Text = tasks.Busy, fmt.Sprintf("start %s: %v: this machine is out of processes, files or memory", path, err)
	default:
		e.Code, e.Text = tasks.Internal, fmt.Sprintf("start %s: %v", path, err)
	}
	return e
}
