//go:build unix

package wire

import "syscall"

// writeNow writes as much of b as goes without waiting.
func writeNow(raw syscall.RawConn, b []byte) (n int) {
	raw.Write(func(fd uintptr) bool {
		n, _ = syscall.Write(int(fd), b) // the writer meets the same error
		return true
	})
	return max(n, 0)
}
