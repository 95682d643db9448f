package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/api/apitest"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/tasks"
)

// run does what argv says: "echo TEXT", "exit", "large" for 1 MiB of output, or
// "hold" until it is stopped.
func run(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
	switch a.Task.Argv[0] {
	case "echo":
		io.WriteString(a.Stdout, strings.Join(a.Task.Argv[1:], " ")+"\n")
	case "exit":
		return tasks.Outcome{Code: tasks.Exit, Exit: 3, Text: "exit status 3"}
	case "large":
		a.Stdout.Write(bytes.Repeat([]byte("0123456789abcde\n"), 1<<20/16))
	case "hold":
		io.WriteString(a.Stdout, "holding\n")
		<-ctx.Done()
		return tasks.Outcome{Code: tasks.Cancelled, Signal: "SIGTERM"}
	}
	return tasks.Outcome{}
}

func command(argv ...string) api.SubmitRequest {
	return api.SubmitRequest{Task: api.TaskSpec{Kind: tasks.Command, Argv: argv}}
}

// inBubble runs a test with a backend and its client, in a bubble.
func inBubble(t *testing.T, test func(t *testing.T, b *apitest.Backend, c *Client)) {
	synctest.Test(t, func(t *testing.T) {
		b := apitest.New(t, run)
		c := ForHandler(api.NewHandler(b, api.Options{}))
		t.Cleanup(c.Close) // before the backend's, which was there first
		test(t, b, c)
	})
}

// ended waits for the tasks of a run.
func ended(t *testing.T, b *apitest.Backend, id tasks.ID) {
	t.Helper()
	r, err := b.Run(id)
	if err == nil {
		_, err = r.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// all reads a stream to its end.
func all(t *testing.T, s *Stream) (types []string, stdout string, results []*api.TaskStatus) {
	t.Helper()
	for {
		e, err := s.Next()
		if err == io.EOF {
			return types, stdout, results
		}
		if err != nil {
			t.Fatalf("after %v: %v", types, err)
		}
		types = append(types, e.Type)
		if e.Stream == "stdout" {
			stdout += string(e.DataBase64)
		}
		if e.Result != nil {
			results = append(results, e.Result)
		}
	}
}

func TestSubmitFollow(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		s, err := c.SubmitFollow(t.Context(), command("echo", "hello"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		sub := s.Submitted()
		types, out, results := all(t, s)
		if fmt.Sprint(types) != "[started output result]" || out != "hello\n" || len(results) != 1 {
			t.Fatalf("stream = %v, %q, %v", types, out, results)
		}
		r := results[0]
		if r.ID != sub.Tasks[0].ID || r.Run != sub.Run || r.State != tasks.StateDone || *r.Stdout != "hello\n" || sub.Several {
			t.Errorf("result = %+v of %+v", r, sub)
		}
	})
}

func TestFollowSeveral(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		req := command("large")
		req.Target = tasks.All()
		s, err := c.SubmitFollow(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		_, out, results := all(t, s)
		if len(out) != 2<<20 || len(results) != 2 || !s.Submitted().Several {
			t.Errorf("%d bytes and %d results, want every byte of two", len(out), len(results))
		}
		again, err := c.FollowRun(t.Context(), s.Submitted().Run)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		types, out, results := all(t, again)
		if len(out) != 2<<20 || len(results) != 2 || again.Submitted().Run != s.Submitted().Run || !again.Submitted().Several {
			t.Errorf("the ended run gave %v, %d bytes", types, len(out))
		}
		one, err := c.FollowRun(t.Context(), s.Submitted().Tasks[1].ID)
		if err != nil {
			t.Fatal(err)
		}
		defer one.Close()
		if _, out, results := all(t, one); len(out) != 1<<20 || len(results) != 1 || len(one.Submitted().Tasks) != 1 || !one.Submitted().Several {
			t.Errorf("one of its tasks gave %d bytes and %d results", len(out), len(results))
		}
	})
}

func TestTaskGoesOnWhenItsFollowerIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		ctx, cancel := context.WithCancelCause(t.Context())
		s, err := c.SubmitFollow(ctx, command("hold"))
		if err != nil {
			t.Fatal(err)
		}
		id := s.Submitted().Tasks[0].ID
		for out := ""; out == ""; {
			e, err := s.Next()
			if err != nil {
				t.Fatal(err)
			}
			out = string(e.DataBase64)
		}
		gone := errors.New("the user is gone")
		cancel(gone)
		if _, err := s.Next(); err != gone {
			t.Errorf("Next = %v, want the cause of the context", err)
		}
		s.Close()
		synctest.Wait()
		st, err := c.Task(t.Context(), id)
		if err != nil || st.State != tasks.StateRunning {
			t.Fatalf("task = %+v, %v; want it running", st, err)
		}
		out, err := c.Output(t.Context(), id, "stdout", false)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(out); err != nil || string(b) != "holding\n" {
			t.Errorf("output = %q, %v", b, err)
		}
		out.Close()
		if n, err := c.Cancel(t.Context(), s.Submitted().Run, tasks.StopKill); err != nil || n != 1 {
			t.Errorf("Cancel = %d, %v; want 1", n, err)
		}
		ended(t, b, s.Submitted().Run)
		if st, err := c.Task(t.Context(), id); err != nil || st.State != tasks.StateCancelled || st.Signal != "SIGTERM" {
			t.Errorf("task = %+v, %v; want it cancelled", st, err)
		}
	})
}

