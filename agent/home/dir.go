package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// claimDir returns the directory for the sockets of the user's agents, made if
// need be.
func claimDir(env *Env) (string, error) {
	dirs := env.runtimeDirs(env.UID)
	if len(dirs) == 0 {
		return "", errors.New("LOCALAPPDATA is not set, so there is no place for the agent's socket; set it")
	}
	dir, mode := dirs[0], fs.FileMode(0o700)
	if env.UID == 0 {
		mode = 0o755 // others must be able to see that there is an agent
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return "", fmt.Errorf("no place for the agent's socket: %w", err)
		}
	}
	if len(dirs) > 1 && checkDir(filepath.Dir(dir), env.UID) != nil {
		dir = dirs[1] // XDG_RUNTIME_DIR is another user's, as after su, or is not there
	}
	err := os.Mkdir(dir, mode)
	if err == nil {
		err = os.Chmod(dir, mode) // whatever the umask
	} else if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err != nil {
		return "", fmt.Errorf("no place for the agent's socket: %w", err)
	}
	return dir, checkDir(dir, env.UID)
}

// checkDir reports why others than the user uid could put sockets into dir.
func checkDir(dir string, uid int) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("no place for the agent's socket: %w", err)
	}
	bad := func(why string) error {
		return fmt.Errorf("%s %s, so the agent's socket is not safe there; remove it", dir, why)
	}
	if !fi.IsDir() {
		return bad("is not a directory")
	}
	owner, ok := ownerOf(fi)
	if !ok {
		return nil // no owners here
	}
	if owner != uid {
		return bad(fmt.Sprintf("belongs to user %d", owner))
	}
	if p := fi.Mode().Perm(); p&0o022 != 0 {
		return fmt.Errorf("%s can be written by others (mode %o), so the agent's socket is not safe there; run: chmod go-w %s", dir, p, dir)
	}
	return nil
}
