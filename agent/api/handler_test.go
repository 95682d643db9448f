package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/api/apitest"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
)

// run does what argv says: "echo TEXT", "exit", "hold" until it is stopped, or
// "cat" its standard input.
func run(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
	if a.Task.Kind == tasks.Function {
		return tasks.Outcome{Value: []byte(`{"args":` + string(a.Task.Args[0]) + `}`), Encoding: tasks.JSON}
	}
	switch a.Task.Argv[0] {
	case "echo":
		io.WriteString(a.Stdout, strings.Join(a.Task.Argv[1:], " ")+"\n")
	case "binary":
		a.Stdout.Write([]byte{0xff, 0xfe, 0})
		io.WriteString(a.Stderr, "text")
	case "exit":
		return tasks.Outcome{Code: tasks.Exit, Exit: 3, Text: "exit status 3"}
	case "hold":
		io.WriteString(a.Stdout, "holding\n")
		io.WriteString(a.Stderr, "indeed\n")
		<-ctx.Done()
		stop := &tasks.StopError{}
		errors.As(context.Cause(ctx), &stop)
		return tasks.Outcome{Code: tasks.Cancelled, Signal: "SIGTERM", Text: "stopped: " + stop.Reason.String()}
	case "cat":
		if a.Stdin != nil {
			io.Copy(a.Stdout, a.Stdin)
		}
	}
	return tasks.Outcome{}
}

type answer struct {
	t *testing.T
	*httptest.ResponseRecorder
}

// ask sends one request to a handler.
func ask(t *testing.T, h http.Handler, method, target, body string, headers ...string) answer {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "scagent"
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return answer{t, w}
}

// into decodes a good answer.
func (a answer) into(v any) {
	a.t.Helper()
	if a.Code != http.StatusOK || json.Unmarshal(a.Body.Bytes(), v) != nil {
		a.t.Fatalf("answer is %d %s; want 200 and %T", a.Code, a.Body, v)
	}
}

// refused checks that the answer is an error with that status and code, whose
// message is one line with all the words.
func (a answer) refused(status int, code string, words ...string) {
	a.t.Helper()
	var e api.ErrorBody
	if err := json.Unmarshal(a.Body.Bytes(), &e); err != nil || e.Error == nil {
		a.t.Fatalf("answer is %d %s; want an error", a.Code, a.Body)
	}
	if a.Code != status || e.Error.Code != code {
		a.t.Errorf("answer is %d %s; want %d %s", a.Code, a.Body, status, code)
	}
	for _, w := range words {
		if !strings.Contains(e.Error.Message, w) {
			a.t.Errorf("message is %q; want it to say %q", e.Error.Message, w)
		}
	}
	if strings.ContainsAny(e.Error.Message, "\n\r\x1b") {
		a.t.Errorf("message is %q; want one plain line", e.Error.Message)
	}
}

// submitted posts a task and returns what was answered.
func submitted(t *testing.T, h http.Handler, body string) api.Submitted {
	t.Helper()
	var s api.Submitted
	ask(t, h, "POST", "/v1/tasks", body).into(&s)
	return s
}

