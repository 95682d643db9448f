//go:build linux

package process_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/scagent/scagent/tasks/runner/process"
)

// two calls fn b.N times from two goroutines, as a worker with two slots does.
func two(b *testing.B, fn func() error) {
	b.ReportAllocs()
	work := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range work {
				if err := fn(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "starts/s")
}

var benchEnv = []string{"PATH=/usr/bin:/bin", "HOME=/tmp", "SCAGENT_TASK_ID=bench", "SCAGENT_ATTEMPT=1"}

func BenchmarkTrue(b *testing.B) {
	b.Run("os-exec", func(b *testing.B) {
		two(b, func() error {
			var stdout, stderr bytes.Buffer
			cmd := exec.Command("/bin/true")
			cmd.Env, cmd.Stdout, cmd.Stderr = benchEnv, &stdout, &stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			return cmd.Run()
		})
	})
	run := func(nets *process.Nets) func(b *testing.B) {
		return func(b *testing.B) {
			two(b, func() error {
				var stdout, stderr bytes.Buffer
				env := append(benchEnv[:3:3], fmt.Sprintf("SCAGENT_ATTEMPT=%d", attempts.Add(1)))
				_, err := process.Run(b.Context(), &process.Spec{Argv: []string{"/bin/true"}, Env: env,
					Stdout: &stdout, Stderr: &stderr, Marks: env[2:], Nets: nets})
				return err
			})
		}
	}
	b.Run("process", run(nil))
	for _, way := range process.Ways {
		b.Run("process-"+way, func(b *testing.B) {
			nets, err := process.OpenWay(way, b.TempDir(), nil)
			if err != nil {
				b.Skip(err)
			}
			defer nets.Close()
			run(nets)(b)
		})
	}
}
