package history

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/scagent/scagent/tasks"
)

// hashBytes is how much of a SHA-256 is written down.
const hashBytes = 16

// HashBytes returns the hash of bytes that must arrive as they were sent.
func HashBytes(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:hashBytes])
}

// Hash returns the hash of an outcome, which is the same at the worker that made
// it, at the master that got it, and in a Result. It leaves out what changes on the
// way: names of files in a blob store are other ones at the master, of which the
// size stays; and times, which travel as nanoseconds but lose their zone.
func Hash(o *tasks.Outcome) string {
	b := make([]byte, 0, 256)
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b = append(b, byte(o.Code), byte(o.Encoding))
	b = binary.AppendVarint(b, int64(o.Exit))
	text(o.Signal)
	text(o.Text)
	b = binary.AppendUvarint(b, uint64(len(o.Value)))
	b = append(b, o.Value...)
	b = binary.AppendVarint(b, o.StdoutBytes)
	b = binary.AppendVarint(b, o.StderrBytes)
	b = binary.AppendUvarint(b, uint64(len(o.Outputs)))
	for i := range o.Outputs {
		f := &o.Outputs[i]
		text(f.Name)
		b = binary.AppendUvarint(b, uint64(f.Mode))
		b = binary.AppendVarint(b, f.Len())
		if f.Blob == "" {
			b = append(b, f.Inline...)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(o.Steps)))
	for _, s := range o.Steps {
		text(s.Stage)
		text(s.Command)
		text(s.Signal)
		b = binary.AppendVarint(b, int64(s.Exit))
	}
	return HashBytes(b)
}
