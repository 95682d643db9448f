package main

import (
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// A child writes a CPU profile of its whole life to the file that this variable
// names, with the role and pid added.
func init() {
	name := os.Getenv("SCAGENT_BENCH_PROFILE")
	if name == "" || os.Getenv(roleVar) == "" {
		return
	}
	f, err := os.Create(name + "." + os.Getenv(roleVar))
	if err != nil {
		return
	}
	pprof.StartCPUProfile(f)
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	go func() { <-c; pprof.StopCPUProfile(); f.Close() }()
}
