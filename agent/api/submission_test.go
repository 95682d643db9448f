package api

import (
	"context"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/blob"
	"github.com/scagent/scagent/tasks/wire"
	"github.com/scagent/scagent/test/bounds"
)

// noBlobs is a backend that takes every blob and keeps none.
type noBlobs struct{ Backend }

func (noBlobs) PutBlob(_ context.Context, r io.Reader) (string, int64, error) {
	n, err := io.Copy(io.Discard, r)
	return strings.Repeat("0", 64), n, err
}

func (noBlobs) OpenBlob(string) (io.ReadSeekCloser, int64, error) { return nil, 0, blob.ErrNotFound }

// FuzzSubmission reads bodies of POST /v1/tasks. What is accepted is valid and
// travels as it is; what is not is the caller's fault, in one line.
func FuzzSubmission(f *testing.F) {
	for _, s := range []string{
		`{"task":{"kind":"command","argv":["echo","ü"],"env":{"A":"1"},"dir":"/","stdin_base64":"aGk=","outputs":["*"]},"target":{"on":["w1"]},"options":{"timeout_seconds":0.5}}`,
		`{"task":{"kind":"file","name":"x.py","content_base64":"","args":["1"],"interpreter":"sh","inputs":[{"name":"a/b","type":"symlink","content_base64":"Yg=="}]}}`,
		`{"task":{"kind":"git","url":"https://h/r","ref":"v1","pre":[["a"]],"argv":["./x"],"post":[]},"target":{"where":"true","n":1,"prefer":"1","except":["w2"]}}`,
		`{"task":{"kind":"function","name":"f","args":[{"w":1e999},[[[]]]]},"options":{"attempts":1,"priority":-1,"slots":2,"ephemeral":true}}`,
		`{"task":{"kind":"js","source":"x","args":[` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + `]}}`,
		`{"task":{"kind":"js","source":"x","args":[` + strings.Repeat(strings.Repeat(`{"a":`, 5_000)+"1"+strings.Repeat("}", 5_000)+",", 2) + `1]}}`,
		`{"task":{"type":"function","func":"f","args":[1]},"target":{"all":true}}`, `{"task":{"type":"file","fileName":"/dev/zero"}}`, `{"task":{"type":"file","fileName":"/"}}`,
		`{"task":{"kind":"command","argv":["a\u0000"]}}`, `{"task":{"kind":"command","blob":"zz","argv":["x"]}}`, `{}`, `[`, `null`, "\xff", `{"task":{}} 1`,
		`{"task":{"kind":"command","argv":["x"]},"target":{"where":"((("}}`, `{"task":{"kind":"command","argv":["x"]},"options":{"expect":-1}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		bounds.Input(t, body)
		defer bounds.Check(t)()
		s, err := parseSubmission(t.Context(), noBlobs{}, body)
		if err != nil {
			e := ErrorOf(err)
			if e.Code == "" || e.Status < 400 || e.Status >= http.StatusInternalServerError || e.Message == "" || e.Message != oneLine(e.Message) || len(e.Message) > 8<<10 {
				t.Errorf("%q: %+v", body, e)
			}
			return
		}
		if err := s.Validate(); err != nil {
			t.Errorf("%q was accepted: %v", body, err)
		}
		spec := wire.AppendTask(nil, &s.Task)
		if len(spec) > tasks.MaxSpecBytes {
			return // master.Submit says so
		}
		back, err := wire.DecodeTask(spec)
		if err != nil {
			t.Fatalf("%q cannot travel: %v", body, err)
		}
		if again := wire.AppendTask(nil, &back); !reflect.DeepEqual(again, spec) {
			t.Errorf("%q travels as %q, and arrives as %q", body, spec, again)
		}
	})
}
