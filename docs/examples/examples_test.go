//go:build linux

package examples

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is a process of an example.
type program struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed, and replaced, with each line
	done  chan struct{} // closed when it has ended
}

// build builds an example.
func build(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", path, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return path
}

// pool starts programs that find each other: all join the first.
type pool struct {
	t       *testing.T
	path    string
	cluster string
	first   string // its address
}

func newPool(t *testing.T, name string) *pool {
	return &pool{t: t, path: build(t, name), cluster: "example-" + rand.Text()}
}

// at is how each program says where it is.
var at = regexp.MustCompile(` at (127\.0\.0\.1:\d+)$`)

// start starts one more. Unless quiet, it waits until it is up.
func (p *pool) start(args ...string) *program {
	p.t.Helper()
	args = append([]string{"-cluster", p.cluster, "-bind", "127.0.0.1"}, args...)
	if p.first != "" {
		args = append([]string{"-join", p.first}, args...)
	}
	g := &program{t: p.t, cmd: exec.Command(p.path, args...), more: make(chan struct{}), done: make(chan struct{})}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if g.in, err = g.cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	g.cmd.Stderr = os.Stderr
	if err := g.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		defer close(g.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			g.mu.Lock()
			g.lines = append(g.lines, lines.Text())
			close(g.more)
			g.more = make(chan struct{})
			g.mu.Unlock()
		}
		g.cmd.Wait() // the state tells
	}()
	p.t.Cleanup(func() {
		g.cmd.Process.Kill()
		<-g.done
	})
	return g
}

// up waits until a program that stays has said where it is.
func (p *pool) up(g *program) *program {
	p.t.Helper()
	line := g.await("its address", at.MatchString)
	if p.first == "" {
		p.first = at.FindStringSubmatch(line)[1]
	}
	return g
}

func (g *program) printed() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.lines)
}

// await waits for a line, and returns the first.
func (g *program) await(what string, is func(line string) bool) string {
	g.t.Helper()
	limit := time.After(time.Minute)
	for {
		g.mu.Lock()
		lines, more := g.lines, g.more
		g.mu.Unlock()
		if i := slices.IndexFunc(lines, is); i >= 0 {
			return lines[i]
		}
		select {
		case <-more:
		case <-g.done:
			if i := slices.IndexFunc(g.printed(), is); i < 0 {
				g.t.Fatalf("%v ended without %s; it printed\n%s", g.cmd.Args, what, strings.Join(g.printed(), "\n"))
			}
		case <-limit:
			g.t.Fatalf("%v does not print %s; it printed\n%s", g.cmd.Args, what, strings.Join(lines, "\n"))
		}
	}
}

func (g *program) line(want string) string {
	g.t.Helper()
	return g.await(strconv.Quote(want), func(s string) bool { return s == want })
}

func (g *program) say(line string) {
	g.t.Helper()
	if _, err := io.WriteString(g.in, line+"\n"); err != nil {
		g.t.Fatal(err)
	}
}

// ended waits for the end and returns the exit status.
func (g *program) ended() int {
	g.t.Helper()
	select {
	case <-g.done:
	case <-time.After(time.Minute):
		g.t.Fatalf("%v does not end; it printed\n%s", g.cmd.Args, strings.Join(g.printed(), "\n"))
	}
	return g.cmd.ProcessState.ExitCode()
}

// The counts are right also when a worker is killed while it counts: there is more to
// count until it has some, and after it is gone.
func TestWordcount(t *testing.T) {
	t.Parallel()
	p := newPool(t, "wordcount")
	p.up(p.start("-name", "w1"))
	w2 := p.up(p.start("-name", "w2"))
	path := filepath.Join(t.TempDir(), "text")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.OpenFile(path, os.O_RDWR, 0) // not to wait here for who reads
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	count := p.start("-name", "m", "-count", path)
	written := 0
	write := func() {
		t.Helper()
		text.SetWriteDeadline(time.Now().Add(time.Minute))
		if _, err := text.WriteString(strings.Repeat("The quick brown fox\njumps over the lazy dog, the end.\n", 500)); err != nil {
			t.Fatalf("%v; wordcount printed\n%s", err, strings.Join(count.printed(), "\n"))
		}
		written += 500
	}
	for end := time.Now().Add(time.Minute); !slices.Contains(w2.printed(), "counts for m"); write() {
		if time.Now().After(end) {
			t.Fatal("w2 does not count")
		}
	}
	w2.cmd.Process.Kill()
	for range 200 {
		write()
	}
	text.Close()
	want := []string{fmt.Sprint(3*written, " the")}
	for _, word := range []string{"brown", "dog", "end", "fox", "jumps", "lazy", "over", "quick"} {
		want = append(want, fmt.Sprint(written, " ", word))
	}
	if status := count.ended(); status != 0 || !slices.Equal(count.printed(), want) {
		t.Errorf("wordcount ended with %d and printed\n%s\nwant\n%s", status, strings.Join(count.printed(), "\n"), strings.Join(want, "\n"))
	}
}

