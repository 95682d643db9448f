package home

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// gone says that a process has ended, also if its parent has not asked about that yet.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	i := bytes.LastIndexByte(stat, ')') // the name before it may be anything
	return i >= 0 && i+2 < len(stat) && bytes.IndexByte([]byte("ZX"), stat[i+2]) >= 0
}
