package home

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
)

// Env is what decides where agents live. Start from OSEnv; tests change fields.
type Env struct {
	UID    int // effective user id; 0 is root, -1 where there are none (Windows)
	Getenv func(string) string
	// Root is put before /run, /var/lib and /tmp. Default: nothing.
	Root string
	// NetNS is the inode of the network namespace, 0 where there are none.
	NetNS func() (uint64, error)
	// MayOpen reports why a socket may not be opened, nil if it may.
	MayOpen func(socket string) error
}

// OSEnv is the Env of this process.
func OSEnv() Env {
	return Env{UID: os.Geteuid(), Getenv: os.Getenv, NetNS: netNS, MayOpen: mayOpen}
}

// runtimeDirs are the directories in which agents of the user uid may have their
// sockets, the preferred one first.
func (e *Env) runtimeDirs(uid int) []string {
	if runtime.GOOS == "windows" {
		if d := e.Getenv("LOCALAPPDATA"); d != "" {
			return []string{filepath.Join(d, "scagent", "run")}
		}
		return nil
	}
	if uid == 0 {
		if runtime.GOOS == "darwin" {
			return []string{e.Root + "/var/run/scagent"} // there is no /run
		}
		return []string{e.Root + "/run/scagent"}
	}
	dirs := []string{e.Root + "/tmp/scagent-" + strconv.Itoa(uid)}
	if d := e.Getenv("XDG_RUNTIME_DIR"); uid == e.UID && filepath.IsAbs(d) {
		dirs = append([]string{filepath.Join(d, "scagent")}, dirs...)
	}
	return dirs
}

// stateBase is the directory of the user's state directories, empty when the
// environment does not say.
func (e *Env) stateBase() string {
	if runtime.GOOS == "windows" {
		if d := e.Getenv("LOCALAPPDATA"); d != "" {
			return filepath.Join(d, "scagent", "state")
		}
		return ""
	}
	if e.UID == 0 {
		return e.Root + "/var/lib/scagent"
	}
	if d := e.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "scagent")
	}
	if d := e.Getenv("HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, ".local", "state", "scagent")
	}
	return ""
}
