//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Takes returns how many bytes of memory the agent of a node has resident, and how
// many descriptors it has open.
func (n *Node) Takes() (rss, fds int64, err error) {
	n.mu.Lock()
	p := n.proc
	n.mu.Unlock()
	if p == nil {
		return 0, 0, errNothing
	}
	proc := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	statm, err := os.ReadFile(proc + "statm")
	if err != nil {
		return 0, 0, err
	}
	f := strings.Fields(string(statm))
	if len(f) < 2 {
		return 0, 0, errNothing
	}
	if rss, err = strconv.ParseInt(f[1], 10, 64); err != nil {
		return 0, 0, err
	}
	open, err := os.ReadDir(proc + "fd")
	return rss * int64(os.Getpagesize()), int64(len(open)), err
}

// OnDisk returns how many bytes the files of a node's state directory have.
func (n *Node) OnDisk() (bytes int64, err error) {
	err = filepath.WalkDir(n.state, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var fi fs.FileInfo
			if fi, err = e.Info(); err == nil {
				bytes += fi.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) { // it was removed meanwhile
			return nil
		}
		return err
	})
	return bytes, err
}
