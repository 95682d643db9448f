//go:build linux

package command_test

import (
	"bytes"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/command"
	"github.com/scagent/scagent/tasks/runner/process"
	"github.com/scagent/scagent/tasks/runner/workdir"
)

// BenchmarkTrue runs /bin/true with all that a command task has, and as os/exec
// does with pipes and a process group of its own, in turns, two at once. ratio is
// the median of how much faster the tasks were: machines change their speed.
func BenchmarkTrue(b *testing.B) {
	nobody, err := process.LookupUser("nobody")
	if err != nil || os.Getuid() != 0 {
		nobody = nil
	}
	for _, c := range []struct {
		name string
		nets bool
		user *process.User
		skip bool
	}{
		{name: "nets=none"},
		{name: "nets=best", nets: true},
		{name: "nets=best/user=nobody", nets: true, user: nobody, skip: nobody == nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			if c.skip {
				b.Skip("only root can run tasks as nobody")
			}
			root := filepath.Join(b.TempDir(), "work")
			if err := os.Chmod(filepath.Dir(filepath.Dir(root)), 0o711); err != nil {
				b.Fatal(err)
			}
			if err := workdir.MakeRoot(root); err != nil {
				b.Fatal(err)
			}
			cfg := command.Config{Config: workdir.Config{Root: root, User: c.user, Spares: workdir.NewSpares(root, c.user)}}
			if c.nets {
				nets, err := process.OpenNets(process.Brood{Dir: root, Mark: workdir.Mark(root)}, c.user, log.New(io.Discard, "", 0))
				if err != nil {
					b.Fatal(err)
				}
				defer nets.Close()
				cfg.Nets = nets
				b.Logf("cgroup %q", nets.Brood().Cgroup)
			}
			r, err := command.New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			task := func() {
				var out, errs bytes.Buffer
				a := tasks.Attempt{Task: &tasks.Task{Argv: []string{"/bin/true"}}, ID: newID(), N: 1, Stdout: &out, Stderr: &errs}
				if o := r.Run(b.Context(), &a); o.Code != tasks.OK {
					b.Error(o)
				}
			}
			bare := func() {
				var out, errs bytes.Buffer
				cmd := exec.Command("/bin/true")
				cmd.Stdout, cmd.Stderr = &out, &errs
				cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				if err := cmd.Run(); err != nil {
					b.Error(err)
				}
			}
			compare(b, bare, task)
		})
	}
}

// compare runs each of two functions, two at once and in turns.
func compare(b *testing.B, bare, task func()) {
	const batch = 100
	times := func(n int, fn func()) time.Duration {
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				for range (n + i) / 2 {
					fn()
				}
			})
		}
		wg.Wait()
		return time.Since(start)
	}
	times(batch, bare)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); { // until spare directories have rested
		times(batch, task)
	}
	var ratios []float64
	var inBare, inTask time.Duration
	n := 0
	for b.Loop() {
		if n++; n%batch != 0 {
			continue
		}
		b.StopTimer()
		d := times(batch, bare)
		b.StartTimer()
		e := times(batch, task)
		inBare, inTask = inBare+d, inTask+e
		ratios = append(ratios, d.Seconds()/e.Seconds())
	}
	if len(ratios) == 0 {
		return
	}
	slices.Sort(ratios)
	done := float64(len(ratios) * batch)
	b.ReportMetric(done/inBare.Seconds(), "exec/s")
	b.ReportMetric(done/inTask.Seconds(), "tasks/s")
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
}