func TestFollowedOutputEndsWithTheTask(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		sub, err := c.Submit(t.Context(), command("hold"))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		out, err := c.Output(t.Context(), sub.Tasks[0].ID, "stdout", true)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		buf := make([]byte, len("holding\n"))
		if _, err := io.ReadFull(out, buf); err != nil || string(buf) != "holding\n" {
			t.Fatalf("output = %q, %v", buf, err)
		}
		if _, err := c.Cancel(t.Context(), sub.Run, tasks.StopCancel); err != nil {
			t.Fatal(err)
		}
		if n, err := out.Read(buf); err != io.EOF {
			t.Errorf("after the task: %q, %v; want the end", buf[:n], err)
		}
	})
}

// What a slow follower has not read holds up its task, and no other.
func TestSlowFollowerSlowsItsTaskAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		slow, err := c.SubmitFollow(t.Context(), command("large"))
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close()
		time.Sleep(time.Minute)
		if st, err := c.Task(t.Context(), slow.Submitted().Tasks[0].ID); err != nil || st.State != tasks.StateRunning {
			t.Fatalf("the task whose output nobody reads is %+v, %v; want it to wait", st, err)
		}
		other, err := c.SubmitFollow(t.Context(), command("echo", "x"))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if _, out, _ := all(t, other); out != "x\n" {
			t.Errorf("another task gave %q", out)
		}
		if _, out, _ := all(t, slow); len(out) != 1<<20 {
			t.Errorf("the slow follower got %d bytes, want them all", len(out))
		}
	})
}

func TestRunsAndTasks(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		req := command("exit")
		req.Target = tasks.All()
		sub, err := c.Submit(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		ended(t, b, sub.Run)
		rs, err := c.RunTasks(t.Context(), sub.Run)
		if err != nil || !rs.Several || len(rs.Tasks) != 2 || rs.Tasks[1].ExitCode != 3 || rs.Run != sub.Run {
			t.Errorf("RunTasks(run) = %+v, %v", rs, err)
		}
		id := sub.Tasks[0].ID
		if rs, err = c.RunTasks(t.Context(), id); err != nil || len(rs.Tasks) != 1 || rs.Tasks[0].ID != id || rs.Run != sub.Run {
			t.Errorf("RunTasks(task) = %+v, %v", rs, err)
		}
		if st, err := c.Task(t.Context(), id); err != nil || st.ID != id || st.Reason != tasks.Exit {
			t.Errorf("Task = %+v, %v", st, err)
		}
		if _, err := c.Task(t.Context(), sub.Run); !errors.Is(err, tasks.ErrUnknown) || !strings.Contains(err.Error(), "a run of 2 tasks") {
			t.Errorf("Task(run) = %v", err)
		}
		list, err := c.Tasks(t.Context(), Filter{States: []tasks.State{tasks.StateFailed, tasks.StateLost}, After: id, Limit: 5})
		if err != nil || len(list) != 1 || list[0].ID != sub.Tasks[1].ID {
			t.Errorf("Tasks = %+v, %v; want the second", list, err)
		}
		if list, err = c.Tasks(t.Context(), Filter{}); err != nil || len(list) != 2 {
			t.Errorf("Tasks = %+v, %v; want both", list, err)
		}
		d, err := c.DryRun(t.Context(), command("x"))
		if err != nil || len(d.Workers) != 2 || !d.Workers[0].Takes {
			t.Errorf("DryRun = %+v, %v", d, err)
		}
	})
}

