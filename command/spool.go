package command

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"os"
)

// maxSpoolBytes is how much of a spool is in memory; the rest is in a temporary
// file.
const maxSpoolBytes = 256 << 10

// spool keeps what a task wrote, in order, to be printed later. The zero spool
// is empty. Where no file can be written, everything stays in memory.
type spool struct {
	mem  bytes.Buffer // records: stream, length, bytes
	file *os.File     // what mem had before it was full; nil: none
	full bool         // no file could be made or written
}

func (s *spool) add(stream string, data []byte) {
	var head [5]byte
	if stream == stderr {
		head[0] = 1
	}
	binary.BigEndian.PutUint32(head[1:], uint32(len(data)))
	s.mem.Write(head[:])
	s.mem.Write(data)
	if s.mem.Len() > maxSpoolBytes && !s.full {
		s.spill()
	}
}

// spill moves what is in memory to the file.
func (s *spool) spill() {
	if s.file == nil {
		f, err := os.CreateTemp("", "scagent-output-")
		if err != nil {
			s.full = true
			return
		}
		s.file = f
	}
	end, err := s.file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = s.file.Write(s.mem.Bytes())
	}
	if err != nil {
		s.full = true
		s.file.Truncate(end) // what was written in part is still in memory
		return
	}
	s.mem.Reset()
}

// replay calls f with everything, in order.
func (s *spool) replay(f func(stream string, data []byte)) {
	var r io.Reader = bytes.NewReader(s.mem.Bytes())
	if s.file != nil {
		if _, err := s.file.Seek(0, io.SeekStart); err == nil {
			r = io.MultiReader(bufio.NewReaderSize(s.file, 64<<10), r)
		}
	}
	var head [5]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		data := make([]byte, binary.BigEndian.Uint32(head[1:]))
		n, err := io.ReadFull(r, data)
		stream := stdout
		if head[0] == 1 {
			stream = stderr
		}
		f(stream, data[:n])
		if err != nil {
			return
		}
	}
}

// close forgets everything.
func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
		os.Remove(s.file.Name()) // left in the temporary directory if that fails
	}
	*s = spool{}
}
