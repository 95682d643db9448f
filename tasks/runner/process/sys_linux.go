package process

import "golang.org/x/sys/unix"

// maxRSSUnit is the unit of Rusage.Maxrss in bytes.
const maxRSSUnit = 1024

func pipeCloexec(p *[2]int) error { return unix.Pipe2(p[:], unix.O_CLOEXEC) }

// waitExit returns when the process has exited, and leaves it to be reaped: so
// its number, and that of its group, is not given to another meanwhile.
func waitExit(pid int) {
	for {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return
		}
	}
}