func TestErrorsCarryTheirCode(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		req := command("x")
		req.Target = tasks.On("nobody")
		none := 0.0
		req.Options.WaitWorkersSeconds = &none
		for name, f := range map[string]func() error{
			"Submit":       func() error { _, err := c.Submit(t.Context(), req); return err },
			"SubmitFollow": func() error { _, err := c.SubmitFollow(t.Context(), req); return err },
		} {
			err := f()
			var e *api.Error
			if !errors.As(err, &e) || e.Code != api.CodeNoMatch || e.Status != 409 || !errors.Is(err, tasks.ErrNoMatch) || !strings.Contains(err.Error(), "nobody") {
				t.Errorf("%s = %v; want no_match", name, err)
			}
		}
		if _, err := c.FollowRun(t.Context(), tasks.ID{1}); !errors.Is(err, tasks.ErrUnknown) {
			t.Errorf("FollowRun = %v, want ErrUnknown", err)
		}
		if _, err := c.Cancel(t.Context(), tasks.ID{1}, tasks.StopCancel); !errors.Is(err, tasks.ErrUnknown) {
			t.Errorf("Cancel = %v, want ErrUnknown", err)
		}
		if _, err := c.Output(t.Context(), tasks.ID{1}, "stdout", true); !errors.Is(err, tasks.ErrUnknown) {
			t.Errorf("Output = %v, want ErrUnknown", err)
		}
	})
}

func TestAgentCalls(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		ctx := t.Context()
		if i, err := c.Info(ctx); err != nil || i.Name != "m" {
			t.Errorf("Info = %+v, %v", i, err)
		}
		if ms, err := c.Members(ctx); err != nil || len(ms) != 1 {
			t.Errorf("Members = %+v, %v", ms, err)
		}
		if err := c.SetAvailable(ctx, false); err != nil || b.Available() {
			t.Errorf("SetAvailable(false) = %v", err)
		}
		if err := c.SetData(ctx, json.RawMessage(`{"N":9007199254740993}`)); err != nil || string(b.Data()) != `{"N":9007199254740993}` {
			t.Errorf("SetData = %v; data is %s", err, b.Data())
		}
		if n, err := c.Join(ctx, "a", "b"); err != nil || n != 2 || len(b.Joined()) != 2 {
			t.Errorf("Join = %d, %v", n, err)
		}
		if err := c.Leave(ctx); err != nil || !b.Left() {
			t.Errorf("Leave = %v", err)
		}
		hash, size, err := c.PutBlob(ctx, io.MultiReader(strings.NewReader("con"), strings.NewReader("tent")))
		if err != nil || size != 7 {
			t.Fatalf("PutBlob = %s, %d, %v", hash, size, err)
		}
		r, err := c.GetBlob(ctx, hash)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if b, err := io.ReadAll(r); err != nil || string(b) != "content" {
			t.Errorf("GetBlob = %q, %v", b, err)
		}
	})
}

// closer is a reader that notes that it was closed.
type closer struct {
	io.Reader
	closed bool
}

func (c *closer) Close() error { c.closed = true; return nil }

