package main

import (
	"fmt"
	"os/exec"
)

// evidence is what a run leaves for a checker, as paths.
type evidence struct {
	histories []string // JSON lines of the agents, one file each
	faults    string   // JSON lines of the cluster
	truth     string   // what the tasks wrote
}

// check runs a program over the evidence and returns what it says. It is run as
//
//	checker -faults FILE -truth FILE HISTORY…
//
// and exits with 0 when every invariant holds.
func check(checker string, e evidence) (said string, err error) {
	cmd := exec.Command(checker, append([]string{"-faults", e.faults, "-truth", e.truth}, e.histories...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w", checker, err)
	}
	return string(out), err
}
