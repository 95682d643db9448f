//go:build linux

package hook_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/agent/hook"
)

// request is an event whose sender waits for a reply.
func request(name string) api.Event {
	return api.Event{Event: name, From: "n2", FromID: "f00", Lamport: 1, Request: true}
}

func TestTheReplyIsWhatACommandWrites(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"JSON", `a=echo '{"n": [1, 2]}'`, `{"n":[1,2]}`},
		{"a number", `a=nproc >/dev/null; echo 3`, `3`},
		{"text", `a=echo up 3 days`, `"up 3 days"`},
		{"lines", `a=printf '1\n2\n\n'`, `"1\n2\n"`},
		{"text of windows", `a=printf 'x y\r\n'`, `"x y"`},
		{"no end of line", `a=printf 'x y'`, `"x y"`},
		{"nothing", `a=true`, `null`},
		{"an empty line", `a=echo`, `null`},
		{"bytes that are no text", `a=printf '\377'`, `"\ufffd"`},
		{"its input", `a=cat | tr -d '\n' | wc -l`, `0`},
		{"that it is one", `a=echo $SCAGENT_EVENT_REQUEST`, `1`},
		{"standard error is none", `a=echo note >&2; echo 1`, `1`},
		{"the largest", `a=printf '"'; head -c 1048574 /dev/zero | tr '\0' x; printf '"'`, `"` + strings.Repeat("x", 1<<20-2) + `"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := start(t, nil, c.line)
			d, ok, err := f.Answer(t.Context(), request("a"))
			if err != nil || !ok {
				t.Fatalf("Answer = %v, %v", ok, err)
			}
			b, err := json.Marshal(d)
			want := c.want
			if json.Valid([]byte(want)) && string(b) != want {
				var got, wanted any
				json.Unmarshal(b, &got)
				json.Unmarshal([]byte(want), &wanted)
				if got == wanted { // written in another way
					return
				}
			}
			if err != nil || string(b) != want {
				t.Errorf("the reply is %.80s, %v, want %.80s", b, err, want)
			}
		})
	}
}

func TestWhatIsNotAnsweredIsAnError(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"exit status", `a=echo partial; echo; echo first >&2; echo second >&2; exit 3`, "the hook failed: exit status 3: first"},
		{"a word that drives terminals", `a=printf '\033[31mred\tand \377\n' >&2; exit 3`, "the hook failed: exit status 3: [31mredand \ufffd"},
		{"no word", `a=exit 3`, "the hook failed: exit status 3"},
		{"missing", `a=exec ./nope`, "the hook failed: exit status 127: "},
		{"a signal", `a=kill -9 $$`, "the hook failed: killed by SIGKILL"},
		{"a flood", `a=exec yes`, "the hook failed: the reply has more than 1048576 bytes"},
		{"too large", `a=head -c 1048577 /dev/zero`, "the hook failed: the reply has more than 1048576 bytes"},
		{"too large once quoted", `a=head -c 1048000 /dev/zero`, "the reply has more than 1048576 bytes once it is JSON"},
		{"too slow", `a=exec sleep 300`, "the hook failed: it had not ended after"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := start(t, func(cfg *hook.Config) {
				if c.name == "too slow" {
					cfg.Timeout = 200 * time.Millisecond
				}
			}, c.line)
			d, ok, err := f.Answer(t.Context(), request("a"))
			if !ok || err == nil || !strings.HasPrefix(err.Error(), c.want) || d.Len() != 0 || strings.Contains(err.Error(), "\n") {
				t.Errorf("Answer = %d bytes, %v, %v; want %q", d.Len(), ok, err, c.want)
			}
		})
	}
}

func TestARequestEndsWithWhoWaits(t *testing.T) {
	m := marker()
	f := start(t, nil, `a=exec sleep `+m)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, ok, err := f.Answer(ctx, request("a")); !ok || err == nil || !strings.Contains(err.Error(), "had not ended") {
		t.Errorf("Answer = %v, %v, want that it took too long", ok, err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	go func() {
		f.await("the second run", func() bool { return processes(m) == 1 })
		cancel()
	}()
	if _, _, err := f.Answer(ctx, request("a")); err == nil {
		t.Error("Answer returned no error though nobody waited")
	}
	if n := processes(m); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	if s := f.Stats(); s.Runs != 2 || s.Failed != 1 || s.TimedOut != 1 {
		t.Errorf("Stats = %+v, want one timeout: that nobody waits is no failure", s)
	}
}

func TestWhichHookAnswers(t *testing.T) {
	f := start(t, nil, `build.*=echo 1 $SCAGENT_EVENT_REQUEST; echo 1 ran >&2`, `**=echo 2 "$SCAGENT_EVENT_REQUEST"; echo 2 ran >&2`, `build.done=echo 3 "$SCAGENT_EVENT_REQUEST"`)
	for name, want := range map[string]string{"build.done": `"1 1"`, "deploy": `"2 1"`} {
		d, ok, err := f.Answer(t.Context(), request(name))
		if b, _ := json.Marshal(d); !ok || err != nil || string(b) != want {
			t.Errorf("the reply to %s is %s, %v, %v, want %s", name, b, ok, err, want)
		}
	}
	// The same request comes as an event: who has answered does not run again.
	f.emit(request("build.done"))
	f.emit(request("deploy"))
	f.emit(api.Event{Event: "build.last"})
	f.emit(api.Event{Event: "last"})
	f.awaitLog(`event="build.last" stream=stderr text="1 ran"`, 1)
	f.awaitLog(`event="last" stream=stderr text="2 ran"`, 1)
	f.awaitLog(`event="build.done" stream=stdout text="3 "`, 1) // no reply, and it is told so
	f.wantCount(`event="build.done" stream=stderr text="1 ran"`, 1)
	f.wantCount(`event="build.done" stream=stderr text="2 ran"`, 1)
	f.wantCount(`event="deploy" stream=stderr text="2 ran"`, 1)
	only := start(t, nil, `a=true`)
	if d, ok, err := only.Answer(t.Context(), request("b")); ok || err != nil || d.Len() != 0 {
		t.Errorf("Answer without a hook for it = %v, %v, want false", ok, err)
	}
}

func TestOneRequestTooManyIsToldSo(t *testing.T) {
	f := start(t, func(cfg *hook.Config) { cfg.MaxRunning = 2 }, `a=echo up >&2; while ! [ -e go ]; do sleep 0.02; done; echo 1`)
	errs := make(chan error)
	for range 2 {
		go func() {
			_, _, err := f.Answer(t.Context(), request("a"))
			errs <- err
		}()
	}
	f.awaitLog(`text="up"`, 2)
	if _, ok, err := f.Answer(t.Context(), request("a")); !ok || !errors.Is(err, bus.ErrBusy) {
		t.Errorf("a third Answer = %v, %v, want ErrBusy", ok, err)
	}
	f.emit(api.Event{Event: "a"}) // events have room of their own
	f.awaitLog(`text="up"`, 3)
	f.touch("go")
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if _, _, err := f.Answer(t.Context(), request("a")); err != nil {
		t.Errorf("Answer when there is room again = %v", err)
	}
	if n := f.Stats().Busy; n != 1 {
		t.Errorf("%d requests were refused, want 1", n)
	}
}

func TestCloseEndsRequests(t *testing.T) {
	m := marker()
	f := start(t, nil, `a=echo up >&2; exec sleep `+m)
	errs := make(chan error)
	go func() {
		_, _, err := f.Answer(t.Context(), request("a"))
		errs <- err
	}()
	f.awaitLog(`text="up"`, 1)
	go f.Close()
	if err := <-errs; err == nil {
		t.Error("Answer returned no error when Close was called")
	}
	f.Close()
	if n := processes(m); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	if n := f.Stats().TimedOut; n != 0 {
		t.Error("Close waited for the timeout")
	}
	if _, ok, err := f.Answer(t.Context(), request("a")); !ok || !errors.Is(err, hook.ErrClosed) {
		t.Errorf("Answer after Close = %v, %v, want ErrClosed", ok, err)
	}
}

func TestAFailedRequestIsLoggedToo(t *testing.T) {
	f := start(t, nil, `a=echo why >&2; exit 3`)
	for range 3 {
		f.Answer(t.Context(), request("a"))
	}
	f.wantCount("[WARN]", 1)
	f.wantCount(`text="why"`, 1)
	f.wantCount(`err="exit status 3" stderr="why"`, 1)
}
