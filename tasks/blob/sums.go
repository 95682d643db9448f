package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"runtime"
)

// sums are what is worked out of a content's bytes: a checksum (CRC-32C), which
// goes with it to whoever fetches it and finds what a disk or a network has
// spoilt, and the hash (SHA-256), which nobody can find another content for and
// which takes 15 times as long.
type sums struct {
	crc uint32
	sha hash.Hash // nil: there is no hash
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newSums(hashed bool) *sums {
	s := &sums{}
	if hashed {
		s.sha = sha256.New()
	}
	return s
}

func (s *sums) Write(b []byte) (int, error) {
	s.crc = crc32.Update(s.crc, castagnoli, b)
	if s.sha != nil {
		s.sha.Write(b)
	}
	return len(b), nil
}

// read adds what r gives until its end, or until ctx ends.
func (s *sums) read(ctx context.Context, r io.Reader) error {
	buf := pieces.Get().(*[pieceBytes]byte)
	defer pieces.Put(buf)
	for ctx.Err() == nil {
		n, err := r.Read(buf[:])
		s.Write(buf[:n])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		runtime.Gosched() // there is much of it, and others are in more of a hurry
	}
	return context.Cause(ctx)
}

func (s *sums) hash() string { return hex.EncodeToString(s.sha.Sum(nil)) }

// known returns the checksum as an entry has it.
func (s *sums) known() func() (uint32, error) {
	crc := s.crc
	return func() (uint32, error) { return crc, nil }
}

// sumOf works out the checksum of a file.
func (s *Store) sumOf(path string) (uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sums := newSums(false)
	err = sums.read(s.ctx, f)
	return sums.crc, err
}
