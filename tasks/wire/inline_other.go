//go:build !unix

package wire

import "syscall"

// writeNow writes nothing; the writer does.
func writeNow(syscall.RawConn, []byte) int { return 0 }