// Lines come once and in order, in their room alone.
func TestChat(t *testing.T) {
	t.Parallel()
	p := newPool(t, "chat")
	ann := p.up(p.start("-name", "ann"))
	bob := p.up(p.start("-name", "bob"))
	eve := p.up(p.start("-name", "eve", "-room", "attic"))
	for _, g := range []*program{ann, bob, eve} {
		for _, name := range []string{"ann", "bob", "eve"} {
			if !slices.Contains(g.cmd.Args, name) {
				g.line("* " + name + " has come")
			}
		}
	}
	var want []string
	for i := range 100 {
		ann.say(fmt.Sprint("hello ", i))
		want = append(want, fmt.Sprint("ann: hello ", i))
	}
	bob.line("ann: hello 99")
	bob.say("bye")
	ann.line("bob: bye")
	bob.cmd.Process.Signal(syscall.SIGINT)
	if status := bob.ended(); status != 0 {
		t.Errorf("bob ended with %d", status)
	}
	ann.await("that bob is gone", func(s string) bool { return strings.HasPrefix(s, "* bob has gone") })
	if got := slices.DeleteFunc(bob.printed(), func(s string) bool { return strings.HasPrefix(s, "*") }); !slices.Equal(got, want) {
		t.Errorf("bob read %q", got)
	}
	if got := slices.DeleteFunc(eve.printed(), func(s string) bool { return strings.HasPrefix(s, "*") }); len(got) > 0 {
		t.Errorf("in another room eve read %q", got)
	}
}

// Two that are published at once end alike everywhere, and who comes later has it too.
func TestConfigPush(t *testing.T) {
	t.Parallel()
	p := newPool(t, "configpush")
	var all []*program
	for i := range 4 {
		all = append(all, p.up(p.start("-name", fmt.Sprint("n", i))))
	}
	// Every node has heard of every other when what each publishes has come to all.
	for i, g := range all {
		g.say(fmt.Sprint("first of ", i))
		for _, o := range all {
			o.line(fmt.Sprint("config: first of ", i))
		}
	}
	all[1].say("one")
	all[2].say("two")
	all[1].line("config: one")
	all[2].line("config: two")
	last := func(g *program) string {
		lines := g.printed()
		return lines[len(lines)-1]
	}
	// Both are published: one of them is the last that all come to. A third then comes after it.
	eventually(t, "all have one of the two, the same", func() bool {
		for _, g := range all {
			if l := last(g); l != last(all[0]) || l != "config: one" && l != "config: two" {
				return false
			}
		}
		return true
	})
	settled := last(all[0])
	late := p.up(p.start("-name", "late"))
	late.line(settled)
	late.say("third")
	for _, g := range append(all, late) {
		g.line("config: third")
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come to be that %s", what)
		}
	}
}

// Who joins works, who is killed is not missed, and no task is done twice or never. There
// is work until the last has come.
func TestGrowingPool(t *testing.T) {
	t.Parallel()
	p := newPool(t, "growingpool")
	m := p.up(p.start("-name", "m", "-tasks", "1000000"))
	w1 := p.up(p.start("-name", "w1", "-work"))
	m.line("w1 joins")
	m.line("w1 works")
	w2 := p.up(p.start("-name", "w2", "-work"))
	m.line("w2 joins")
	m.line("w2 works")
	w1.cmd.Process.Kill()
	m.line("w1 leaves")
	w3 := p.up(p.start("-name", "w3", "-work"))
	m.line("w3 works")
	m.cmd.Process.Signal(syscall.SIGINT)
	m.didAll(0)
	p.first = at.FindStringSubmatch(w2.await("its address", at.MatchString))[1]
	p.start("-name", "m2", "-tasks", "100").didAll(100)
	for _, w := range []*program{w2, w3} {
		w.cmd.Process.Signal(syscall.SIGINT)
		if status := w.ended(); status != 0 {
			t.Errorf("%v ended with %d", w.cmd.Args, status)
		}
	}
}

// didAll waits for the end of who hands out tasks, and wants each done once: of so many,
// or of as many as it says.
func (g *program) didAll(tasks int) {
	g.t.Helper()
	status, done := g.ended(), 0
	for _, line := range g.printed() {
		var w string
		var n int
		if k, _ := fmt.Sscanf(line, "%s did %d", &w, &n); k == 2 {
			done += n
		}
	}
	if tasks == 0 {
		tasks = done
	}
	sum := fmt.Sprint("sum ", (tasks-1)*tasks*(2*tasks-1)/6)
	if status != 0 || done == 0 || done != tasks || !slices.Contains(g.printed(), sum) {
		g.t.Errorf("%v ended with %d, and the workers did %d tasks, want %d and %q:\n%s", g.cmd.Args, status, done, tasks, sum, strings.Join(g.printed(), "\n"))
	}
}
