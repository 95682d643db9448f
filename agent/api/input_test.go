package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/api/apitest"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/test/bounds"
)

func TestBadBodies(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	const cmd = `"task":{"kind":"command","argv":["echo"]}`
	for _, c := range []struct {
		name, body, code string
		words            []string
	}{
		{"nothing", ``, "bad_request", []string{"empty"}},
		{"half an object", `{`, "bad_request", []string{"not JSON", "ends"}},
		{"a list", `[]`, "bad_request", []string{"the body", "a list", "an object"}},
		{"null", `null`, "bad_task", []string{"task.kind"}},
		{"a word", `nul`, "bad_request", []string{"not JSON"}},
		{"two values", `{` + cmd + `} {}`, "bad_request", []string{"one value"}},
		{"something after it", `{` + cmd + `}x`, "bad_request", []string{"one value"}},
		{"a NUL after it", `{` + cmd + "}\x00", "bad_request", []string{"one value"}},
		{"BOM", "\ufeff{" + cmd + `}`, "bad_request", []string{"not JSON"}},
		{"not UTF-8", `{"task":{"kind":"command","argv":["` + "\xff" + `"]}}`, "bad_request", []string{"UTF-8"}},
		{"a control character", `{"task":{"kind":"` + "\x01" + `"}}`, "bad_request", []string{"not JSON"}},
		{"too deep", strings.Repeat(`[`, 100_000), "bad_request", []string{"not JSON"}},
		{"too deep in an argument", `{"task":{"kind":"js","source":"x","args":` + strings.Repeat(`[`, 100_000) + strings.Repeat(`]`, 100_000) + `}}`, "bad_request", []string{"not JSON"}},
		{"unknown field", `{` + cmd + `,"targets":{}}`, "bad_request", []string{`"targets"`}},
		{"unknown field of the task", `{"task":{"kind":"command","argv":["x"],"cwd":"/"}}`, "bad_request", []string{`"cwd"`}},
		{"wrong case", `{"Task":{"kind":"command","argv":["x"]}}`, "bad_request", []string{`"Task"`, "lower case"}},
		{"wrong case inside", `{"task":{"kind":"command","ARGV":["x"]}}`, "bad_request", []string{`"task.ARGV"`}},
		{"letters that fold", `{"ta\u017fk":{"kind":"command","argv":["x"]}}`, "bad_request", []string{"unknown field"}},
		{"twice", `{` + cmd + `,` + cmd + `}`, "bad_request", []string{`"task"`, "twice"}},
		{"twice inside", `{"task":{"kind":"command","argv":["x"],"argv":["y"]}}`, "bad_request", []string{`"task.argv"`, "twice"}},
		{"twice, written differently", `{"task":{"kind":"command","argv":["x"],"\u0061rgv":["y"]}}`, "bad_request", []string{`"task.argv"`, "twice"}},
		{"twice in an argument", `{"task":{"kind":"function","name":"f","args":[1,{"a":{"b":1,"b":2}}]}}`, "bad_request", []string{`"task.args[1].a.b"`, "twice"}},
		{"twice in env", `{"task":{"kind":"command","argv":["x"],"env":{"A":"1","A":"2"}}}`, "bad_request", []string{`"task.env.A"`, "twice"}},
		{"wrong type", `{"task":{"kind":"command","argv":"x"}}`, "bad_request", []string{"task.argv", "string", "a list"}},
		{"wrong type inside", `{"task":{"kind":"command","argv":["x",1]}}`, "bad_request", []string{"task.argv", "number", "a string"}},
		{"fraction", `{` + cmd + `,"options":{"retry":1.5}}`, "bad_request", []string{"options.retry", "1.5", "whole number"}},
		{"too large an integer", `{` + cmd + `,"options":{"slots":99999999999999999999}}`, "bad_request", []string{"options.slots", "whole number"}},
		{"negative mode", `{"task":{"kind":"command","argv":["x"],"inputs":[{"name":"a","mode":-1}]}}`, "bad_request", []string{"mode", "whole number"}},
		{"1e999", `{` + cmd + `,"options":{"timeout_seconds":1e999}}`, "bad_request", []string{"options.timeout_seconds", "a number"}},
		{"NaN", `{` + cmd + `,"options":{"timeout_seconds":NaN}}`, "bad_request", []string{"not JSON"}},
		{"negative timeout", `{` + cmd + `,"options":{"timeout_seconds":-0.5}}`, "bad_options", []string{"timeout_seconds", "-0.5", "want 0"}},
		{"huge timeout", `{` + cmd + `,"options":{"timeout_seconds":1e300}}`, "bad_options", []string{"timeout_seconds"}},
		{"2^63 as timeout", `{` + cmd + `,"options":{"timeout_seconds":9223372036854775808}}`, "bad_options", []string{"timeout_seconds"}},
		{"negative wait", `{` + cmd + `,"options":{"wait_workers_seconds":-1}}`, "bad_options", []string{"wait_workers_seconds"}},
		{"a million tries", `{` + cmd + `,"options":{"retry":1000000}}`, "bad_options", []string{"retry"}},
		{"no attempts", `{` + cmd + `,"options":{"attempts":0}}`, "bad_options", []string{"attempts", "0"}},
		{"no slots", `{` + cmd + `,"options":{"slots":0}}`, "bad_options", []string{"slots", "0"}},
		{"expect", `{` + cmd + `,"options":{"expect":-1}}`, "bad_options", []string{"expect", "-1"}},
		{"n", `{` + cmd + `,"target":{"all":true,"n":-1}}`, "bad_target", []string{"n is -1"}},
		{"a query 1 MB long", `{` + cmd + `,"target":{"where":"` + strings.Repeat("(", 1<<20) + `"}}`, "bad_target", []string{"1048576 bytes long"}},
		{"priority", `{` + cmd + `,"options":{"priority":40000}}`, "bad_options", []string{"priority"}},
		{"not base64", `{"task":{"kind":"file","content_base64":"a*=="}}`, "bad_request", []string{"task.content_base64", "base64"}},
		{"not base64 in an input", `{"task":{"kind":"command","argv":["x"],"inputs":[{"name":"a","content_base64":"aGk="},{"name":"b","content_base64":"a"}]}}`, "bad_request", []string{"task.inputs[1].content_base64", "base64"}},
		{"no kind", `{"task":{"argv":["x"]}}`, "bad_task", []string{"task.kind", "command"}},
		{"unknown kind", `{"task":{"kind":"shell\u001b"}}`, "bad_task", []string{"task.kind", "command"}},
		{"two kinds", `{"task":{"kind":"command","argv":["x"],"source":"y"}}`, "bad_task", []string{"task.source", "js"}},
		{"a file's content in a command", `{"task":{"kind":"command","argv":["x"],"content_base64":""}}`, "bad_task", []string{"content_base64", "file"}},
		{"no argv", `{"task":{"kind":"command"}}`, "bad_task", []string{"argv"}},
		{"empty program", `{"task":{"kind":"command","argv":[""]}}`, "bad_task", []string{"argv[0]"}},
		{"NUL in argv", `{"task":{"kind":"command","argv":["a\u0000b"]}}`, "bad_task", []string{"argv[0]", "NUL"}},
		{"3 MB argument", `{"task":{"kind":"command","argv":["x","` + strings.Repeat("y", 3<<20) + `"]}}`, "bad_task", []string{"argv[1]", "bytes"}},
		{"file without content", `{"task":{"kind":"file","name":"x"}}`, "bad_task", []string{"content_base64"}},
		{"number for a file", `{"task":{"kind":"file","content_base64":"","args":["1",2]}}`, "bad_task", []string{"task.args[1]", "strings"}},
		{"null for a file", `{"task":{"kind":"file","content_base64":"","args":[null]}}`, "bad_task", []string{"task.args[0]", "strings"}},
		{"git without url", `{"task":{"kind":"git","argv":["x"]}}`, "bad_task", []string{"task.url"}},
		{"js without source", `{"task":{"kind":"js","args":[1]}}`, "bad_task", []string{"task.source"}},
		{"function without name", `{"task":{"kind":"function"}}`, "bad_task", []string{"name"}},
		{"large arguments", `{"task":{"kind":"function","name":"f","args":["` + strings.Repeat("y", 600<<10) + `"]}}`, "bad_task", []string{"task.args", "input file"}},
		{"env name", `{"task":{"kind":"command","argv":["x"],"env":{"A=B":"1"}}}`, "bad_task", []string{"env", "A=B"}},
		{"env without a name", `{"task":{"kind":"command","argv":["x"],"env":{"":"1"}}}`, "bad_task", []string{"env", `""`}},
		{"env value of 1 MB", `{"task":{"kind":"command","argv":["x"],"env":{"A":"` + strings.Repeat("y", 1<<20) + `"}}}`, "bad_task", []string{"env A", "bytes"}},
		{"NUL in env", `{"task":{"kind":"command","argv":["x"],"env":{"A":"\u0000"}}}`, "bad_task", []string{"env A", "NUL"}},
		{"NUL in a shell line", `{"task":{"kind":"command","shell":"a\u0000b"}}`, "bad_task", []string{"shell", "NUL"}},
		{"NUL in dir", `{"task":{"kind":"command","argv":["x"],"dir":"/a\u0000"}}`, "bad_task", []string{"dir"}},
		{"10,001 inputs", `{"task":{"kind":"command","argv":["x"],"inputs":[` + strings.Repeat(`{},`, tasks.MaxInputs) + `{}]}}`, "bad_task", []string{"inputs", "10001", "archive"}},
		{"input 5,000 deep", `{"task":{"kind":"command","argv":["x"],"inputs":[{"name":"` + strings.Repeat("d/", 2000) + `x"}]}}`, "bad_task", []string{"inputs[0]", "2001", "archive"}},
		{"output 5,000 deep", `{"task":{"kind":"command","argv":["x"],"outputs":["` + strings.Repeat("*/", 2000) + `x"]}}`, "bad_task", []string{"outputs[0]", "archive"}},
		{"a file name with control characters", `{"task":{"kind":"command","argv":["x"],"inputs":[{"name":"a\u001b[2J\n"}]}}`, "bad_task", []string{"inputs[0]", "control"}},
		{"an input of another type", `{"task":{"kind":"command","argv":["x"],"inputs":[{"name":"a","type":"fifo"}]}}`, "bad_task", []string{"inputs[0].type", "fifo"}},
		{"an object whose file is a device", `{"task":{"type":"file","fileName":"/dev/zero"}}`, "bad_task", []string{"/dev/zero", "regular file"}},
		{"an object whose file is a directory", `{"task":{"type":"file","fileName":"/"}}`, "bad_task", []string{"regular file"}},
		{"an object whose file is not there", `{"task":{"type":"file","fileName":"/no/such"}}`, "bad_task", []string{"/no/such"}},
		{"an object whose file is relative", `{"task":{"type":"file","fileName":"x"}}`, "bad_task", []string{"fileName", "absolute"}},
		{"relative dir", `{"task":{"kind":"command","argv":["x"],"dir":"a"}}`, "bad_task", []string{"dir", "absolute"}},
		{"input outside", `{"task":{"kind":"command","argv":["x"],"inputs":[{"name":"../x"}]}}`, "bad_task", []string{"inputs[0]", "leaves"}},
		{"input twice", `{"task":{"kind":"command","argv":["x"],"inputs":[{"name":"x"},{"name":"./x"}]}}`, "bad_task", []string{"inputs[1]", "twice"}},
		{"setuid input", `{"task":{"kind":"command","argv":["x"],"inputs":[{"name":"x","mode":2541}]}}`, "bad_task", []string{"inputs[0]", "mode"}},
		{"bad pattern", `{"task":{"kind":"command","argv":["x"],"outputs":["[a"]}}`, "bad_task", []string{"outputs[0]"}},
		{"absolute output", `{"task":{"kind":"command","argv":["x"],"outputs":["/etc/passwd"]}}`, "bad_task", []string{"outputs[0]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ask(t, h, "POST", "/v1/tasks", c.body).refused(400, c.code, c.words...)
		})
	}
	t.Run("17 MiB", func(t *testing.T) {
		ask(t, h, "POST", "/v1/tasks", strings.Repeat(" ", 17<<20)).refused(413, "too_large", "PUT /v1/blobs")
	})
	if n := len(b.List(tasks.ID{}, nil, 10)); n != 0 {
		t.Errorf("%d tasks were submitted by requests that were refused", n)
	}
}

