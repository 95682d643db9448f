//go:build linux

package process_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
)

// bounded returns a Spec with limits.
func bounded(t *testing.T, l process.Limits, line string, args ...string) (*process.Spec, *bytes.Buffer) {
	var out bytes.Buffer
	s := shell(t, line, args...)
	s.Stdout, s.Limits = &out, l
	return s, &out
}

// all are limits of each kind, that no small program meets.
var all = process.Limits{Memory: 64 << 20, Processes: 3000, OpenFiles: 50, FileBytes: 4096}

// limitLine finds a line of /proc/PID/limits.
func limitLine(text, name string) string {
	_, rest, _ := strings.Cut(text, "Max "+name)
	line, _, _ := strings.Cut(rest, "\n")
	return strings.Join(strings.Fields(line), " ")
}

func TestLimitsHoldFromTheFirstInstruction(t *testing.T) {
	var out bytes.Buffer
	s := shell(t, "")
	s.Argv, s.Stdout, s.Limits = []string{"/bin/cat", "/proc/self/limits"}, &out, all
	mustRun(t, t.Context(), s)
	for name, want := range map[string]string{
		"data size": "67108864 67108864 bytes", "processes": "3000 3000 processes", "open files": "50 50 files",
		"file size": "4096 4096 bytes", "core file size": "0 0 bytes",
	} {
		if got := limitLine(out.String(), name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestLimitsAreInheritedAndBind(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit process.Limits
		line  string
	}{
		{"memory", process.Limits{Memory: 20 << 20}, `x=$(head -c 60000000 /dev/zero | tr '\0' a)`},
		{"memory of a child", process.Limits{Memory: 20 << 20}, `sh -c "x=\$(head -c 60000000 /dev/zero | tr '\\0' a); exit 0"`},
		{"open files of a child", process.Limits{OpenFiles: 9}, `sh -c "tee f1 f2 f3 f4 f5 f6 f7 f8 f9 </dev/null"`},
		{"file size", process.Limits{FileBytes: 1000}, `head -c 5000 /dev/zero >f`},
	} {
		t.Run(c.name, func(t *testing.T) {
			within(t, func() {
				s, _ := bounded(t, process.Limits{}, c.line)
				if ex := mustRun(t, t.Context(), s); ex.Status != 0 {
					t.Fatalf("without the limit: %+v", ex)
				}
				s, _ = bounded(t, c.limit, c.line)
				if ex := mustRun(t, t.Context(), s); ex.Status == 0 && ex.Signal == "" {
					t.Errorf("with the limit: %+v, want a failure", ex)
				}
				if st, err := os.Stat(filepath.Join(s.Dir, "f")); err == nil && st.Size() > 1000 {
					t.Errorf("a file has %d bytes", st.Size())
				}
			})
		})
	}
}

func TestProcessesOfAUserAreLimited(t *testing.T) {
	if !asNobody(t) {
		return
	}
	s, out := bounded(t, process.Limits{Processes: 1}, `echo main; (echo child)`)
	ex := mustRun(t, t.Context(), s)
	if ex.Status == 0 || out.String() != "main\n" {
		t.Errorf("Run = %+v, %q; want no child", ex, out.String())
	}
}

func TestALimitThatIsLowerAlreadyStays(t *testing.T) {
	if !asNobody(t) {
		return
	}
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	s, out := bounded(t, process.Limits{OpenFiles: 1 << 40}, `cat /proc/self/limits`)
	mustRun(t, t.Context(), s)
	if got, want := limitLine(out.String(), "open files"), fmt.Sprintf("%d %d files", own.Max, own.Max); got != want {
		t.Errorf("open files: %q, want %q", got, want)
	}
}

func TestOutputIsCutAtItsLimit(t *testing.T) {
	var errs bytes.Buffer
	s, out := bounded(t, process.Limits{Output: 1000}, `head -c 3000000 /dev/zero; printf '%01000d' 0 >&2; exit 4`)
	s.Stderr = &errs
	ex := mustRun(t, t.Context(), s)
	if ex.Status != 4 || out.Len() != 1000 || errs.Len() != 1000 || ex.StdoutBytes != 3000000 || !ex.OutputCut {
		t.Errorf("Run = %+v, %d and %d bytes came; want status 4, 1000 of 3000000 and 1000", ex, out.Len(), errs.Len())
	}
	s, out = bounded(t, process.Limits{Output: 1000}, `printf '%01000d' 0`)
	if ex := mustRun(t, t.Context(), s); ex.OutputCut || out.Len() != 1000 {
		t.Errorf("Run = %+v, %d bytes came; want 1000, not cut", ex, out.Len())
	}
}

// TestLimitedProgramsAreLikeOthers covers what tracing a start could change.
func TestLimitedProgramsAreLikeOthers(t *testing.T) {
	eachNet(t, func(t *testing.T, nets *process.Nets, u *process.User) {
		if u != nil {
			t.Skip("see TestLimitsOfAnotherUser")
		}
		for line, want := range map[string]process.Exit{
			"exit 7": {Status: 7}, "kill -TERM $$": {Signal: "SIGTERM"}, "kill -TRAP $$": {Signal: "SIGTRAP"}, "kill -STOP $$ & wait; exit 3": {Status: 3},
		} {
			within(t, func() {
				s, _ := bounded(t, all, line)
				s.Nets = nets
				if strings.Contains(line, "STOP") {
					s.Argv[2] = `(until grep -q "^State:.T" /proc/$$/status; do sleep 0.02; done; kill -CONT $$) & kill -STOP $$; exit 3`
				}
				if ex := mustRun(t, t.Context(), s); ex.Status != want.Status || ex.Signal != want.Signal {
					t.Errorf("%s: Run = %+v, want status %d, signal %q", line, ex, want.Status, want.Signal)
				}
			})
		}
		s, out := bounded(t, all, "grep -c 'TracerPid:\t0' /proc/self/status; cat; pwd")
		s.Stdin, s.Nets = strings.NewReader("in\n"), nets
		if mustRun(t, t.Context(), s); out.String() != "1\nin\n"+s.Dir+"\n" {
			t.Errorf("a limited program printed %q", out)
		}
		for _, c := range []struct {
			argv string
			want tasks.Code
		}{{"/none", tasks.NotFound}, {"/etc/passwd", tasks.NotExecutable}, {"/", tasks.NotExecutable}} {
			s, _ := bounded(t, all, "")
			s.Argv, s.Nets = []string{c.argv}, nets
			_, err := process.Run(t.Context(), s)
			var start *process.StartError
			if !errors.As(err, &start) || start.Code != c.want {
				t.Errorf("Run(%s) = %v, want %v", c.argv, err, c.want)
			}
		}
	})
}

// TestPrivilegedProgramsKeepTheirRights runs, without rights and with limits,
// programs that have some of their own: a traced program would not gain them.
func TestPrivilegedProgramsKeepTheirRights(t *testing.T) {
	if os.Getuid() != 0 {
		if dir := os.Getenv("TMPDIR"); strings.Contains(dir, "privileged") {
			runPrivileged(t, dir)
			return
		}
		t.Skip("only root can make such programs")
	}
	dir := filepath.Join(open(t), "privileged")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o777)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Flags&unix.ST_NOSUID != 0 {
		t.Skipf("%s gives programs no rights: %v", dir, err)
	}
	copyProgram := func(from, to string, mode os.FileMode) string {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Skip(err)
		}
		path := filepath.Join(dir, to)
		if err := os.WriteFile(path, b, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	copyProgram("/usr/bin/id", "setuid", 0o755|os.ModeSetuid)
	copyProgram("/usr/bin/id", "setgid", 0o755|os.ModeSetgid)
	copyProgram("/usr/bin/id", "unreadable", 0o711)
	caps := make([]byte, 20) // struct vfs_cap_data, version 2, effective: CAP_NET_RAW
	binary.LittleEndian.PutUint32(caps, 0x02000001)
	binary.LittleEndian.PutUint32(caps[4:], 1<<unix.CAP_NET_RAW)
	if err := unix.Setxattr(copyProgram("/usr/bin/grep", "capable", 0o755), "security.capability", caps, 0); err != nil {
		t.Logf("no capabilities of files here: %v", err)
		os.Remove(filepath.Join(dir, "capable"))
	}
	t.Setenv("TMPDIR", dir)
	asNobody(t)
}

func runPrivileged(t *testing.T, dir string) {
	nets, err := process.OpenWay("brands", t.TempDir(), nil)
	if err != nil {
		t.Logf("without brands: %v", err)
	}
	for _, c := range []struct {
		argv []string
		want string
	}{
		{[]string{dir + "/setuid", "-u"}, "0\n"},
		{[]string{dir + "/setgid", "-g"}, "0\n"},
		{[]string{dir + "/unreadable", "-u"}, "65534\n"},
		{[]string{dir + "/capable", "-c", "CapEff:\t0000000000002000", "/proc/self/status"}, "1\n"},
		{[]string{"setuid", "-u"}, "0\n"},
		{[]string{"./setuid", "-u"}, "0\n"},
	} {
		if _, err := os.Stat(filepath.Join(dir, filepath.Base(c.argv[0]))); err != nil {
			continue
		}
		for name, l := range map[string]process.Limits{"limits": all, "no limits": {}} {
			s, out := bounded(t, l, "")
			s.Argv, s.Dir, s.Nets = c.argv, dir, nets
			s.Env = append(s.Env, "PATH="+dir)
			if ex := mustRun(t, t.Context(), s); out.String() != c.want {
				t.Errorf("%q with %s: %+v, %q, want %q", c.argv, name, ex, out, c.want)
			}
		}
	}
}

func TestLimitsOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can run programs as another user")
	}
	s, out := bounded(t, all, `id -u; cat /proc/self/limits`)
	s.Dir, s.User = "/", nobody
	ex, err := process.Run(t.Context(), s)
	var start *process.StartError
	switch {
	case err == nil:
		if got := limitLine(out.String(), "open files"); !strings.HasPrefix(out.String(), "65534\n") || got != "50 50 files" {
			t.Errorf("Run = %+v, %q", ex, out)
		}
	case !errors.As(err, &start) || start.Code != tasks.Internal || !strings.Contains(start.Text, "CAP_SYS_RESOURCE") || strings.Contains(start.Text, "\n"):
		t.Errorf("Run = %v; want the limits, or a line that says what the agent lacks", err)
	}
}

