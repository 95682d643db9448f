// Package helper starts the running program once more, as a helper process.
//
// Some things must be done by a process other than the agent: evaluating
// JavaScript that may have to be killed, and killing tasks when the agent has
// died. There is no second binary for that. A program calls Run first thing in
// its main; Command starts the same program so that Run does not return there
// but does the helper's work:
//
//	func main() {
//		helper.Run(map[string]func() int{"js": child})
//		...
//	}
//
// Tests that need helpers do the same in TestMain.
package helper

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
)

// prefix marks the name of a helper where a program's first argument is.
const prefix = "__"

// ErrUnavailable says that the program cannot be its own helper.
var ErrUnavailable = errors.New("this program does not call agent.RunHelper first thing in its main, so it has no helper processes")

var known atomic.Pointer[map[string]func() int]

// Run does the work of a helper and exits with the status that it returns, if
// this process was started by Command, and otherwise returns at once. Nothing
// may have been started before it is called. Files that the process was started
// with, beside the standard three, are from then on not inherited by what it
// starts, if it does not hand them on by name as os/exec does.
func Run(helpers map[string]func() int) {
	keepFiles()
	known.Store(&helpers)
	if len(os.Args) != 2 {
		return
	}
	if name, ok := strings.CutPrefix(os.Args[1], prefix); ok && helpers[name] != nil {
		os.Exit(helpers[name]())
	}
}

// Command returns the command that starts a helper. It has no environment, so
// that the helper has nothing of the agent's to give away, but may be changed.
// The error is ErrUnavailable.
func Command(name string) (*exec.Cmd, error) {
	helpers := known.Load()
	if helpers == nil || (*helpers)[name] == nil {
		return nil, ErrUnavailable
	}
	path, err := executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(path)
	c.Args = []string{"scagent", prefix + name}
	c.Env = []string{}
	return c, nil
}

// executable returns the path of the running program: on linux of the very file
// that runs, although another may have taken its place.
func executable() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}