func TestGoodBodies(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	for _, body := range []string{
		`{"task":{"kind":"command","shell":"a | b","env":{"Mixed_Case":"1"},"dir":"/tmp"}}`,
		`{"task":{"kind":"command","argv":["x","ü","\ud800"]},"target":{"on":["w1"]}}`,
		`{"task":{"kind":"command","argv":["x"],"stdin_base64":""},"options":{}}`,
		`{"task":{"kind":"command","argv":["x"],"inputs":[{"name":"a/b","content_base64":"aGk=","mode":420}],"outputs":["*.csv"]},"target":{"where":"true","n":1,"prefer":"slots","except":["w2"]}}`,
		`{"task":{"kind":"function","name":"f","args":[{"W":1,"w":2}]}}`,
		`{"task":{"kind":"command","argv":["x"]},"target":{},"options":{"timeout_seconds":0.25,"attempts":1,"retry":2,"priority":-3,"slots":2,"wait_workers_seconds":0,"expect":1,"ephemeral":false}}`,
		" {\n\"task\" : {\"kind\":\"command\",\"argv\":[\"x\"]} } \n",
	} {
		var s api.Submitted
		ask(t, h, "POST", "/v1/tasks", body).into(&s)
		ended(t, b, s.Run)
	}
	// No worker has these kinds, so that only the conversion is seen.
	for _, body := range []string{
		`{"task":{"kind":"file","name":"x.py","content_base64":"aGk=","args":["1"],"interpreter":"python3"},"options":{"wait_workers_seconds":0}}`,
		`{"task":{"kind":"file","content_base64":""},"options":{"wait_workers_seconds":0}}`,
		`{"task":{"kind":"git","url":"u/r","ref":"v1","pre":[["npm","install"]],"argv":["./x"],"post":[]},"options":{"wait_workers_seconds":0}}`,
		`{"task":{"kind":"js","source":"function(a){return a}","args":[1,{"B":null}]},"options":{"wait_workers_seconds":0}}`,
	} {
		ask(t, h, "POST", "/v1/tasks", body).refused(409, "no_match", "kind")
	}
}

