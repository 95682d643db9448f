//go:build unix

package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/tasks/runner/process"
	"github.com/scagent/scagent/tasks/runner/workdir"
)

// Main is the supervisor process.
func Main() int {
	process.Unbrand()
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	var o order
	line, more, ok := readLine(nil)
	if !ok || json.Unmarshal(line, &o) != nil {
		return 0 // the agent died before it could say what it is about to start
	}
	if o.Groups {
		o.Brood.Groups = os.NewFile(groupsFile, "groups")
	}
	debug.FreeOSMemory()
	if _, _, ok := readLine(more); ok {
		return 0
	}
	o.Brood.Kill()
	workdir.RemoveRoot(context.Background(), o.Brood.Dir) // an error: the next start tries again
	if o.Remove != "" {
		workdir.RemoveAll(o.Remove)
	}
	return 0
}

// readLine returns the next line of the pipe, of which b was read before, and what
// was read after it. It reports false when the pipe has ended. It blocks a thread,
// for which the runtime needs no poller.
func readLine(b []byte) (line, more []byte, ok bool) {
	for {
		if line, more, ok = bytes.Cut(b, []byte("\n")); ok {
			return line, more, true
		}
		buf := make([]byte, 4<<10)
		n, err := unix.Read(pipeFile, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return nil, nil, false
		}
		b = append(b, buf[:n]...)
	}
}
