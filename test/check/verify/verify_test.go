package verify

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks/history"
)

func source(name string, b []byte) Source {
	return Source{Name: name, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// sources are the files that the material would be.
func (m *material) sources() (histories, truth []Source) {
	files := map[string]*bytes.Buffer{}
	var order []string
	for i := range m.events {
		e := &m.events[i]
		f := files[e.Node]
		if f == nil {
			f = &bytes.Buffer{}
			files[e.Node] = f
			order = append(order, e.Node)
		}
		for _, n := range m.torn {
			if n == e.Node && e.Name == history.Booted && e.Boot == "boot2" {
				f.WriteString("{\"mono\":12\n")
			}
		}
		f.Write(history.Append(f.AvailableBuffer(), e))
	}
	for _, n := range order {
		histories = append(histories, source(n+".jsonl", files[n].Bytes()))
	}
	var b bytes.Buffer
	for _, l := range m.truth {
		fmt.Fprintf(&b, "%s %d %d %s %d host\n", l.task, l.n, l.pid, l.what, l.at)
	}
	return histories, []Source{source("truth.log", b.Bytes())}
}

// config is strict: at the end all must have ended.
func config() Config {
	cfg := DefaultConfig()
	cfg.Settle = 0
	return cfg
}

func check(t testing.TB, m *material) *Report {
	t.Helper()
	histories, truth := m.sources()
	r, err := Check(config(), histories, truth)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *Report) text(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHistoriesAsTheyShouldBeAreGreen(t *testing.T) {
	for seed := range uint64(20) {
		m := generate(seed)
		if r := check(t, m); !r.OK() || r.Tasks < 50 || r.Lost == 0 || r.Cancelled == 0 || r.Failed == 0 || r.Duplicates != 3 || r.Torn != 1 || r.Cut != 2 {
			t.Fatalf("seed %d, %d events:\n%s", seed, len(m.events), r.text(t))
		}
	}
}
