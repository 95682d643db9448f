package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/test/bounds"
)

// FuzzStatus shows what a worker may say of how a task ended: it is always JSON.
func FuzzStatus(f *testing.F) {
	f.Add([]byte{0xc1}, "text", uint8(tasks.Msgpack), int64(1), uint8(0))
	f.Add([]byte(`{"a":1}`), "a\x1b[2J\nb\xff", uint8(tasks.JSON), int64(-1<<63), uint8(9))
	f.Add([]byte("{\n"), "", uint8(tasks.JSON), int64(1<<63-1), uint8(200))
	f.Add([]byte{0xd6, 0xff, 0xff, 0xff, 0xff, 0xff}, "\u2028", uint8(9), int64(0), uint8(1))
	f.Add([]byte{0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0}, "", uint8(tasks.Msgpack), int64(0), uint8(0))
	f.Add([]byte("\"\xff\""), "", uint8(tasks.JSON), int64(0), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, text string, enc uint8, n int64, code uint8) {
		bounds.Input(t, b)
		bounds.Input(t, text)
		defer bounds.Check(t)()
		r := tasks.Result{State: tasks.StateFailed, Kind: tasks.Kind(text), Worker: text, FinishedAt: time.Unix(0, n), QueuedAt: time.Unix(n, 0),
			Stdout: b, Stderr: []byte(text), StdoutCut: n}
		r.Outcome = tasks.Outcome{Code: tasks.Code(code), Exit: int(n), Signal: text, Text: text, Value: b, Encoding: tasks.Encoding(enc),
			Started: time.Unix(0, n), Finished: time.Unix(0, -n), User: time.Duration(n), MaxRSS: n,
			Outputs: []tasks.OutputFile{{Name: text, Mode: uint32(n), Content: tasks.Content{Inline: b, Size: n}}},
			Steps:   []tasks.Step{{Stage: text, Command: text, Exit: int(n), Signal: text}}}
		for _, s := range []api.TaskStatus{api.StatusOf(&r), api.BriefOf(&r)} {
			out, err := json.Marshal(s)
			if err != nil || !utf8.Valid(out) {
				t.Fatalf("%+v as JSON: %v", r, err)
			}
			var back api.TaskStatus
			if err := json.Unmarshal(out, &back); err != nil {
				t.Errorf("%s cannot be read: %v", out, err)
			}
			if s.Stdout != nil && *s.Stdout != string(b) || s.Stdout == nil && s.StdoutBase64 != nil && string(back.StdoutBase64) != string(b) {
				t.Errorf("output %q is shown as %s", b, out)
			}
			if strings.ContainsAny(fmt.Sprint(s.Reason), " \n\x1b") {
				t.Errorf("code %d is called %q", code, s.Reason)
			}
		}
	})
}
