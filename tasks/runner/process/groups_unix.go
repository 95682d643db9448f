//go:build unix

package process

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const groupBytes = 8 // of a number in the file

// groups keeps the process groups of the programs that run in a file without a
// name, where another process can read them when the agent is dead: a free place
// has a 0. A pipe would wake that process for each program. A nil *groups keeps
// none.
type groups struct {
	file *os.File // constant

	mu   sync.Mutex // guards the fields below; it is held over the writes, to memory
	free []int
	made int
}

func openGroups(dir string) (*groups, error) {
	f, err := os.CreateTemp(dir, ".groups-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return &groups{file: f}, nil
}

// add returns the place of a group, from 1, or 0 if it could not be written down.
func (g *groups) add(pgid int) int {
	if g == nil {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.free) == 0 {
		g.made++
		g.free = append(g.free, g.made)
	}
	at := g.free[len(g.free)-1]
	if !g.write(at, pgid) {
		return 0
	}
	g.free = g.free[:len(g.free)-1]
	return at
}

func (g *groups) remove(at int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.write(at, 0)
	g.free = append(g.free, at)
}

func (g *groups) write(at, pgid int) bool {
	var b [groupBytes]byte
	binary.LittleEndian.PutUint64(b[:], uint64(pgid))
	_, err := g.file.WriteAt(b[:], int64(at-1)*groupBytes)
	return err == nil
}

func (g *groups) close() error {
	if g == nil {
		return nil
	}
	if err := g.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// killGroups kills the process groups in the file.
func killGroups(f *os.File) {
	if f == nil {
		return
	}
	b, _ := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	for ; len(b) >= groupBytes; b = b[groupBytes:] {
		if pgid := int(binary.LittleEndian.Uint64(b)); pgid > 1 {
			unix.Kill(-pgid, unix.SIGKILL)
		}
	}
}
