package process

import (
	"bytes"
	"os"
	"strconv"
	"time"
)

const (
	// execPatience bounds the wait for a process in the middle of an exec. That
	// takes microseconds, but on a busy machine it may have to wait for its turn.
	execPatience = time.Second
	execPoll     = 50 * time.Microsecond
)

// environOf returns the environment that a process had at its start, with a NUL in
// front of each entry and one at the end, or nothing if it has none or it cannot be
// read.
//
// In the middle of an exec the kernel shows no environment: the old one is gone,
// and the new one not there yet. Its end is waited for, since that process would
// otherwise be taken for one without marks, and be spared.
func environOf(pid int) []byte {
	var place envPlace // where it was when it was found empty
	for end := time.Now().Add(execPatience); ; time.Sleep(execPoll) {
		env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err == nil && len(env) > 0 {
			return append([]byte{0}, env...)
		}
		before := place
		place = envPlaceOf(pid)
		// The same place twice: no exec ended between the first look at it and the second.
		if err != nil || place.none || place == before && place.end != 0 || time.Now().After(end) {
			return nil
		}
	}
}

// envPlace is where in the memory of a process its environment is.
type envPlace struct {
	none       bool   // it has no memory: it has ended, or is a thread of the kernel
	start, end uint64 // end 0: in the middle of an exec
}

// envPlaceOf returns where the environment of a process is; see proc_pid_stat(5).
func envPlaceOf(pid int) envPlace {
	stat, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from the third field on, the state
	const vsize, envStart, envEnd = 23 - 3, 50 - 3, 51 - 3
	if len(f) <= envEnd || string(f[vsize]) == "0" {
		return envPlace{none: true}
	}
	var p envPlace
	p.start, _ = strconv.ParseUint(string(f[envStart]), 10, 64) // numbers, for certain
	p.end, _ = strconv.ParseUint(string(f[envEnd]), 10, 64)
	return p
}
