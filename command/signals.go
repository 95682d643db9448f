package command

import (
	"os"
	"os/signal"
	"syscall"
)

// signals is Env.Signals of a process. A hang-up that the process was started
// to ignore, as by nohup, stays ignored.
func signals(reload bool) (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 4)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	if reload || !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(c, syscall.SIGHUP)
	}
	return c, func() { signal.Stop(c) }
}
