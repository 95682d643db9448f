//go:build unix

package home

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scagent/scagent/test/bounds"
)

// FuzzAnnouncement puts any text where an agent announces itself. Who looks for
// an agent either finds that one or gets an error in one line; the socket is the
// one beside it, whatever it says.
func FuzzAnnouncement(f *testing.F) {
	for _, s := range []string{`{"pid":1,"netns":7,"id":"a","name":"n","started_at":"2025-01-01T00:00:00Z"}`, `{`, ``, `[]`, `null`, `{"pid":-1,"netns":7}`, `{"netns":18446744073709551615}`,
		`{"netns":8,"name":"\u001b[2J\n"}`, `{"pid":1e99}`, `{"netns":7,"state_dir":"../../x","Socket":"/x"}`, `{"netns":7,"netns":8}`, strings.Repeat("[", 20_000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		e := in(testEnv(t), 7)
		h := claim(t, Options{Env: e})
		announce(t, h)
		file := strings.TrimSuffix(h.Socket, ".sock") + ".json"
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		defer bounds.Check(t)()
		got, err := e.Find()
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("%q: %q is no line", b, err)
			}
			return
		}
		if got.Socket != h.Socket || filepath.Dir(got.Socket) != filepath.Dir(file) || got.N != 1 || got.NetNS != 7 || !json.Valid(b) {
			t.Errorf("%q: found %+v", b, got)
		}
	})
}
