package facts

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCollectDescribesThisMachine(t *testing.T) {
	f := Collect(t.Context())
	if f.OS != runtime.GOOS || f.Arch != runtime.GOARCH {
		t.Errorf("Collect() = os %q, arch %q; want %q, %q", f.OS, f.Arch, runtime.GOOS, runtime.GOARCH)
	}
	if f.CPUs < 1 || f.CPUs > runtime.NumCPU() {
		t.Errorf("Collect().CPUs = %d, want 1 to %d", f.CPUs, runtime.NumCPU())
	}
	if f.Memory < 1<<20 {
		t.Errorf("Collect().Memory = %d bytes, want at least a megabyte", f.Memory)
	}
	if name, err := os.Hostname(); err == nil && len(name) <= maxTextBytes && f.Hostname != name {
		t.Errorf("Collect().Hostname = %q, want %q", f.Hostname, name)
	}
	if f.Kernel == "" {
		t.Error("Collect().Kernel is empty")
	}
}

func TestJSONIsSmallAndHasStableNames(t *testing.T) {
	b, err := json.Marshal(Collect(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if len(b) >= 300 {
		t.Errorf("facts take %d bytes, want less than 300: %s", len(b), b)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"os", "arch", "cpus", "memory", "hostname", "kernel"} {
		if _, ok := m[k]; !ok {
			t.Errorf("facts have no %q: %s", k, b)
		}
	}
}

func TestUnknownFactsAreLeftOut(t *testing.T) {
	b, err := json.Marshal(Facts{OS: "linux", Arch: "arm64", CPUs: 4})
	if want := `{"os":"linux","arch":"arm64","cpus":4}`; err != nil || string(b) != want {
		t.Errorf("Marshal = %s, %v; want %s", b, err, want)
	}
}

func TestCollectSurvivesAnEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if f := Collect(ctx); f.OS != runtime.GOOS || f.CPUs < 1 {
		t.Errorf("Collect(ended) = %+v, want at least os and cpus", f)
	}
}

func TestCPUsIgnoreTheEnvironment(t *testing.T) {
	t.Setenv("GOMAXPROCS", "1")
	if got := cpus(); got != runtime.NumCPU() {
		t.Errorf("cpus() with GOMAXPROCS=1 = %d, want %d", got, runtime.NumCPU())
	}
}

func TestCleanMakesTextHarmless(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain", "6.18.0-1", "6.18.0-1"},
		{"control characters", "a\x1b[2J\nb\x00", "a[2Jb"},
		{"not UTF-8", "a\xffb", "ab"},
		{"long", strings.Repeat("x", 100), strings.Repeat("x", maxTextBytes)},
		{"long, cut inside a rune", strings.Repeat("x", 63) + "é", strings.Repeat("x", 63)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := clean(c.in); got != c.want || !utf8.ValidString(got) {
				t.Errorf("clean(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func TestInterpretersAreThoseInThePath(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files are executable by their extension on windows")
	}
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"python3": 0o755, "Rscript": 0o755, "node": 0o644, "other": 0o755} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	if got, want := Interpreters(), []string{"Rscript", "python3"}; !slices.Equal(got, want) {
		t.Errorf("Interpreters() = %q, want %q", got, want)
	}
	t.Setenv("PATH", "")
	if got := Interpreters(); got == nil || len(got) != 0 {
		t.Errorf("Interpreters() with an empty PATH = %#v, want an empty list", got)
	}
}

func TestInterpretersListIsSorted(t *testing.T) {
	if !slices.IsSorted(interpreters[:]) {
		t.Errorf("%q is not sorted", interpreters)
	}
}