// ended waits for the tasks of a run.
func ended(t *testing.T, b *apitest.Backend, id tasks.ID) []tasks.Result {
	t.Helper()
	r, err := b.Run(id)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	rs, err := r.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func TestSubmitAndLookAtTheTask(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	s := submitted(t, h, `{"task":{"kind":"command","argv":["echo","<hello>"]}}`)
	if s.Several || len(s.Tasks) != 1 || s.Run.IsZero() {
		t.Fatalf("submitted = %+v; want a run of one task", s)
	}
	ended(t, b, s.Run)
	a := ask(t, h, "GET", "/v1/tasks/"+s.Tasks[0].ID.String(), "")
	if !strings.Contains(a.Body.String(), `"stdout":"<hello>\n"`) || !strings.Contains(a.Body.String(), `"result":null`) {
		t.Errorf("task is %s", a.Body)
	}
	var st api.TaskStatus
	a.into(&st)
	if st.ID != s.Tasks[0].ID || st.Run != s.Run || st.State != tasks.StateDone || st.Kind != tasks.Command || st.Attempt != 1 ||
		st.Worker == "" || st.QueuedAt == nil || st.StartedAt == nil || st.FinishedAt == nil || st.Stderr == nil || *st.Stderr != "" {
		t.Errorf("task is %s", a.Body)
	}
	var rs api.RunStatus
	ask(t, h, "GET", "/v1/tasks/"+s.Run.String(), "").into(&rs)
	if rs.Run != s.Run || rs.Several || len(rs.Tasks) != 1 || rs.Tasks[0].ID != st.ID || *rs.Tasks[0].Stdout != "<hello>\n" {
		t.Errorf("run is %+v", rs)
	}
}

func TestTaskObjectsOfTheOriginalAreTaken(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	post := func(body string) answer { return ask(t, h, "POST", "/v1/tasks?dry_run=1", body) }
	var dry api.DryRun
	post(`{"task":{"type":"function","func":"function(a,b){return a+b}","args":[1,{"any":"field"}]},"options":{"wait_workers_seconds":0}}`).into(&dry)
	if len(dry.Workers) != 2 || dry.Error == nil || dry.Error.Code != "no_match" || !strings.Contains(dry.Workers[0].Why, "kind js") {
		t.Errorf("a function = %+v, want that it is a task of kind js, which no worker here runs", dry)
	}
	post(`{"task":{"type":"file","fileName":"x.js"}}`).refused(400, "bad_task", "want an absolute path")
	post(`{"task":{"type":"wasm"}}`).refused(400, "bad_task", "want file, github or function")
	post(`{"task":{"type":"function","func":"x"},"targte":{}}`).refused(400, "bad_request", "targte")
}

func TestRunOfSeveral(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	s := submitted(t, h, `{"task":{"kind":"command","argv":["exit"]},"target":{"all":true}}`)
	if !s.Several || len(s.Tasks) != 2 || s.Tasks[0].Worker != "w1" || s.Tasks[1].Worker != "w2" {
		t.Fatalf("submitted = %+v; want one task for each of w1 and w2", s)
	}
	ended(t, b, s.Run)
	var rs api.RunStatus
	ask(t, h, "GET", "/v1/tasks/"+s.Run.String(), "").into(&rs)
	if !rs.Several || len(rs.Tasks) != 2 {
		t.Fatalf("run is %+v", rs)
	}
	for i, st := range rs.Tasks {
		if st.Index != i || st.State != tasks.StateFailed || st.ExitCode != 3 || st.Reason != tasks.Exit || st.Error != "exit status 3" {
			t.Errorf("task %d is %+v; want exit status 3", i, st)
		}
	}
	ask(t, h, "GET", "/v1/tasks/"+s.Run.String()+"/output", "").refused(400, "bad_request", "a run of 2 tasks", s.Tasks[0].ID.String())
}

func TestOutputThatIsNotText(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	s := submitted(t, h, `{"task":{"kind":"command","argv":["binary"]}}`)
	ended(t, b, s.Run)
	id := s.Tasks[0].ID.String()
	if a := ask(t, h, "GET", "/v1/tasks/"+id, ""); !strings.Contains(a.Body.String(), `"stdout_base64":"//4A","stderr":"text"`) {
		t.Errorf("task is %s; want stdout in base64 and stderr as text", a.Body)
	}
	for query, want := range map[string]string{"": "\xff\xfe\x00", "?stream=stdout": "\xff\xfe\x00", "?stream=stderr": "text", "?stream=stderr&follow=1": "text", "?stream=": "\xff\xfe\x00"} {
		a := ask(t, h, "GET", "/v1/tasks/"+id+"/output"+query, "")
		if a.Code != 200 || a.Body.String() != want || a.Header().Get("Scagent-Cut-Bytes") != "0" || a.Header().Get("Content-Type") != "application/octet-stream" {
			t.Errorf("output%s is %d %q %v; want %q", query, a.Code, a.Body, a.Header(), want)
		}
	}
	if a := ask(t, h, "GET", "/v1/tasks/"+s.Run.String()+"/output", ""); a.Body.String() != "\xff\xfe\x00" {
		t.Errorf("output of the run's only task is %d %q", a.Code, a.Body)
	}
	ask(t, h, "GET", "/v1/tasks/"+id+"/output?stream=stdin", "").refused(400, "bad_request", "stdin", "stdout or stderr")
	ask(t, h, "GET", "/v1/tasks/"+id+"/output?follow=maybe", "").refused(400, "bad_request", "follow")
}

func TestFunctionAnswersJSON(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	s := submitted(t, h, `{"task":{"kind":"function","name":"f","args":[{"A":9007199254740993,"a":1}]}}`)
	ended(t, b, s.Run)
	var st api.TaskStatus
	ask(t, h, "GET", "/v1/tasks/"+s.Tasks[0].ID.String(), "").into(&st)
	if string(st.Result) != `{"args":{"A":9007199254740993,"a":1}}` {
		t.Errorf("result is %s; want the argument, digit for digit", st.Result)
	}
}

func TestCancel(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	for body, want := range map[string]string{"": "cancel", `{}`: "cancel", `{"reason":"cancel"}`: "cancel", `{"reason":"interrupt"}`: "interrupt"} {
		s := submitted(t, h, `{"task":{"kind":"command","argv":["hold"]},"target":{"all":true}}`)
		f, err := b.Follow(s.Run)
		if err != nil {
			t.Fatal(err)
		}
		for started := 0; started < 2; {
			e, err := f.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if e.Output != nil && string(e.Output) == "indeed\n" {
				started++
			}
		}
		f.Close()
		var out api.Stopped
		ask(t, h, "POST", "/v1/tasks/"+s.Tasks[0].ID.String()+"/cancel", body).into(&out)
		if out.Stopped != 1 {
			t.Errorf("cancel of a task stopped %d, want 1", out.Stopped)
		}
		ask(t, h, "POST", "/v1/tasks/"+s.Run.String()+"/cancel", body).into(&out)
		if out.Stopped < 1 || out.Stopped > 2 {
			t.Errorf("cancel of its run stopped %d, want the other", out.Stopped)
		}
		for _, r := range ended(t, b, s.Run) {
			if r.State != tasks.StateCancelled || r.Text != "stopped: "+want {
				t.Errorf("with %q the task ended as %s, %q; want cancelled for %s", body, r.State, r.Text, want)
			}
		}
		ask(t, h, "POST", "/v1/tasks/"+s.Run.String()+"/cancel", body).into(&out)
		if out.Stopped != 0 {
			t.Errorf("cancel of an ended run stopped %d, want 0", out.Stopped)
		}
	}
	id := tasks.ID{1}.String()
	ask(t, h, "POST", "/v1/tasks/"+id+"/cancel", `{"reason":"timeout"}`).refused(400, "bad_request", "reason", "kill")
	ask(t, h, "POST", "/v1/tasks/"+id+"/cancel", "").refused(404, "unknown_task", id)
}

func TestKeptOutputOfARunningTask(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	s := submitted(t, h, `{"task":{"kind":"command","argv":["hold"]}}`)
	id := s.Tasks[0].ID.String()
	f, err := b.Follow(s.Run)
	if err != nil {
		t.Fatal(err)
	}
	for seen := 0; seen < 2; {
		e, err := f.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if e.Output != nil {
			seen++
		}
	}
	f.Close()
	for stream, want := range map[string]string{"stdout": "holding\n", "stderr": "indeed\n"} {
		if a := ask(t, h, "GET", "/v1/tasks/"+id+"/output?stream="+stream, ""); a.Code != 200 || a.Body.String() != want {
			t.Errorf("%s of the running task is %d %q; want %q", stream, a.Code, a.Body, want)
		}
	}
	var st api.TaskStatus
	ask(t, h, "GET", "/v1/tasks/"+id, "").into(&st)
	if st.State != tasks.StateRunning || st.FinishedAt != nil {
		t.Errorf("task is %+v; want it running", st)
	}
	b.Cancel(s.Run, tasks.StopKill)
	ended(t, b, s.Run)
}

func TestList(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	if a := ask(t, h, "GET", "/v1/tasks", ""); a.Body.String() != "[]\n" {
		t.Errorf("list without tasks is %q, want []", a.Body)
	}
	var ids []tasks.ID
	for _, what := range []string{"echo", "exit", "echo"} {
		s := submitted(t, h, `{"task":{"kind":"command","argv":["`+what+`","x"]}}`)
		ended(t, b, s.Run)
		ids = append(ids, s.Tasks[0].ID)
	}
	for query, want := range map[string][]tasks.ID{
		"":                                     {ids[0], ids[1], ids[2]},
		"?state=&limit=&after=":                {ids[0], ids[1], ids[2]},
		"?limit=2":                             {ids[0], ids[1]},
		"?limit=2&newest=1":                    {ids[1], ids[2]},
		"?limit=9&newest=1":                    {ids[0], ids[1], ids[2]},
		"?limit=1&newest=1&state=done":         {ids[2]},
		"?limit=1&newest=0":                    {ids[0]},
		"?after=" + ids[0].String():            {ids[1], ids[2]},
		"?state=failed":                        {ids[1]},
		"?state=failed,lost":                   {ids[1]},
		"?state=done&after=" + ids[0].String(): {ids[2]},
		"?state=queued":                        {},
	} {
		var got []api.TaskStatus
		ask(t, h, "GET", "/v1/tasks"+query, "").into(&got)
		var is []tasks.ID
		for _, st := range got {
			is = append(is, st.ID)
			if st.Stdout != nil {
				t.Errorf("list has output: %+v", st)
			}
		}
		if fmt.Sprint(is) != fmt.Sprint(want) {
			t.Errorf("list%s = %v, want %v", query, is, want)
		}
	}
	for query, want := range map[string]string{"limit=-1": "limit", "limit=0": "limit", "limit=1000000000": "limit", "limit=x": "limit", "limit=99999999999999999999": "limit",
		"state=ended": "state", "state=done,": "state", "limit=1&limit=2": "limit", "newest=2": "newest", "folow=1": "folow", "a=%zz": "query"} {
		ask(t, h, "GET", "/v1/tasks?"+query, "").refused(400, "bad_request", want)
	}
	for _, id := range []string{"x", strings.Repeat("a", 27), "ünïcödé", strings.Repeat("x", 5000), "..%2f", "\x00"} {
		ask(t, h, "GET", "/v1/tasks?after="+strings.ReplaceAll(id, "\x00", "%00"), "").refused(400, "bad_id")
	}
}

func TestUnknownIDs(t *testing.T) {
	h := api.NewHandler(apitest.New(t, run), api.Options{})
	id := tasks.ID{1, 2, 3}.String()
	ask(t, h, "GET", "/v1/tasks/"+id, "").refused(404, "unknown_task", id)
	ask(t, h, "GET", "/v1/tasks/"+id+"/output", "").refused(404, "unknown_task", id)
	ask(t, h, "GET", "/v1/runs/"+id+"/events", "").refused(404, "unknown_task", id)
	for _, id := range []string{"%2e%2e", "..%2f..%2fetc"} {
		ask(t, h, "GET", "/v1/tasks/"+id, "").refused(404, "not_found")
	}
	for _, id := range []string{"x", "a%2fb", "a%00b", "%C3%BC", strings.Repeat("y", 3000)} {
		ask(t, h, "GET", "/v1/tasks/"+id, "").refused(400, "bad_id")
	}
}

func TestDryRun(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	var d api.DryRun
	ask(t, h, "POST", "/v1/tasks?dry_run=1", `{"task":{"kind":"command","argv":["x"]},"target":{"on":["w2"]}}`).into(&d)
	if len(d.Workers) != 2 || d.Workers[0].Takes || !d.Workers[1].Takes || d.Workers[1].Name != "w2" || d.Workers[0].Why == "" || d.Error != nil {
		t.Errorf("dry run = %+v; want w2 alone to take it", d)
	}
	ask(t, h, "POST", "/v1/tasks?dry_run=1", `{"task":{"kind":"command","argv":["x"]},"target":{"where":"slots > 5"},"options":{"wait_workers_seconds":0}}`).into(&d)
	if d.Error == nil || d.Error.Code != "no_match" || len(d.Workers) != 2 || d.Workers[0].Takes {
		t.Errorf("dry run = %+v; want no_match and why", d)
	}
	if got := b.List(tasks.ID{}, nil, 10); len(got) != 0 {
		t.Errorf("dry runs started %d tasks", len(got))
	}
	ask(t, h, "POST", "/v1/tasks?dry_run=1&follow=1", `{}`).refused(400, "bad_request", "follow", "dry_run")
}

func TestContents(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	content := make([]byte, tasks.MaxInlineBytes+1)
	rand.NewChaCha8([32]byte{}).Read(content)
	put := ask(t, h, "PUT", "/v1/blobs", string(content))
	var blob api.Blob
	put.into(&blob)
	if blob.Size != int64(len(content)) || len(blob.Blob) != 64 {
		t.Fatalf("blob = %+v", blob)
	}
	if got := ask(t, h, "GET", "/v1/blobs/"+blob.Blob, ""); got.Code != 200 || !bytes.Equal(got.Body.Bytes(), content) {
		t.Errorf("GET of the blob = %d and %d bytes; want what was put", got.Code, got.Body.Len())
	}
	if got := ask(t, h, "HEAD", "/v1/blobs/"+blob.Blob, ""); got.Code != 200 || got.Header().Get("Content-Length") != fmt.Sprint(len(content)) || got.Body.Len() != 0 {
		t.Errorf("HEAD of the blob = %d %v", got.Code, got.Header())
	}
	none := strings.Repeat("0", 64)
	ask(t, h, "GET", "/v1/blobs/"+none, "").refused(404, "unknown_blob", none)
	ask(t, h, "GET", "/v1/blobs/"+strings.ToUpper(blob.Blob), "").refused(400, "bad_request", "64")
	ask(t, h, "GET", "/v1/blobs/..%2f..%2fetc%2fpasswd", "").refused(404, "not_found")
	ask(t, h, "GET", "/v1/blobs/etc%2fpasswd", "").refused(400, "bad_request", "64")

	submit := func(task map[string]any) answer {
		task["kind"], task["argv"] = "command", []string{"cat"}
		body, err := json.Marshal(map[string]any{"task": task})
		if err != nil {
			t.Fatal(err)
		}
		return ask(t, h, "POST", "/v1/tasks", string(body))
	}
	submit(map[string]any{"stdin_blob": none}).refused(400, "unknown_blob", "task.stdin_blob", "PUT /v1/blobs")
	submit(map[string]any{"stdin_blob": "../x"}).refused(400, "bad_task", "task.stdin_blob", "64")
	submit(map[string]any{"stdin_blob": blob.Blob, "stdin_base64": []byte("x")}).refused(400, "bad_task", "task.stdin_base64", "task.stdin_blob")
	submit(map[string]any{"inputs": []any{map[string]any{"name": "a", "blob": none}}}).refused(400, "unknown_blob", "task.inputs[0].blob")

	small := func(n int) []any {
		var in []any
		for i := range n {
			in = append(in, map[string]any{"name": fmt.Sprint("f", i), "content_base64": content[:60<<10]})
		}
		return in
	}
	before := b.Store.Stats().Blobs
	var s api.Submitted
	submit(map[string]any{"inputs": small(4)}).into(&s)
	if n := b.Store.Stats().Blobs; n != before {
		t.Errorf("4 small inputs made %d blobs, want none", n-before)
	}
	submit(map[string]any{"inputs": small(40)}).into(&s)
	if n := b.Store.Stats().Blobs; n != before+1 {
		t.Errorf("40 equal inputs, too large together, made %d blobs, want one", n-before)
	}
	submit(map[string]any{"inputs": []any{map[string]any{"name": "x", "content_base64": append([]byte{1}, content...)}}}).into(&s)
	if n := b.Store.Stats().Blobs; n != before+2 {
		t.Errorf("a large input made %d blobs, want one", n-before-1)
	}
	for _, st := range b.List(tasks.ID{}, nil, 100) {
		ended(t, b, st.Run)
	}
}

func TestErrorsOfTheMaster(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	post := func(task, target, options string) answer {
		return ask(t, h, "POST", "/v1/tasks", fmt.Sprintf(`{"task":%s,"target":%s,"options":%s}`, task, target, options))
	}
	const good = `{"kind":"command","argv":["echo"]}`
	post(good, `{"where":"slots > 5"}`, `{"wait_workers_seconds":0}`).refused(409, "no_match", "slots > 5")
	post(good, `{"on":["w9"]}`, `{"wait_workers_seconds":0}`).refused(409, "no_match", "w9")
	post(good, `{"all":true}`, `{"wait_workers_seconds":0,"expect":3}`).refused(409, "no_match", "3")
	post(good, `{"where":"(("}`, `{}`).refused(400, "bad_target", "where")
	post(good, `{"all":true,"on":["w1"]}`, `{}`).refused(400, "bad_target", "all")
	post(good, `{}`, `{"attempts":0}`).refused(400, "bad_options", "attempts")
	post(good, `{}`, `{"slots":-1}`).refused(400, "bad_options", "slots")
	b.Master.Close()
	post(good, `{}`, `{}`).refused(503, "closing")
}

func TestAgentRoutes(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	var info api.Info
	if ask(t, h, "GET", "/v1/info", "").into(&info); info.Name != "m" {
		t.Errorf("info = %+v", info)
	}
	var ms []api.Member
	if ask(t, h, "GET", "/v1/members", "").into(&ms); len(ms) != 1 || !ms[0].Self {
		t.Errorf("members = %+v", ms)
	}
	b.Pool = nil
	if a := ask(t, h, "GET", "/v1/members", ""); a.Body.String() != "[]\n" {
		t.Errorf("no members are %q, want []", a.Body)
	}
	var empty struct{}
	if ask(t, h, "PUT", "/v1/available", `{"available":false}`).into(&empty); b.Available() {
		t.Error("the worker is still available")
	}
	ask(t, h, "PUT", "/v1/available", `{}`).refused(400, "bad_request", "available")
	var j api.Joined
	if ask(t, h, "POST", "/v1/join", `{"addrs":["a","b"]}`).into(&j); j.Joined != 2 || fmt.Sprint(b.Joined()) != "[a b]" {
		t.Errorf("joined %+v at %v", j, b.Joined())
	}
	ask(t, h, "POST", "/v1/join", `{"addrs":[]}`).refused(400, "bad_request", "addrs")
	ask(t, h, "POST", "/v1/drain", `{"x":1}`).refused(400, "bad_request", "body")
	if b.Drained() {
		t.Error("a bad request made the agent drain")
	}
	if ask(t, h, "POST", "/v1/drain", "").into(&empty); !b.Drained() {
		t.Error("the agent does not drain")
	}
	ask(t, h, "POST", "/v1/leave", `{"x":1}`).refused(400, "bad_request", "body")
	if b.Left() {
		t.Error("a bad request made the agent leave")
	}
	if ask(t, h, "POST", "/v1/leave", "").into(&empty); !b.Left() {
		t.Error("the agent has not left")
	}
	b.Fail = fmt.Errorf("join: %w", membership.ErrNotRunning)
	ask(t, h, "POST", "/v1/join", `{"addrs":["a"]}`).refused(503, "closing")
	b.Fail = fmt.Errorf("data: %w: 300000 bytes", membership.ErrDocumentTooLarge)
	ask(t, h, "PUT", "/v1/data", `1`).refused(413, "data_too_large", "300000")
	b.Fail = errors.New("some\nfault\x1b[2J")
	ask(t, h, "PUT", "/v1/data", `1`).refused(500, "internal", "some fault")
	b.Fail = &api.Error{Code: "not_master", Message: "has not the role", Status: 409}
	ask(t, h, "POST", "/v1/leave", "").refused(409, "not_master", "role")
}

func TestDataIsAnyJSON(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	for _, data := range []string{`{"A":{"a":1,"__proto__":2,"ü":[]},"n":9007199254740993}`, `"text"`, `1e400`, `null`, `[]`, `true`, `{}`} {
		var empty struct{}
		ask(t, h, "PUT", "/v1/data", " "+data+"\n").into(&empty)
		if got := string(b.Data()); got != data {
			t.Errorf("data is %s, want %s as it was sent", got, data)
		}
	}
	ask(t, h, "PUT", "/v1/data", `{"a":{"b":1,"b":2}}`).refused(400, "bad_request", "a.b", "twice")
	ask(t, h, "PUT", "/v1/data", `"`+strings.Repeat("x", 1<<20)+`"`).refused(413, "data_too_large", "1 MiB")
}

func TestHealth(t *testing.T) {
	ready := false
	h := api.NewHandler(apitest.New(t, run), api.Options{Ready: func() bool { return ready }})
	if a := ask(t, h, "GET", "/healthz", ""); a.Code != 200 || a.Body.String() != "ok\n" {
		t.Errorf("healthz is %d %q", a.Code, a.Body)
	}
	a := ask(t, h, "GET", "/readyz", "")
	a.refused(503, "starting")
	if a.Header().Get("Retry-After") == "" {
		t.Error("readyz does not say when to come back")
	}
	ready = true
	if a := ask(t, h, "GET", "/readyz", ""); a.Code != 200 {
		t.Errorf("readyz is %d %q", a.Code, a.Body)
	}
}

func TestPathsAndMethods(t *testing.T) {
	h := api.NewHandler(apitest.New(t, run), api.Options{})
	for _, p := range []string{"/", "/v1", "/v1/", "/v1/nothing", "//v1/info", "/v1/../v1/info", "/v1/info/", "/V1/info", "/metrics2", "/ui/../../etc/passwd", "/v1/tasks/", "/v1/runs/x"} {
		ask(t, h, "GET", p, "").refused(404, "not_found")
	}
	for _, c := range []struct{ method, path, allow string }{
		{"DELETE", "/v1/tasks", "GET, POST"}, {"POST", "/v1/info", "GET"}, {"GET", "/v1/leave", "POST"}, {"GET", "/v1/data", "PUT"},
		{"PATCH", "/v1/available", "PUT"}, {"TRACE", "/v1/members", "GET"}, {"OPTIONS", "/v1/tasks", "GET, POST"}, {"POST", "/v1/blobs", "PUT"}, {"HEAD", "/v1/events", "GET, POST"},
	} {
		a := ask(t, h, c.method, c.path, "")
		a.refused(405, "bad_method", "want")
		if got := a.Header().Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow is %q, want %q", c.method, c.path, got, c.allow)
		}
	}
	a := ask(t, h, "GET", "/v1/info", "")
	if a.Header().Get("X-Content-Type-Options") != "nosniff" || a.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("headers are %v; want nosniff, and no other origin allowed", a.Header())
	}
}

