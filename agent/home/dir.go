package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// claimDir returns the directory for the sockets of the user's agents, made if
// need be; shared is one through which others reach a socket that is theirs too.
func claimDir(env *Env, shared bool) (string, error) {
	dirs := env.runtimeDirs(env.UID)
	if len(dirs) == 0 {
		return "", errors.New("LOCALAPPDATA is not set, so there is no place for the agent's socket; set it")
	}
	dir, mode := dirs[0], fs.FileMode(0o700)
	switch {
	case env.UID == 0:
		mode = 0o755 // others must be able to see that there is an agent
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return "", fmt.Errorf("no place for the agent's socket: %w", err)
		}
	case shared:
		dir, mode = dirs[len(dirs)-1], 0o711 // nobody else passes through XDG_RUNTIME_DIR
	case len(dirs) > 1 && checkDir(filepath.Dir(dir), env.UID) != nil:
		dir = dirs[1] // XDG_RUNTIME_DIR is another user's, as after su, or is not there
	}
	err := os.Mkdir(dir, mode)
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("no place for the agent's socket: %w", err)
	}
	if err := checkDir(dir, env.UID); err != nil {
		return "", err
	}
	if made || shared { // whatever the umask, or what an agent without a group made
		if err := os.Chmod(dir, mode); err != nil {
			return "", fmt.Errorf("no place for the agent's socket: %w", err)
		}
	}
	return dir, nil
}

// makeDirs makes a directory and those above it that are missing. They have the
// mode, whatever the umask.
func makeDirs(dir string, mode fs.FileMode) error {
	err := os.Mkdir(dir, mode)
	if up := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && up != dir {
		if err := makeDirs(up, mode); err != nil {
			return err
		}
		err = os.Mkdir(dir, mode)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // if it is no directory, that shows when it is used
	}
	if err != nil {
		return err
	}
	return os.Chmod(dir, mode)
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