func TestPutBlobLeavesItsReaderOpen(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		in := &closer{Reader: strings.NewReader("x")}
		if _, _, err := c.PutBlob(t.Context(), in); err != nil || in.closed {
			t.Errorf("PutBlob = %v, closed its reader: %v", err, in.closed)
		}
		broken := errors.New("the disk is broken")
		if _, _, err := c.PutBlob(t.Context(), io.MultiReader(strings.NewReader("x"), brokenReader{broken})); !errors.Is(err, broken) || !strings.Contains(err.Error(), broken.Error()) {
			t.Errorf("PutBlob = %v, want the reader's error", err)
		}
		synctest.Wait()
		if s := b.Store.Stats(); s.Blobs != 1 {
			t.Errorf("%d blobs, want none of the content that did not arrive whole", s.Blobs)
		}
	})
}

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }

func TestEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		b.Feed().Append(api.Event{Event: "old"})
		s, err := c.Events(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		time.AfterFunc(time.Hour, func() { // it is kept alive meanwhile
			b.Feed().Append(api.Event{Event: "workerAvailable", Member: &api.Member{Name: "two\nlines", Data: json.RawMessage("{\n}")}})
		})
		e, err := s.Next()
		if err != nil || e.Event != "workerAvailable" || e.Member == nil || e.Member.Name != "two\nlines" || string(e.Member.Data) != "{}" {
			t.Fatalf("event = %+v, %v", e, err)
		}
		first := e.Seq
		if _, err := c.Submit(t.Context(), command("echo")); err != nil {
			t.Fatal(err)
		}
		var states []tasks.State
		for len(states) == 0 || !states[len(states)-1].Final() {
			if e, err = s.Next(); err != nil || e.Event != "task" {
				t.Fatalf("event = %+v, %v; want the task's", e, err)
			}
			states = append(states, e.Task.State)
		}
		if fmt.Sprint(states) != "[queued running done]" {
			t.Errorf("the task went through %v", states)
		}
		again, err := c.Events(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if e, err := again.Next(); err != nil || e.Seq != first+1 {
			t.Errorf("resumed at %+v, %v; want number %d", e, err, first+1)
		}
		b.Feed().Close()
		if _, err := s.Next(); err != io.EOF {
			t.Errorf("Next after the agent's end = %v, want EOF", err)
		}
	})
}

func TestSlowWatcherIsDisconnected(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		s, err := c.Events(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		synctest.Wait()
		start := b.Feed().Last()
		for range 3 * api.FeedEvents {
			b.Feed().Append(api.Event{Event: "x"})
		}
		time.Sleep(time.Hour) // it does not read, and is given up
		seen := start
		for {
			e, err := s.Next()
			if err != nil {
				break
			}
			seen = e.Seq
		}
		if seen >= b.Feed().Last() {
			t.Fatal("all events arrived; want that the agent hung up")
		}
		again, err := c.Events(t.Context(), max(seen, 1))
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if e, err := again.Next(); err != nil || e.Event != api.EventMissed {
			t.Errorf("after coming back: %+v, %v; want to be told that events were missed", e, err)
		}
	})
}

func TestWatchersAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		var open []*EventStream
		var err error
		for len(open) < 1000 {
			var s *EventStream
			if s, err = c.Events(t.Context(), 0); err != nil {
				break
			}
			open = append(open, s)
		}
		var e *api.Error
		if !errors.As(err, &e) || e.Code != api.CodeTooMany || len(open) < 16 {
			t.Errorf("after %d watchers: %v; want too_many", len(open), err)
		}
		for _, s := range open {
			s.Close()
		}
		synctest.Wait()
		s, err := c.Events(t.Context(), 0)
		if err != nil {
			t.Fatalf("after they left: %v", err)
		}
		s.Close()
	})
}

