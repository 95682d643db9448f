package js_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/js"
)

const (
	outOfMemory = "the script used more than 128 MiB of memory"
	tooDeep     = "the script nests too deep: the engine's stack is full"
)

// killers are scripts that nothing inside a process can bound, with what comes of
// them.
var killers = []struct{ name, source, want string }{
	{"huge string", "()=>'x'.repeat(2**40)", outOfMemory},
	{"string that doubles", "()=>{ let s = 'x'; while(1) s += s }", outOfMemory},
	{"array that grows", "()=>{ let a = []; while(1) a.push({a: 1}) }", outOfMemory},
	{"list of letters", "()=>[...'x'.repeat(1e7)]", outOfMemory},
	{"huge buffer", "()=>new ArrayBuffer(2**40)", outOfMemory},
	{"array filled", "()=>Array(1e9).fill()", outOfMemory},
	{"large power", "()=>2n**(2n**33n)", outOfMemory},
	{"many arguments", "()=>[].concat.apply([], Array(1e8))", outOfMemory},
	{"memory at its top level", "'x'.repeat(2**40)", outOfMemory},

	{"JSON of brackets", "()=>JSON.parse('['.repeat(1e6))", tooDeep},
	{"eval of brackets", "()=>eval('['.repeat(1e6))", tooDeep},
	{"proxy that is its own prototype", "()=>{ let o = {}, p = new Proxy(o, {}); Object.setPrototypeOf(o, p); return p.x }", tooDeep},
	{"proxies of proxies", "()=>{ let p = {}; while(1) p = new Proxy(p, {}) }", outOfMemory},
	{"pattern of brackets", "()=>RegExp('('.repeat(1e6))", tooDeep},
	{"source of signs", strings.Repeat("-", 700_000) + "1", tooDeep},
	{"source of arrows", strings.Repeat("a=>", 200_000) + "1", tooDeep},
	{"source of sums", "()=>" + strings.Repeat("1+", 380_000) + "1", tooDeep},
}

func TestKillersEndTheirChildAlone(t *testing.T) {
	needLimits(t)
	little := js.New(js.Config{MemoryBytes: 128 << 20})
	defer little.Close()
	for _, k := range killers {
		t.Run(k.name, func(t *testing.T) {
			r := inChild
			if k.want == outOfMemory {
				r = little // to be there sooner
			}
			out, stdout, stderr := runOn(t, r, k.source)
			if out.Code != tasks.Failed || out.Text != k.want || out.Value != nil || stdout != "" || stderr != "" {
				t.Errorf("%v %q, stdout %.200q, stderr %.200q, want failed %q", out.Code, out.Text, stdout, stderr, k.want)
			}
			if out, _, _ := runOn(t, r, "()=>'well'"); string(out.Value) != `"well"` {
				t.Errorf("the next script: %v %q", out.Code, out.Text)
			}
		})
	}
}

// Steps of the engine that take for ever and cannot be interrupted.
var longSteps = map[string]string{
	"pattern that backtracks": `()=>{ console.log(); /(a+)+\1b/.test('a'.repeat(40)) }`,
	"array of holes searched": "()=>{ console.log(); Array(2**32-1).indexOf(1) }",
	"large power":             "()=>{ console.log(); let n = 10n**8n; return 10n**n }",
}

func TestLongStepsAreStopped(t *testing.T) {
	for name, source := range longSteps {
		for _, c := range []struct {
			reason tasks.StopReason
			code   tasks.Code
			text   string
		}{
			{tasks.StopTimeout, tasks.Timeout, "timed out after 1s"},
			{tasks.StopCancel, tasks.Cancelled, "stopped: cancel"},
			{tasks.StopKill, tasks.Cancelled, "stopped: kill"},
		} {
			t.Run(name+"/"+c.reason.String(), func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				out := inChild.Run(ctx, &tasks.Attempt{
					Task:   &tasks.Task{Source: source},
					Stdout: cancelOn(func() { cancel(&tasks.StopError{Reason: c.reason, After: time.Second}) }),
				})
				if out.Code != c.code || out.Text != c.text || out.Value != nil {
					t.Errorf("%v %q, want %v %q", out.Code, out.Text, c.code, c.text)
				}
			})
		}
	}
	if out, _, _ := runOn(t, inChild, "()=>'well'"); string(out.Value) != `"well"` {
		t.Errorf("the next script: %v %q", out.Code, out.Text)
	}
}

// The compiler works out constant expressions, which no interrupt ends.
func TestCompilingIsStopped(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	out := inChild.Run(ctx, &tasks.Attempt{Task: &tasks.Task{Source: "10n**10n**9n"}})
	if out.Code != tasks.Timeout || out.Text != "timed out" {
		t.Errorf("%v %q, want timeout", out.Code, out.Text)
	}
}

func TestManyShortScripts(t *testing.T) { bothWays(t, testManyShortScripts) }

func testManyShortScripts(t *testing.T, r *js.Runner) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 125 {
				var stdout bytes.Buffer
				source := fmt.Sprintf("x=>{ console.log('%d of', x); return [x, %d] }", i%10, g)
				out := r.Run(t.Context(), &tasks.Attempt{Task: &tasks.Task{Source: source, Args: args(fmt.Sprint(i))}, Stdout: &stdout})
				if string(out.Value) != fmt.Sprintf("[%d,%d]", i, g) || stdout.String() != fmt.Sprintf("%d of %d\n", i%10, i) {
					t.Errorf("%d of %d: %v %q, value %s, stdout %q", i, g, out.Code, out.Text, out.Value, stdout.String())
				}
			}
		})
	}
	wg.Wait()
}

// With the least that a policy can give, scripts work.
func TestLittleMemoryIsEnough(t *testing.T) {
	r := js.New(js.Config{MemoryBytes: 16 << 20})
	defer r.Close()
	for range 20 {
		if out, _, _ := runOn(t, r, "x=>{ let a = []; for (let i = 0; i < 1e3; i++) a.push({i}); return a.length }", args("1")...); string(out.Value) != "1000" {
			t.Fatalf("%v %q", out.Code, out.Text)
		}
	}
}

func TestCloseEndsScripts(t *testing.T) {
	r := js.New(js.Config{})
	out := r.Run(t.Context(), &tasks.Attempt{
		Task: &tasks.Task{Source: "()=>{ console.log(); while(1){} }"},
		Stdout: cancelOn(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}),
	})
	if out.Code != tasks.Cancelled || out.Text != "stopped: the agent is closing" {
		t.Errorf("%v %q", out.Code, out.Text)
	}
	if out := r.Run(t.Context(), &tasks.Attempt{Task: &tasks.Task{Source: "1"}}); out.Code != tasks.Cancelled {
		t.Errorf("after Close: %v %q", out.Code, out.Text)
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		r := js.New(js.Config{})
		if out := r.Run(b.Context(), &tasks.Attempt{Task: &tasks.Task{Source: "1"}}); out.Code != tasks.OK {
			b.Fatal(out.Text)
		}
		r.Close()
	}
}