func TestAPageOfTheAgentItselfMaySubmit(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{Token: ownToken, Hosts: ownHosts})
	r := httptest.NewRequest("POST", "/v1/tasks", strings.NewReader(`{"task":{"kind":"command","argv":["echo"]}}`))
	r.Host = ownHost
	for name, value := range map[string]string{"Authorization": "Bearer " + ownToken, "Origin": "http://" + ownHost, "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json; charset=utf-8"} {
		r.Header.Set(name, value)
	}
	a := answer{t, httptest.NewRecorder()}
	h.ServeHTTP(a.ResponseRecorder, r)
	var s api.Submitted
	a.into(&s)
	ended(t, b, s.Run)
}

func TestContentTypes(t *testing.T) {
	h := api.NewHandler(apitest.New(t, run), api.Options{})
	for kind, ok := range map[string]bool{"": true, "application/json": true, "Application/JSON; charset=utf-8": true,
		"application/x-www-form-urlencoded": true, "text/plain": false, "multipart/form-data; boundary=x": false, "application/jsonx": false, "/": false} {
		a := ask(t, h, "PUT", "/v1/data", `1`, "Content-Type", kind)
		if ok && a.Code != 200 {
			t.Errorf("Content-Type %q: %d %s", kind, a.Code, a.Body)
		}
		if !ok {
			a.refused(415, "bad_content_type", "application/json")
		}
	}
	ask(t, h, "PUT", "/v1/data", `1`, "Content-Encoding", "gzip").refused(415, "bad_content_type", "gzip")
}
