//go:build !unix

package port

import "net"

// firstByte waits for the first byte of c and returns it with the connection to
// go on with, on which it is still to be read.
func firstByte(c net.Conn) (byte, net.Conn, error) { return readFirst(c) }
