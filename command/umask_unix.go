//go:build unix

package command

import "syscall"

// keepOwn makes sure that this process, and tasks, may use the files that they
// make, whatever the umask takes from others.
func keepOwn() { syscall.Umask(syscall.Umask(0o077) &^ 0o700) }
