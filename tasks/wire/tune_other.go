//go:build !linux

package wire

import "net"

// tune does nothing where the bound of tune_linux.go is not known.
func tune(net.Conn) {}