// TestNothingIsLeftOfStartsThatAreStopped ends tasks at any moment of their start.
func TestNothingIsLeftOfStartsThatAreStopped(t *testing.T) {
	eachNet(t, func(t *testing.T, nets *process.Nets, u *process.User) {
		if u != nil {
			return
		}
		within(t, func() {
			m := marker(0)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for range 40 {
						ctx, cancel := context.WithCancelCause(t.Context())
						stop := time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, func() {
							cancel(&tasks.StopError{Reason: tasks.StopKill})
						})
						s, _ := bounded(t, all, "exec sleep "+m)
						s.Nets = nets
						if ex, err := process.Run(ctx, s); err != nil || ex.Stopped != tasks.StopKill {
							t.Errorf("Run = %+v, %v", ex, err)
						}
						stop.Stop()
						cancel(nil)
					}
				})
			}
			wg.Wait()
			if pids := have(t, m); len(pids) > 0 {
				t.Errorf("the processes %v still run", pids)
			}
			if left := children(t); len(left) > 0 {
				t.Errorf("the children %v are left", left)
			}
		})
	})
}

// children returns the children of this process, dead ones too, with their states.
func children(t *testing.T) (left []string) {
	t.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			left = append(left, filepath.Base(filepath.Dir(f))+" "+fields[0])
		}
	}
	return left
}