func TestEventsAreFiltered(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		s, err := c.Events(t.Context(), 0, "chat.*", "build.**")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		synctest.Wait()
		// What takes the most room in JSON: it arrives all the same.
		worst, err := bus.Pack(strings.Repeat("\x01", api.MaxEventDataBytes-100))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []api.Event{{Event: "task"}, {Event: "chat.hi", From: "n1"}, {Event: "chat"}, {Event: "build.a.b", Data: &worst}} {
			b.Feed().Append(e)
		}
		for _, want := range []api.Event{{Event: "chat.hi", From: "n1"}, {Event: "build.a.b", Data: &worst}} {
			e, err := s.Next()
			if err != nil || e.Event != want.Event || e.From != want.From || (e.Data == nil) != (want.Data == nil) {
				t.Fatalf("Next = %s from %q, %v; want %s from %q", e.Event, e.From, err, want.Event, want.From)
			}
			var got, sent string
			if e.Data != nil && (e.Data.Decode(&got) != nil || want.Data.Decode(&sent) != nil || got != sent) {
				t.Errorf("%s arrived with %d bytes, want %d", e.Event, len(got), len(sent))
			}
		}
		if _, err := c.Events(t.Context(), 0, "a*"); !errors.Is(err, bus.ErrBadName) {
			t.Errorf("Events of a pattern that is none = %v, want ErrBadName", err)
		}
	})
}

// TestSlowWatcherIsTold: who reads slowly, but reads, is not cut off.
func TestSlowWatcherIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		s, err := c.Events(t.Context(), 0, "x")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		synctest.Wait()
		const sent = 20 * api.FeedEvents
		for range sent {
			b.Feed().Append(api.Event{Event: "x"})
			b.Feed().Append(api.Event{Event: "other"})
		}
		read, missed := uint64(0), uint64(0)
		for read+missed < sent {
			e, err := s.Next()
			switch {
			case err != nil:
				t.Fatalf("after %d events and %d missed: %v", read, missed, err)
			case e.Event == api.EventMissed:
				missed += e.Missed
			default:
				read++
			}
		}
		if missed < sent/2 || read < api.FeedEvents || read+missed != sent {
			t.Errorf("it read %d and missed %d of %d", read, missed, sent)
		}
	})
}

func TestSendEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		b.OnSend = func(_ context.Context, r api.SendRequest) (api.Sent, error) {
			if r.Target.Where != "" {
				return api.Sent{}, fmt.Errorf("%w: no", tasks.ErrNoMatch)
			}
			return api.Sent{Sent: r.Data.Len(), Failed: []api.Reply{{Name: "n2", Error: "gone"}}}, nil
		}
		data, err := bus.Pack(map[string]int{"a": 1})
		if err != nil {
			t.Fatal(err)
		}
		sent, err := c.SendEvent(t.Context(), api.SendRequest{Event: "x", Data: data, Request: true})
		if want := (api.Sent{Sent: len(`{"a":1}`), Failed: []api.Reply{{Name: "n2", Error: "gone"}}}); err != nil || fmt.Sprint(sent) != fmt.Sprint(want) {
			t.Errorf("SendEvent = %+v, %v; want %+v", sent, err, want)
		}
		markup := json.RawMessage(`"` + strings.Repeat("<&>", 300_000) + `"`)
		if data, err = bus.Pack(markup); err != nil {
			t.Fatal(err)
		}
		if sent, err := c.SendEvent(t.Context(), api.SendRequest{Event: "x", Data: data}); err != nil || sent.Sent != len(markup) {
			t.Errorf("SendEvent of %d bytes of markup = %+v, %v", len(markup), sent, err)
		}
		if _, err := c.SendEvent(t.Context(), api.SendRequest{Event: "x", Target: &tasks.Target{Where: "true"}}); !errors.Is(err, tasks.ErrNoMatch) {
			t.Errorf("SendEvent = %v, want ErrNoMatch", err)
		}
		if _, err := c.SendEvent(t.Context(), api.SendRequest{Event: "missed"}); !errors.Is(err, bus.ErrBadName) {
			t.Errorf("SendEvent = %v, want ErrBadName", err)
		}
	})
}

func TestRequestEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		var stopped error // why the request ended early; nil: it did not
		b.OnRequest = func(ctx context.Context, r api.SendRequest, reply func(api.Reply) error) error {
			stopped = nil
			for i := range 3 {
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
					stopped = context.Cause(ctx)
					return stopped
				}
				if r.Event == "breaks" && i == 2 {
					return errors.New("the agent ends")
				}
				if err := reply(api.Reply{Name: fmt.Sprint("n", i)}); err != nil {
					return err
				}
			}
			return nil
		}
		ask := func(ctx context.Context, event string, most int) (names []string, err error) {
			begin := time.Now()
			for r, err := range c.RequestEvent(ctx, api.SendRequest{Event: event}) {
				if err != nil {
					return names, err
				}
				if names = append(names, r.Name); time.Since(begin) != time.Duration(len(names))*time.Second {
					t.Errorf("reply %d came after %s", len(names), time.Since(begin))
				}
				if len(names) == most {
					break
				}
			}
			return names, nil
		}
		if names, err := ask(t.Context(), "x", 9); err != nil || fmt.Sprint(names) != "[n0 n1 n2]" || stopped != nil {
			t.Errorf("replies are %v, %v; want three", names, err)
		}
		names, err := ask(t.Context(), "x", 1)
		synctest.Wait()
		if err != nil || len(names) != 1 || stopped == nil {
			t.Errorf("who wanted one reply got %v, %v; the request was stopped: %v", names, err, stopped)
		}
		why := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 1500*time.Millisecond, why)
		defer cancel()
		names, err = ask(ctx, "x", 9)
		synctest.Wait()
		if err != why || len(names) != 1 || stopped == nil {
			t.Errorf("who gave up got %v, %v; the request was stopped: %v", names, err, stopped)
		}
		if names, err := ask(t.Context(), "breaks", 9); err == nil || !strings.Contains(err.Error(), "hung up") || len(names) != 2 {
			t.Errorf("of an agent that ends come %v, %v; want two replies and that it hung up", names, err)
		}
		if names, err := ask(t.Context(), "a b", 9); !errors.Is(err, bus.ErrBadName) || len(names) != 0 {
			t.Errorf("replies to an event that is none are %v, %v; want ErrBadName", names, err)
		}
	})
}

// TestRepliesThatNobodyReads are not waited for: the client is given up.
func TestRepliesThatNobodyReads(t *testing.T) {
	inBubble(t, func(t *testing.T, b *apitest.Backend, c *Client) {
		data, err := bus.Pack(strings.Repeat("x", api.MaxEventDataBytes/2))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan time.Duration, 1)
		b.OnRequest = func(ctx context.Context, _ api.SendRequest, reply func(api.Reply) error) error {
			begin := time.Now()
			for {
				if err := reply(api.Reply{Name: "n1", Data: data}); err != nil {
					ended <- time.Since(begin)
					return err
				}
			}
		}
		for _, err := range c.RequestEvent(t.Context(), api.SendRequest{Event: "x"}) {
			if err != nil {
				break
			}
			select {
			case took := <-ended:
				if took != 30*time.Second {
					t.Errorf("the request ended after %s, want 30s", took)
				}
			case <-time.After(time.Hour):
				t.Error("the request goes on")
			}
			break
		}
	})
}

// Who awaits a run and does not read holds none of its tasks up.
func TestTasksDoNotWaitForWhoAwaitsThem(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *apitest.Backend, c *Client) {
		var holding []tasks.ID
		for range 4 { // the slots
			s, err := c.Submit(t.Context(), command("hold"))
			if err != nil {
				t.Fatal(err)
			}
			holding = append(holding, s.Run)
		}
		s, err := c.Submit(t.Context(), command("large"))
		if err != nil {
			t.Fatal(err)
		}
		st, err := c.AwaitRun(t.Context(), s.Run)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		for _, id := range holding {
			if _, err := c.Cancel(t.Context(), id, tasks.StopCancel); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		if task, err := c.Task(t.Context(), s.Tasks[0].ID); err != nil || task.State != tasks.StateDone {
			t.Errorf("a minute later it is %s, %v; want done", task.State, err)
		}
	})
}