// A sloppy clock or a hostile worker can claim any time.
func TestTimesThatCannotBeWritten(t *testing.T) {
	r := tasks.Result{State: tasks.StateDone, QueuedAt: time.Now()}
	r.Started = time.Unix(1<<40, 0)
	r.Finished = time.Unix(-1<<40, 0)
	s := api.StatusOf(&r)
	if s.StartedAt != nil || s.FinishedAt != nil || s.QueuedAt == nil {
		t.Errorf("times are %v %v %v; want null where RFC 3339 cannot write them", s.QueuedAt, s.StartedAt, s.FinishedAt)
	}
}

func TestResultThatIsNotJSON(t *testing.T) {
	r := tasks.Result{State: tasks.StateDone}
	r.Value, r.Encoding = []byte(`{"a":`), tasks.JSON
	if s := api.StatusOf(&r); s.Result != nil || !strings.Contains(s.Error, "cannot be shown") {
		t.Errorf("status = %+v; want no result, and an error that says why", s)
	}
	r.Value, r.Encoding = []byte{0xc1}, tasks.Msgpack
	if s := api.StatusOf(&r); s.Result != nil || s.Error == "" {
		t.Errorf("status = %+v; want no result, and an error that says why", s)
	}
}

func TestTimeHasNineDigits(t *testing.T) {
	at := api.Time{Time: time.Date(2025, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))}
	b, err := at.MarshalJSON()
	if err != nil || string(b) != `"2025-01-02T02:04:05.000000000Z"` {
		t.Errorf("MarshalJSON = %s, %v", b, err)
	}
	var back api.Time
	if err := back.UnmarshalJSON(b); err != nil || !back.Equal(at.Time) {
		t.Errorf("UnmarshalJSON(%s) = %v, %v", b, back, err)
	}
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	for _, err := range []error{tasks.ErrBadTask, tasks.ErrBadTarget, tasks.ErrBadOptions, tasks.ErrNoMatch, tasks.ErrFull, tasks.ErrDraining, tasks.ErrUnknown} {
		e := api.ErrorOf(fmt.Errorf("context: %w: more", err))
		if e.Unwrap() != err || e.Status < 400 || e.Error() != "context: "+err.Error()+": more" {
			t.Errorf("ErrorOf(%v) = %+v, which means %v", err, e, e.Unwrap())
		}
	}
}

