package home

import (
	"fmt"
	"os"
	"syscall"
)

// netNS returns the inode of the network namespace of this process.
func netNS() (uint64, error) {
	fi, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return 0, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%T has no inode", fi.Sys())
	}
	return st.Ino, nil
}
