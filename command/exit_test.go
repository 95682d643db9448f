package command

import (
	"testing"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

func TestExitStatusOfOneTarget(t *testing.T) {
	for _, c := range []struct {
		name   string
		task   api.TaskStatus
		status int
		how    string
	}{
		{"done", api.TaskStatus{State: tasks.StateDone}, 0, ""},
		{"own status", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.Exit, ExitCode: 3, Error: "exit status 3"}, 3, "exit 3"},
		{"own status 130", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.Exit, ExitCode: 130}, 130, "exit 130"},
		{"status of windows", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.Exit, ExitCode: 256}, 255, "exit 256"},
		{"killed", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.Signalled, Signal: "SIGKILL"}, 137, "signal SIGKILL"},
		{"segfault", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.Signalled, Signal: "SIGSEGV"}, 139, "signal SIGSEGV"},
		{"realtime signal", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.Signalled, Signal: "signal 34"}, 162, "signal signal 34"},
		{"signal nobody knows", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.Signalled, Signal: "\x1b"}, 255, `signal \x1b`},
		{"timeout", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.Timeout, Signal: "SIGKILL", Error: "timed out after 1s"}, 124, "timeout: timed out after 1s"},
		{"not executable", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.NotExecutable, ExitCode: 126, Error: "permission denied"}, 126, "exit 126: permission denied"},
		{"not found", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.NotFound, ExitCode: 127}, 127, "exit 127"},
		{"threw", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.Failed, Error: "no"}, 1, "failed: no"},
		{"panicked", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.Panic, Error: "panic: x"}, 1, "panic: x"},
		{"cancelled", api.TaskStatus{State: tasks.StateCancelled, Reason: tasks.Cancelled}, 130, "cancelled"},
		{"refused", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.Refused, Error: "kind git"}, 125, "refused: kind git"},
		{"no such function", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.NoFunction}, 125, "refused"},
		{"never reached", api.TaskStatus{State: tasks.StateLost, Reason: tasks.NeverReached, Error: "never reached: x"}, 125, "never reached: x"},
		{"lost", api.TaskStatus{State: tasks.StateLost, Reason: tasks.Lost}, 125, "lost while running"},
		{"poison", api.TaskStatus{State: tasks.StateLost, Reason: tasks.Poison}, 125, "lost while running"},
		{"internal", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.Internal, Error: "disk\nfull"}, 125, `internal: disk\nfull`},
		{"failed without a reason", api.TaskStatus{State: tasks.StateFailed}, 125, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := exitOne(&c.task); got != c.status {
				t.Errorf("exitOne = %d, want %d", got, c.status)
			}
			if got := how(&c.task); c.how != "" && got != c.how {
				t.Errorf("how = %q, want %q", got, c.how)
			}
		})
	}
}

func TestExitStatusOfSeveralTargets(t *testing.T) {
	good := api.TaskStatus{State: tasks.StateDone}
	bad := api.TaskStatus{State: tasks.StateFailed, Reason: tasks.Exit, ExitCode: 7}
	gone := api.TaskStatus{State: tasks.StateLost, Reason: tasks.Lost}
	cancelled := api.TaskStatus{State: tasks.StateCancelled, Reason: tasks.Cancelled}
	for _, c := range []struct {
		name   string
		counts map[*api.TaskStatus]int
		want   int
	}{
		{"none", nil, 0},
		{"all good", map[*api.TaskStatus]int{&good: 300}, 0},
		{"some", map[*api.TaskStatus]int{&good: 3, &bad: 2, &gone: 1}, 3},
		{"a hundred", map[*api.TaskStatus]int{&bad: 100}, 100},
		{"more", map[*api.TaskStatus]int{&bad: 101}, 101},
		{"many more", map[*api.TaskStatus]int{&bad: 300}, 101},
		{"cancelled", map[*api.TaskStatus]int{&good: 1, &cancelled: 2}, 130},
	} {
		t.Run(c.name, func(t *testing.T) {
			var n tally
			for task, times := range c.counts {
				for range times {
					n.add(task)
				}
			}
			if got := n.exit(); got != c.want {
				t.Errorf("exit = %d, want %d", got, c.want)
			}
		})
	}
}

// The numbers of POSIX and of Linux on most machines.
func TestSignalNumbers(t *testing.T) {
	for name, want := range map[string]int{"SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGABRT": 6, "SIGIOT": 6, "SIGKILL": 9, "SIGUSR1": 10,
		"SIGSEGV": 11, "SIGUSR2": 12, "SIGPIPE": 13, "SIGALRM": 14, "SIGTERM": 15, "SIGSTOP": 19, "SIGXCPU": 24, "SIGIO": 29, "SIGPOLL": 29,
		"SIGSYS": 31, "signal 64": 64, "signal 999": 127, "KILL": 127, "": 127} {
		if got := signalNumber(name); got != want {
			t.Errorf("signalNumber(%q) = %d, want %d", name, got, want)
		}
	}
}