func FuzzAPIHandler(f *testing.F) {
	for _, s := range []struct{ method, target, body, header string }{
		{"POST", "/v1/tasks", `{"task":{"kind":"command","argv":["echo"]},"options":{"wait_workers_seconds":0}}`, ""},
		{"POST", "/v1/tasks?dry_run=1", `{"task":{"kind":"command","argv":["echo"]},"target":{"where":"1==1.0"}}`, "application/json"},
		{"PUT", "/v1/data", `{"a":{"b":[1e999,"\ud800"]}}`, ""},
		{"GET", "/v1/tasks?state=done&limit=3&after=aaaaaaaaaaaaaaaaaaaaaaaaaa", "", ""},
		{"GET", "/v1/tasks/aaaaaaaaaaaaaaaaaaaaaaaaaa/output?stream=stderr&follow=1", "", ""},
		{"POST", "/v1/tasks/aaaaaaaaaaaaaaaaaaaaaaaaaa/cancel", `{"reason":"kill"}`, ""},
		{"GET", "/v1/blobs/" + strings.Repeat("0", 64), "", ""},
		{"PUT", "/v1/available", `{"available":null}`, "text/plain"},
		{"POST", "/v1/join", `{"addrs":["a","a"]}`, ""},
		{"GET", "/v1/events?after=1", "", ""},
		{"GET", "/v1/events?event=a.*,b.**,*", "", ""},
		{"POST", "/v1/events", `{"event":"a.b","data":{"x":[1e999,"\ud800"]},"target":{"where":"data.x == 1","except":["n"]}}`, ""},
		{"POST", "/v1/events", `{"event":"a","target":{"on":["n"]},"request":true,"timeout_seconds":1e-9}`, "application/json"},
		{"POST", "/v1/tasks?follow=1", `{"task":{"kind":"command","argv":["echo"]}}`, ""},
		{"POST", "/v1/tasks", `{"task":{"kind":"js","source":"x"},"options":{"wait_workers_seconds":9}}`, ""},
		{"GET", "/v1/../%2e%2e//x", "\xff\x00", "x/y;;"},
	} {
		f.Add(s.method, s.target, s.body, s.header)
	}
	b := apitest.New(f, run)
	h := api.NewHandler(b, api.Options{})
	f.Fuzz(func(t *testing.T, method, target, body, kind string) {
		bounds.Input(t, method, target, body, kind)
		defer bounds.Check(t)()
		if !strings.HasPrefix(target, "/") || strings.ContainsAny(target, " \r\n") || method == "" {
			t.Skip("not a request")
		}
		// Who waits for workers, or for what happens, gives up soon.
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, "http://scagent"+target, strings.NewReader(body))
		if err != nil {
			t.Skip("not a request")
		}
		r.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		defer func() {
			if e := recover(); e != nil && e != http.ErrAbortHandler { // by which it cuts off an answer that has begun
				panic(e)
			}
		}()
		h.ServeHTTP(w, r)
		if w.Code == 500 {
			t.Errorf("%s %s %q: %s", method, target, body, w.Body)
		}
		if w.Code < 400 {
			return
		}
		var e api.ErrorBody
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Error == nil || e.Error.Code == "" || e.Error.Message == "" || strings.ContainsAny(e.Error.Message, "\n\x1b\x00") {
			t.Errorf("%s %s %q: %d %s; want an error in one plain line", method, target, body, w.Code, w.Body)
		}
	})
}
