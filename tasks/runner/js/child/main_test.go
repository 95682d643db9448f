//go:build linux

package child

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/helper"
)

// patience is how long tests wait for what has no promised time. Only a failing
// test takes that long.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	helper.Run(map[string]func() int{
		"worker": func() int { return Serve(func(*Setup) Evaluate { return evaluate }) },
		"liar":   liar,
		"broken": func() int { fmt.Fprintln(os.Stderr, "no\x1b such thing\nat all"); return 3 },
		"agent":  doomedAgent,
	})
	os.Exit(m.Run())
}

// evaluate does what a script is named for.
func evaluate(ctx context.Context, s *Script, stdout, stderr io.Writer) tasks.Outcome {
	value := func(format string, args ...any) tasks.Outcome {
		return tasks.Outcome{Value: fmt.Appendf(nil, format, args...), Encoding: tasks.JSON}
	}
	switch s.Source {
	case "echo":
		args, err := json.Marshal(s.Args)
		if err != nil {
			return tasks.Outcome{Code: tasks.Failed, Text: err.Error()}
		}
		return value("[%d,%d,%s]", s.Seed[0], s.Seed[1], args)
	case "pid":
		return value("%d", os.Getpid())
	case "print":
		fmt.Fprint(stdout, strings.Repeat("o", 100_000))
		fmt.Fprint(stderr, strings.Repeat("e", 70_000))
		return value("1")
	case "until interrupted":
		fmt.Fprintln(stdout, "it runs")
		<-ctx.Done()
		return tasks.Outcome{Code: tasks.Cancelled}
	case "for a moment":
		fmt.Fprintln(stdout, "it runs")
		select {
		case <-ctx.Done():
			return tasks.Outcome{Code: tasks.Cancelled}
		case <-time.After(200 * time.Millisecond):
			return value("1")
		}
	case "for ever":
		fmt.Fprintln(stdout, os.Getpid())
		for n := 0; ; n++ {
		}
	case "print for ever":
		for {
			fmt.Fprintln(stdout, os.Getpid())
		}
	case "hold":
		kept = append(kept, bytes.Repeat([]byte{1}, maxHeld+1))
		return value("%d", os.Getpid())
	case "open":
		_, fileErr := os.Open("/etc/hostname")
		_, socketErr := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		return value("%q", fmt.Sprint(fileErr, ", ", socketErr))
	case "surroundings":
		dir, _ := os.Getwd()
		groups, _ := os.Getgroups()
		return value("%q", fmt.Sprint(os.Getuid(), os.Getgid(), groups, os.Environ(), dir, syscall.Getpgrp() == os.Getpid()))
	case "nothing useful":
		return tasks.Outcome{Code: tasks.Failed, Text: strings.Repeat("é", maxTextBytes)}
	}
	return tasks.Outcome{Code: tasks.BadInput, Text: "unknown"}
}

var kept [][]byte

// liar is a child that has become somebody else's: it answers with the source of
// the script as it is, but for a first word.
func liar() int {
	in := bufio.NewReader(os.Stdin)
	if _, err := readSetup(in); err != nil {
		return 1
	}
	os.Stdout.Write(endFrame(beginFrame(nil, frameReady)))
	for {
		_, n, err := readHeader(in)
		if err != nil {
			return 0
		}
		b := make([]byte, n)
		io.ReadFull(in, b)
		_, s, _ := parseCall(b)
		word, rest, _ := strings.Cut(s.Source, " ")
		switch word {
		case "says":
			os.Stdout.WriteString(rest)
		case "dies":
			os.Stderr.WriteString(rest)
			return 2
		case "grows":
			kept = append(kept, bytes.Repeat([]byte{1}, 64<<20))
			os.Stderr.WriteString(rest)
			return 2
		}
	}
}

// doomedAgent has a child do something that never ends, in a process that the
// test kills.
func doomedAgent() int {
	source, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return 1
	}
	p, err := New(Config{Helper: "worker", Setup: testSetup})
	if err != nil {
		return 1
	}
	p.Call(context.Background(), &tasks.Attempt{Stdout: os.Stdout}, &Script{Source: strings.TrimSpace(source)})
	return 0
}

var testSetup = Setup{MemoryBytes: 1 << 30, CachedPrograms: 10, CachedBytes: 1 << 20}

func newPool(t testing.TB, cfg Config) *Pool {
	t.Helper()
	if cfg.Setup == (Setup{}) {
		cfg.Setup = testSetup
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func newWorkers(t testing.TB) *Pool { return newPool(t, Config{Helper: "worker"}) }

// value calls what must succeed.
func value(t testing.TB, p *Pool, source string) string {
	t.Helper()
	var stderr bytes.Buffer
	out := p.Call(t.Context(), &tasks.Attempt{Stderr: &stderr}, &Script{Source: source})
	if out.Code != tasks.OK {
		t.Fatalf("%s: %v %q, standard error:\n%s", source, out.Code, out.Text, stderr.String())
	}
	return string(out.Value)
}

// await waits until something is so.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

// isGone reports whether there is no process of that number.
func isGone(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH }
