//go:build linux

package hook_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/agent/hook"
	"github.com/scagent/scagent/tasks"
)

// environment is what a command wrote with env -0.
func (f *fixture) environment(name string) map[string]string {
	env := map[string]string{}
	for e := range strings.SplitSeq(strings.TrimSuffix(f.read(name), "\x00"), "\x00") {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	return env
}

// own are those of the variables that are scagent's, but for the mark.
func own(env map[string]string) map[string]string {
	env = maps.Clone(env)
	maps.DeleteFunc(env, func(k, _ string) bool { return !strings.HasPrefix(k, "SCAGENT_") || k == "SCAGENT_HOOK_RUN" })
	return env
}

func TestACommandGetsItsEvent(t *testing.T) {
	at := api.Time{Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
	nasty := "a\nb\"c'd `touch bad` $(touch bad); touch bad #\x00\\"
	cleaned := strings.ReplaceAll(nasty, "\x00", "")
	data, err := bus.Pack(map[string]any{"text": "$(touch bad)"})
	if err != nil {
		t.Fatal(err)
	}
	large, err := bus.Pack(strings.Repeat("x", 4<<10))
	if err != nil {
		t.Fatal(err)
	}
	ids, err := tasks.NewIDs("abcdefgh")
	if err != nil {
		t.Fatal(err)
	}
	task, run := ids.Next(), ids.Next()
	common := func(name string, more map[string]string) map[string]string {
		env := map[string]string{"SCAGENT_EVENT": name, "SCAGENT_EVENT_SEQ": "1", "SCAGENT_EVENT_TIME": "2026-01-02T03:04:05.000000006Z", "SCAGENT_NODE": "n1"}
		maps.Copy(env, more)
		return env
	}
	for _, c := range []struct {
		name  string
		event api.Event
		env   map[string]string
	}{
		{"of a member", api.Event{Event: "workerAvailable", Member: &api.Member{Name: nasty, ID: "abc", Addr: "fe80::1", Port: 44201, Status: "alive", Roles: []string{"worker", "master"}}},
			common("workerAvailable", map[string]string{"SCAGENT_MEMBER_NAME": cleaned, "SCAGENT_MEMBER_ID": "abc", "SCAGENT_MEMBER_ADDR": "[fe80::1]:44201",
				"SCAGENT_MEMBER_STATUS": "alive", "SCAGENT_MEMBER_ROLES": "worker,master"})},
		{"of a task", api.Event{Event: "task", Task: &api.TaskStatus{ID: task, Run: run, State: tasks.StateDone, Worker: nasty, Kind: tasks.Command}},
			common("task", map[string]string{"SCAGENT_TASK_ID": task.String(), "SCAGENT_TASK_RUN_ID": run.String(), "SCAGENT_TASK_STATE": "done",
				"SCAGENT_TASK_WORKER": cleaned, "SCAGENT_TASK_KIND": "command"})},
		{"of the bus", api.Event{Event: "build.done", From: nasty, FromID: "f00", Lamport: 42, Data: &data},
			common("build.done", map[string]string{"SCAGENT_EVENT_FROM": cleaned, "SCAGENT_EVENT_FROM_ID": "f00", "SCAGENT_EVENT_LAMPORT": "42",
				"SCAGENT_EVENT_DATA": `{"text":"$(touch bad)"}`})},
		{"of the bus with much data", api.Event{Event: "build.done", From: "n2", FromID: "f00", Lamport: 42, Data: &large},
			common("build.done", map[string]string{"SCAGENT_EVENT_FROM": "n2", "SCAGENT_EVENT_FROM_ID": "f00", "SCAGENT_EVENT_LAMPORT": "42"})},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := start(t, func(cfg *hook.Config) {
				cfg.Environ = append(cfg.Environ, "HOME=/home/x", "SCAGENT_SECRET_FILE=/x", "SCAGENT_TASK_ID=outer", "SCAGENT_EVENT_REQUEST=1")
				cfg.Env = []string{"SCAGENT_NODE=n1"}
			}, `**=cat >in; env -0 >env; echo "$SCAGENT_EVENT_FROM$SCAGENT_MEMBER_NAME" >/dev/null; echo done`)
			c.event.Time = at
			f.emit(c.event)
			f.awaitLog(`text="done"`, 1)
			env := f.environment("env")
			if env["HOME"] != "/home/x" {
				t.Errorf("HOME is %q, want the agent's", env["HOME"])
			}
			if got := own(env); !maps.Equal(got, c.env) {
				t.Errorf("the environment has\n%q, want\n%q", got, c.env)
			}
			want := c.event
			want.Seq = 1
			line, err := json.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			if in := f.read("in"); in != string(line)+"\n" {
				t.Errorf("standard input is %q, want %q", in, line)
			}
			if f.exists("bad") {
				t.Error("what a node had sent was run by the shell")
			}
			if f.read("in") == "" || strings.Count(f.read("in"), "\n") != 1 {
				t.Error("standard input is not one line")
			}
		})
	}
}

func TestOnlyWhatMatchesRuns(t *testing.T) {
	f := start(t, nil, `build.*=echo 1 $SCAGENT_EVENT`, `**=echo 2 $SCAGENT_EVENT`)
	for _, name := range []string{"build", "build.done", "build.a.b", "last"} {
		f.emit(api.Event{Event: name})
	}
	f.awaitLog(`text="2 last"`, 1)
	f.awaitLog(`text="1 build.done"`, 1)
	f.Close()
	f.wantCount(`text="1 `, 1)
	f.wantCount(`text="2 `, 4)
}

func TestAHookRunsItsEventsOneAfterTheOtherInOrder(t *testing.T) {
	const n = 40
	f := start(t, nil, `a=mkdir running || echo overlap; echo $SCAGENT_EVENT_SEQ >>seen; rmdir running; echo done`)
	var want strings.Builder
	for i := range n {
		f.emit(api.Event{Event: "a"})
		fmt.Fprintln(&want, i+1)
	}
	f.awaitLog(`text="done"`, n)
	if got := f.read("seen"); got != want.String() {
		t.Errorf("the command ran for %q, want %q", got, want.String())
	}
	f.wantCount(`text="overlap"`, 0)
}

func TestOnlySoManyRunAtOnce(t *testing.T) {
	line := `a=echo + >>seen; until [ $(grep -c + seen) -ge 2 ]; do sleep 0.01; done; sleep 0.2; echo - >>seen; echo done`
	f := start(t, func(cfg *hook.Config) { cfg.MaxRunning = 2 }, line, line, line, line, line)
	f.emit(api.Event{Event: "a"})
	f.awaitLog(`text="done"`, 5)
	at, most := 0, 0
	for _, c := range strings.Fields(f.read("seen")) {
		if c == "+" {
			at++
		} else {
			at--
		}
		most = max(most, at)
	}
	if most != 2 {
		t.Errorf("%d commands ran at once, want 2", most)
	}
}

func TestACommandThatHangsIsStoppedAndSaidOnce(t *testing.T) {
	t.Parallel() // the timeout is long, so that a busy machine is fast enough
	m := marker()
	f := start(t, func(cfg *hook.Config) { cfg.Timeout = 2 * time.Second }, `a=(setsid sleep `+m+` &) ; sleep `+m+` & echo up; exec sleep `+m)
	f.emit(api.Event{Event: "a"})
	f.emit(api.Event{Event: "a"})
	f.await("two timeouts", func() bool { return f.Stats().TimedOut == 2 })
	if n := processes(m); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	f.wantCount("[WARN] hook: the command failed", 1)
	f.wantCount("it had not ended after", 1)
	if n := f.count(`text="up"`); n > 1 { // none: a busy machine had not come so far
		t.Errorf("what it writes was logged %d times, want of the second run nothing", n)
	}
}

// A hook that does not end until it is stopped holds up its own events alone.
func TestAHookThatDoesNotEndHoldsNobodyUp(t *testing.T) {
	for name, line := range map[string]string{"hangs": "exec sleep 300", "floods": "exec yes flood", "loops": "while :; do sleep 0.01; done"} {
		t.Run(name, func(t *testing.T) {
			f := start(t, func(cfg *hook.Config) { cfg.Timeout = time.Hour }, "a="+line, `**=echo other $SCAGENT_EVENT_SEQ`)
			for range 10 {
				f.emit(api.Event{Event: "a"})
			}
			f.awaitLog(`text="other 10"`, 1)
			f.await("the first run", func() bool { return f.Stats().Runs >= 11 })
			if s := f.Stats(); s.Runs != 11 || s.TimedOut != 0 {
				t.Errorf("Stats = %+v, want that the first run has not ended when the other hook has run 10 times", s)
			}
		})
	}
}

func TestACommandThatIgnoresSIGTERMIsKilled(t *testing.T) {
	t.Parallel() // as above
	m := marker()
	f := start(t, func(cfg *hook.Config) { cfg.Timeout, cfg.Grace = 2*time.Second, 200*time.Millisecond },
		`a=trap '' TERM; while :; do sleep `+m+`; done`)
	f.emit(api.Event{Event: "a"})
	f.await("the timeout", func() bool { return f.Stats().TimedOut == 1 })
	if n := processes(m); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

func TestACommandIsAskedToEndBeforeItIsKilled(t *testing.T) {
	f := start(t, func(cfg *hook.Config) { cfg.Grace = patience }, `a=trap 'echo asked; exit' TERM; echo up; sleep `+marker()+` & wait`)
	f.emit(api.Event{Event: "a"})
	f.awaitLog(`text="up"`, 1)
	f.Close()
	f.wantCount(`text="asked"`, 1)
}

func TestAMissingCommandIsSaidOnceUntilItSucceeds(t *testing.T) {
	f := start(t, nil, `a=./nope`)
	for range 3 {
		f.emit(api.Event{Event: "a"})
	}
	f.await("three failures", func() bool { return f.Stats().Failed == 3 })
	f.wantCount("[WARN]", 1)
	f.wantCount(`err="exit status 127"`, 1)
	f.wantCount("stream=stderr", 1) // what the shell says, once too
	if err := os.WriteFile(filepath.Join(f.dir, "nope"), []byte("#!/bin/sh\necho here\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	f.emit(api.Event{Event: "a"})
	f.awaitLog(`text="here"`, 1) // the output that was held back
	f.await("the end of the run", func() bool { return f.count("[DEBUG] hook: done") == 1 })
	if err := os.Remove(filepath.Join(f.dir, "nope")); err != nil {
		t.Fatal(err)
	}
	f.emit(api.Event{Event: "a"})
	f.await("another failure", func() bool { return f.Stats().Failed == 4 })
	f.awaitLog(`err="exit status 127"`, 2)
	f.wantCount("[WARN]", 2)
}

func TestEachReasonIsSaid(t *testing.T) {
	f := start(t, nil, `**=echo why >&2; exit 7`)
	f.emit(api.Event{Event: "a"})
	f.emit(api.Event{Event: "bad", Member: &api.Member{Data: json.RawMessage("{")}})
	f.emit(api.Event{Event: "a"})
	f.await("three failures", func() bool { return f.Stats().Failed == 3 })
	f.wantCount("[WARN]", 2)
	f.wantCount(`err="exit status 7" stderr="why"`, 1)
	f.wantCount("cannot be written as JSON", 1)
}

func TestACommandThatCannotBeStartedIsSaid(t *testing.T) {
	f := start(t, func(cfg *hook.Config) { cfg.Dir = "/nonexistent" }, `a=true`)
	f.emit(api.Event{Event: "a"})
	f.emit(api.Event{Event: "a"})
	f.await("two failures", func() bool { return f.Stats().Failed == 2 })
	f.wantCount("there is no such directory here", 1)
}

func TestAHookThatFailsEveryOtherTimeDoesNotFillTheLog(t *testing.T) {
	f := start(t, nil, `a=test $((SCAGENT_EVENT_SEQ % 2)) = 0`)
	begin := time.Now()
	for range 60 {
		f.emit(api.Event{Event: "a"})
	}
	f.await("the last run", func() bool { return f.count("[DEBUG] hook: done") == 30 })
	took := time.Since(begin)
	if n := f.count("[WARN]"); n < 10 || n > 11+int(took/(10*time.Second)) {
		t.Errorf("%d warnings of 30 failures in %v, want 10, and one each 10 s", n, took)
	}
}

func TestAFloodHarmsNothing(t *testing.T) {
	const size = 32 << 20 // yes can write gigabytes a second
	f := start(t, nil, fmt.Sprintf(`a=yes flood | head -c %d`, size))
	begin := time.Now()
	f.emit(api.Event{Event: "a"})
	f.emit(api.Event{Event: "a"})
	f.await("two runs", func() bool { return f.count("[DEBUG] hook: done") == 2 })
	took := time.Since(begin)
	if took < 1800*time.Millisecond {
		t.Errorf("two times %d bytes were read within %v, want of each 16 MiB at once, and as many a second", size, took)
	}
	if s := f.Stats(); s.Failed != 0 || s.Dropped != 2*(size-64<<10) {
		t.Errorf("Stats = %+v, want that all but 64 KiB of each was dropped", s)
	}
	f.wantCount("[WARN] hook: the command writes too much", 1)
	f.wantCount("[WARN]", 1)
	if n := f.count("text=\"flood\""); n < 1000 || n > 1001+10*int(took/time.Second+1) {
		t.Errorf("%d lines were logged, want 1000 and 10 a second", n)
	}
}

func TestWhatIsDroppedIsReadAndCounted(t *testing.T) {
	f := start(t, nil, `a=head -c 1000000 /dev/zero | tr '\0' x; echo >&2 err; touch whole`)
	f.emit(api.Event{Event: "a"})
	f.awaitLog("dropped_bytes=934468", 1) // 1,000,004 - 64 KiB
	if !f.exists("whole") || f.Stats().Failed != 0 || f.Stats().Dropped != 934468 {
		t.Errorf("the command has not ended well: %+v", f.Stats())
	}
	f.wantCount(`text="`+strings.Repeat("x", 1024)+`"`, 64)
	f.emit(api.Event{Event: "a"})
	f.await("the second run", func() bool { return f.Stats().Dropped == 2*934468 })
	f.wantCount("[WARN]", 1)
}

func TestLinesOfTheLogAreBounded(t *testing.T) {
	f := start(t, nil, `a=seq 2000`)
	f.emit(api.Event{Event: "a"})
	f.awaitLog("[WARN] hook: the command writes too much", 1)
	if n := f.count("stream=stdout"); n < 1000 || n > 1000+10*int(patience.Seconds()) {
		t.Errorf("%d lines were logged, want 1000 and a few", n)
	}
	f.wantCount("dropped_bytes=0 dropped_lines=", 1)
}

func TestOutputIsLoggedLineByLineAndClean(t *testing.T) {
	f := start(t, nil, `a=printf 'one\r\n\n\033[31mred\007\n\377\nlast'; printf 'bad\n' >&2`)
	f.emit(api.Event{Event: "a"})
	f.awaitLog("[DEBUG] hook: done", 1)
	name := `hook="a=printf 'one\\r\\n\\n\\033[31mred\\007\\n\\377\\nlast'; printf 'bad…" event="a" `
	for _, line := range []string{`stream=stdout text="one"`, `stream=stdout text="\x1b[31mred\a"`, `stream=stdout text="\xff"`, `stream=stdout text="last"`, `stream=stderr text="bad"`} {
		f.wantCount("[INFO] hook: output: "+name+line+"\n", 1)
	}
	f.wantCount("[INFO]", 5)
	for _, r := range f.log.String() {
		if r < ' ' && r != '\n' {
			t.Fatalf("the log has %q", r)
		}
	}
}

func TestWhatACommandLeavesRunningEndsWithIt(t *testing.T) {
	t.Parallel() // a process that holds the output open is given two seconds
	m := marker()
	f := start(t, nil, `a=sleep `+m+` & (setsid sleep `+m+` >/dev/null 2>&1 &); setsid sleep `+m+` & echo up`)
	f.emit(api.Event{Event: "a"})
	f.awaitLog("[DEBUG] hook: done", 1)
	f.wantCount(`text="up"`, 1)
	if n := processes(m); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

func TestACommandNeedNotReadItsInput(t *testing.T) {
	data, err := bus.FromJSON([]byte(`"` + strings.Repeat("x", 1<<20-2) + `"`))
	if err != nil {
		t.Fatal(err)
	}
	for name, line := range map[string]string{"ends": "true", "closes it": "exec <&-; exit 0", "reads some": "head -c 10 >/dev/null", "waits": "sleep 0.1"} {
		t.Run(name, func(t *testing.T) {
			f := start(t, nil, "a="+line, "a=wc -c")
			f.emit(api.Event{Event: "a", Data: &data})
			f.awaitLog("[DEBUG] hook: done", 2)
			f.wantCount("[WARN]", 0)
			if n := f.count(`text="104`); n != 1 { // 1,048,576 and the rest of the event
				t.Errorf("the one that reads has not got all:\n%s", f.log.String())
			}
		})
	}
}

func TestLostEventsAreCountedAndSaid(t *testing.T) {
	f := start(t, nil, `a=true`, `**=echo $SCAGENT_EVENT; cat`)
	f.emit(api.Event{Event: api.EventMissed, Missed: 7})
	f.emit(api.Event{Event: api.EventMissed})
	f.emit(api.Event{Event: "a"})
	f.awaitLog("[DEBUG] hook: done", 4)
	if n := f.Stats().Missed; n != 16 {
		t.Errorf("%d events were missed, want 7 and one of which the number is not known, for each of two hooks", n)
	}
	f.wantCount(`[WARN] hook: events came faster than the command runs, and the oldest were lost: hook="a=true" missed=7`, 1)
	f.wantCount(`text="missed"`, 2) // whose pattern matches it runs for it too
}

func TestAnEventThatIsNotJSONIsSaidOnce(t *testing.T) {
	f := start(t, nil, `a=touch ran`)
	bad := api.Event{Event: "a", Member: &api.Member{Data: json.RawMessage("{")}}
	f.emit(bad)
	f.emit(bad)
	f.await("two failures", func() bool { return f.Stats().Failed == 2 })
	f.wantCount("cannot be written as JSON", 1)
	if f.exists("ran") {
		t.Error("the command ran without its event")
	}
}

func TestCloseEndsWhatRuns(t *testing.T) {
	m := marker()
	f := start(t, func(cfg *hook.Config) { cfg.Grace = 100 * time.Millisecond },
		`a=trap '' TERM; (setsid sleep `+m+` &) ; sleep `+m+` & echo up; while :; do sleep `+m+`; done`, `a=echo up; exec sleep `+m)
	f.emit(api.Event{Event: "a"})
	f.emit(api.Event{Event: "a"})
	f.awaitLog(`text="up"`, 2)
	begin := time.Now()
	f.Close()
	if took := time.Since(begin); took > patience {
		t.Errorf("Close took %v", took)
	}
	if n := processes(m); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	if s := f.Stats(); s.Runs != 2 || s.Failed != 0 {
		t.Errorf("Stats = %+v, want that two ran, and that to be closed is no failure", s)
	}
	f.wantCount("[WARN]", 0)
	f.Close()
	f.Start() // does nothing any more
}

func TestTheEndOfTheFeedIsTheEnd(t *testing.T) {
	f := start(t, nil, `a=true`)
	close(f.queues[0])
	f.Close()
	if f.log.String() != "" {
		t.Errorf("it logged %q", f.log.String())
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	good := start(t, nil)
	for _, c := range []struct {
		name   string
		change func(*hook.Config)
		want   string
	}{
		{"a bad pattern", func(c *hook.Config) { c.Hooks = []hook.Hook{{Pattern: "a*", Command: "x"}} }, `hook: "a*=x": not the name of an event`},
		{"no command", func(c *hook.Config) { c.Hooks = []hook.Hook{{Pattern: "a"}} }, "there is no command"},
		{"no timeout", func(c *hook.Config) { c.Timeout = 0 }, "Timeout is 0s and Grace 2s; want both above 0"},
		{"no grace", func(c *hook.Config) { c.Grace = -1 }, "want both above 0"},
		{"nothing may run", func(c *hook.Config) { c.MaxRunning = 0 }, "MaxRunning is 0; want at least 1"},
		{"no mark", func(c *hook.Config) { c.Mark = "" }, "is missing"},
	} {
		cfg := hook.DefaultConfig()
		cfg.Subscribe, cfg.Mark, cfg.Logger = func(bus.Pattern) hook.Source { return make(queue) }, "X=", good.logger()
		c.change(&cfg)
		if _, err := hook.New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: New = %v, want %q", c.name, err, c.want)
		}
	}
}

func TestAnErrorOfTheSourceIsLogged(t *testing.T) {
	f := start(t, func(cfg *hook.Config) {
		cfg.Subscribe = func(bus.Pattern) hook.Source { return broken{} }
	}, `a=true`)
	f.awaitLog(`[ERR] hook: no more events are read: hook="a=true" err="broken"`, 1)
}
