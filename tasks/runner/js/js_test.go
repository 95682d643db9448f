package js_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/js"
)

func args(list ...string) (out []json.RawMessage) {
	for _, a := range list {
		out = append(out, json.RawMessage(a))
	}
	return out
}

func ExampleRunner() {
	r := js.New(js.Config{})
	defer r.Close()
	out := r.Run(context.Background(), &tasks.Attempt{
		Task: &tasks.Task{
			Kind:   tasks.JS,
			Source: `function(a,b,c){ console.log("Hello %s %s!",a,b); return c }`,
			Args:   args(`"distributed"`, `"world"`, `"hmm"`),
		},
		Stdout: os.Stdout,
	})
	fmt.Printf("%s\n", out.Value)
	// Output:
	// Hello distributed world!
	// "hmm"
}

func TestValues(t *testing.T) {
	for source, c := range map[string]struct {
		args []json.RawMessage
		want string
	}{
		"function(a,b){return a+b}":                     {args("1", "2"), "3"},
		"function(a,b){return a+b};\n":                  {args("1", "2"), "3"},
		"// sum\nfunction add(a,b){return a+b} // here": {args("1", "2"), "3"},
		"(a,b)=>a+b":                        {args("1", "2"), "3"},
		"async a=>{ await null; return a }": {args(`{"a":[]}`), `{"a":[]}`},
		"async function(){ return await Promise.all([1,2])}":      {nil, "[1,2]"},
		"let n = 5; function f(a){return a+n}; f":                 {args("1"), "6"},
		"'use strict'; (function(){ return this === undefined })": {nil, "true"},
		"function(){ return arguments.length }":                   {args("1", "2", "3"), "3"},
		"function*(){}":                                           {nil, "{}"},
		"1+1":                                                     {nil, "2"},
		"1, 2":                                                    {nil, "2"},
		"{a: 1}":                                                  {nil, `{"a":1}`},
		"{ let z = 3; z*2 }":                                      {nil, "6"},
		"if (true) 'yes'; else 'no'":                              {nil, `"yes"`},
		"Promise.resolve(4)":                                      {nil, "4"},
		"()=>{}":                                                  {nil, "null"},
		"()=>null":                                                {nil, "null"},
		"()=>NaN":                                                 {nil, "null"},
		"()=>-0":                                                  {nil, "0"},
		"()=>[undefined, ()=>1, Symbol(), , 1/0]":                                             {nil, "[null,null,null,null,null]"},
		"()=>({a: undefined, b(){}, c: Symbol(), d: 1, e: undefined})":                        {nil, `{"d":1}`},
		"()=>[new Number(1), new String('s'), new Boolean(false), new Date(0), /a/, new Map]": {nil, `[1,"s",false,"1970-01-01T00:00:00.000Z",{},{}]`},
		"()=>[1e21, 0.1, 1e-7, JSON.rawJSON('123456789012345678901')]":                        {nil, "[1e+21,0.1,1e-7,123456789012345678901]"},
		"x=>[x, x+1, -x]":      {args("9007199254740991"), "[9007199254740991,9007199254740992,-9007199254740991]"},
		"x=>x":                 {args(`"ü😀\u0000\u001f\"\\<>\u2028\n"`), `"ü😀\u0000\u001f\"\\<>` + "\u2028" + `\n"`},
		"x=>Object.entries(x)": {args(` {"b":1,"__proto__":[2],"a":{"":null}}`), `[["b",1],["__proto__",[2]],["a",{"":null}]]`},
		"(x,y)=>y":             {args("1", " [ true , false ] "), "[true,false]"},
		"()=>({toJSON(k){return [k,this.a]}, a: 1})":                                           {nil, `["",1]`},
		"()=>[{toJSON(k){return k}}]":                                                          {nil, `["0"]`},
		"()=>new Proxy({a:1}, {})":                                                             {nil, `{"a":1}`},
		"()=>new Proxy(new Proxy([1], {}), {})":                                                {nil, "[1]"},
		"()=>{ let a=[]; return [a,a] }":                                                       {nil, "[[],[]]"},
		"()=>{ BigInt.prototype.toJSON=function(){return 'big '+this}; return 5n }":            {nil, `"big 5"`},
		"()=>{ JSON.stringify=JSON.parse=()=>'bad'; Array.isArray=()=>false; return [{a:1}] }": {nil, `[{"a":1}]`},
		"JSON.parse=()=>'bad'; x=>x":                                                           {args(`{"a":1}`), `{"a":1}`},
		"()=>{ let p=Promise.reject(1); return p.catch(x=>x+1) }":                              {nil, "2"},
		"()=>typeof require+typeof process+typeof setTimeout+typeof fetch":                     {nil, `"undefinedundefinedundefinedundefined"`},
		"()=>'\\ud800'": {nil, "\"\uFFFD\""},
		"()=>new Function('return 1 //\\n//# sourceMappingURL=/etc/hostname')()": {nil, "1"},
		"()=>1 //# sourceMappingURL=/etc/hostname":                               {nil, "1"},
	} {
		out, _, stderr := run(t, source, c.args...)
		if out.Code != tasks.OK || string(out.Value) != c.want || out.Encoding != tasks.JSON || stderr != "" {
			t.Errorf("%s: %v %q, value %s, stderr %q, want %s", source, out.Code, out.Text, out.Value, stderr, c.want)
		}
		if !json.Valid(out.Value) {
			t.Errorf("%s: not JSON", source)
		}
	}
}

func TestFailures(t *testing.T) {
	const noJSON = ", which JSON does not have"
	for source, want := range map[string]string{
		"function(){\n  undefined.x\n}":                                                       "TypeError: Cannot read property 'x' of undefined (at line 2:13)",
		"function(){ throw new RangeError('a\\nb') }":                                         "RangeError: a b (at line 1:19)",
		"let n = 1;\n\nthrow new Error(n)":                                                    "Error: 1 (at line 3:7)",
		"async()=>{ await null; throw new Error('late') }":                                    "Error: late (at line 1:30)",
		"class E extends Error{}; ()=>{ throw new E('own') }":                                 "Error: own (at line 1:38)",
		"()=>{ throw null }":                                                                  "thrown: null (at line 1:7)",
		"()=>{ throw 'a\\nb' }":                                                               `thrown: "a\nb" (at line 1:7)`,
		"()=>{ throw {code: 5} }":                                                             `thrown: {"code":5} (at line 1:7)`,
		"()=>Promise.reject(5)":                                                               "thrown: 5",
		"()=>{ throw {get a(){ throw 1 }} }":                                                  "thrown: an object (at line 1:7)",
		"()=>{ throw new Proxy({}, {get(){ throw 1 }}) }":                                     "thrown: an object (at line 1:7)",
		"()=>{ let p=Proxy.revocable({},{}); p.revoke(); throw p.proxy }":                     "thrown: an object (at line 1:49)",
		"()=>{ let e=new Error('x'); e.stack=5; throw e }":                                    "Error: x",
		"()=>{ let e=new Error; Object.defineProperty(e,'stack',{get(){throw 1}}); throw e }": "an error that throws when it is read (at line 1:13)",
		"()=>{ Promise.reject(new Error('lost')); return 1 }":                                 "unhandled rejection: Error: lost (at line 1:22)",
		"()=>new Promise(()=>{})":                                                             "the Promise that was returned never settles: nothing is left to run",
		"async()=>{ await new Promise(()=>{}) }":                                              "the Promise that was returned never settles: nothing is left to run",
		"()=>eval('nope()')":                                                                  "ReferenceError: nope is not defined (at line 1:9)",
		"class A{}":                                                                           "TypeError: Class constructor cannot be invoked without 'new'",
		"()=>require('fs')":                                                                   "ReferenceError: require is not there in scagent's js: it has no modules (at line 1:12)",
		"()=>process.env":                                                                     "ReferenceError: process is not there in scagent's js: it has no processes (at line 1:5)",
		"()=>new Promise(r=>setTimeout(r,1))":                                                 "ReferenceError: setTimeout is not there in scagent's js: it has no timers (at line 1:30)",
		"()=>setInterval(()=>{},1)":                                                           "ReferenceError: setInterval is not there in scagent's js: it has no timers (at line 1:16)",
		"()=>setImmediate(()=>{})":                                                            "ReferenceError: setImmediate is not there in scagent's js: it has no timers (at line 1:17)",
		"async()=>{ await fetch('x') }":                                                       "ReferenceError: fetch is not there in scagent's js: it has no network (at line 1:23)",

		"()=>'x'.repeat(2**53-1)":  "RangeError: a string or a list is too long",
		"()=>'xx'.repeat(2**53-1)": "RangeError: a string or a list is too long",

		"()=>()=>1":                           "the result is a function" + noJSON,
		"()=>new Proxy(()=>1, {})":            "the result is a function" + noJSON,
		"()=>Symbol('q')":                     "the result is a symbol" + noJSON,
		"()=>1n":                              "the result is a BigInt" + noJSON + "; make it a string or a number",
		"()=>({a:[1,{b:2n}]})":                "a.1.b in the result is a BigInt" + noJSON + "; make it a string or a number",
		"()=>{ let a={}; a.b=[a]; return a }": "b.0 in the result contains itself, which JSON cannot say",
		"()=>{ let a=[]; for(let i=0;i<1000;i++) a=[a]; return a }":       "the result nests more than 1000 deep",
		"()=>{ class X { toJSON(){ return {a: new X} } }; return new X }": "the result nests more than 1000 deep",
		"()=>'x'.repeat(524287)":                  "the result takes more than 524288 bytes as JSON; return less",
		"()=>Array(2**32-1)":                      "the result takes more than 524288 bytes as JSON; return less",
		"()=>new Proxy({},{ownKeys(){throw 1}})":  "thrown: 1 (at line 1:29)",
		"()=>({get a(){ throw new Error('g') }})": "Error: g (at line 1:22)",

		"()=>{ function f(){ f() }; f() }":                                   "RangeError: calls nest more than 2048 deep (at line 1:22)",
		"()=>{ function f(){ try { f() } catch { return 1 } }; return f() }": "RangeError: calls nest more than 2048 deep (at line 1:28)",
		"()=>{ function f(){ return [1].map(f) }; return f() }":              "RangeError: calls nest more than 2048 deep (at line 1:35)",
		"()=>{ let o={toJSON(){ console.log(o) }}; return o }":               "RangeError: calls nest more than 2048 deep (at line 1:35)",
	} {
		out, _, stderr := run(t, source)
		if out.Code != tasks.Failed || out.Text != want || out.Value != nil {
			t.Errorf("%s:\n got %v %q\nwant failed %q", source, out.Code, out.Text, want)
		}
		if at := strings.LastIndex(want, " (at line "); at >= 0 && !strings.Contains(stderr, "task.js:"+strings.TrimSuffix(want[at+len(" (at line "):], ")")) {
			t.Errorf("%s: no stack on standard error: %q", source, stderr)
		}
	}
}

func TestLargestResult(t *testing.T) {
	out, _, _ := run(t, "()=>'x'.repeat(524286)")
	if out.Code != tasks.OK || len(out.Value) != tasks.MaxValueBytes {
		t.Errorf("%v %q, %d bytes", out.Code, out.Text, len(out.Value))
	}
}

func TestRejectedInput(t *testing.T) {
	for source, c := range map[string]struct {
		args []json.RawMessage
		want string
	}{
		"":                                 {nil, "SyntaxError: the source is empty; want a function (at line 1:1)"},
		"/* nothing */":                    {nil, "SyntaxError: the source is empty; want a function (at line 1:1)"},
		"function(a){ let x = ; }":         {nil, "SyntaxError: Unexpected token ; (at line 1:22)"},
		"function(a){\n  let x = ;\n}":     {nil, "SyntaxError: Unexpected token ; (at line 2:11)"},
		"function(a){\n":                   {nil, "SyntaxError: Unexpected end of input (at line 1:13)"},
		"let x = 1;\nlet y = = 2;":         {nil, "SyntaxError: Unexpected token = (at line 2:9)"},
		"function(){ let x; let x }":       {nil, "SyntaxError: Identifier 'x' has already been declared (at line 1:24)"},
		"function(){ break }":              {nil, "SyntaxError: Illegal break statement (at line 1:13)"},
		"return 1":                         {nil, "SyntaxError: Illegal return statement (at line 1:1)"},
		"1]+[2":                            {nil, "SyntaxError: Unexpected token ] (at line 1:2)"},
		"...x":                             {nil, "SyntaxError: Unexpected token ... (at line 1:1)"},
		"import fs from 'fs'":              {nil, "SyntaxError: import is not there in scagent's js: it has no modules (at line 1:1)"},
		"function(){\n return import(1) }": {nil, "SyntaxError: import is not there in scagent's js: it has no modules (at line 2:9)"},
		"export default 1":                 {nil, "SyntaxError: export is not there in scagent's js: it has no modules (at line 1:1)"},
		"\n" + strings.Repeat("[", 10000):  {nil, "SyntaxError: brackets nest more than 2000 deep (at line 2:2001)"},
		strings.Repeat(" ", tasks.MaxSpecBytes) + "1": {nil, "the source takes 786433 bytes, at most 786432; send data as arguments"},
		"'text'": {args("1", "2"), "the source is a string and not a function: it takes no arguments"},
		"x=>x":   {args("1", "{"), "argument 2 of 2 is not JSON"},
		"n=>n":   {args("1e400"), "argument 1 of 1: SyntaxError: json: cannot unmarshal number 1e400 into Go value of type float64"},
		"m=>m":   {args("[1e400]"), "argument 1 of 1: SyntaxError: json: cannot unmarshal number 1e400 into Go value of type float64"},
		"a=>a":   {args(""), "argument 1 of 1 is not JSON"},
		"b=>b":   {args("1 2"), "argument 1 of 1 is not JSON"},
		"c=>c":   {args(strings.Repeat("[", 100_000)), "argument 1 of 1 is not JSON"},
	} {
		if out, _, _ := run(t, source, c.args...); out.Code != tasks.BadInput || out.Text != c.want {
			t.Errorf("%.60q:\n got %v %q\nwant bad_input %q", source, out.Code, out.Text, c.want)
		}
	}
}

// cancelOn ends a context when something is written: the script is running then.
type cancelOn func()

func (f cancelOn) Write(p []byte) (int, error) { f(); return len(p), nil }

func TestScriptIsInterrupted(t *testing.T) { bothWays(t, testScriptIsInterrupted) }

func testScriptIsInterrupted(t *testing.T, r *js.Runner) {
	for _, source := range []string{
		"()=>{ console.log(); while(1){} }",
		"console.log(); while(1){}",
		"()=>{ console.log(); try { while(1){} } catch { while(1){} } finally { while(1){} } }",
		"()=>{ console.log(); const f=()=>Promise.resolve().then(f); return f() }",
		"async()=>{ console.log(); while(1) await null }",
		"()=>({toJSON(){ console.log(); while(1){} }})",
		"()=>({get a(){ console.log(); while(1){} }})",
		"()=>{ console.log(); [1,2].sort(()=>{ while(1){} }) }",
		"()=>{ console.log(); for (const x of {[Symbol.iterator]: ()=>({next: ()=>({}), return(){ while(1){} }})}); }",
		"()=>{ while(1) console.log() }",
		"()=>console.log()",
	} {
		for _, c := range []struct {
			reason tasks.StopReason
			code   tasks.Code
			text   string
		}{
			{tasks.StopCancel, tasks.Cancelled, "stopped: cancel"},
			{tasks.StopTimeout, tasks.Timeout, "timed out after 1s"},
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			out := r.Run(ctx, &tasks.Attempt{
				Task:   &tasks.Task{Source: source},
				Stdout: cancelOn(func() { cancel(&tasks.StopError{Reason: c.reason, After: time.Second}) }),
			})
			if out.Code != c.code || out.Text != c.text || out.Value != nil {
				t.Errorf("%s: %v %q, want %v %q", source, out.Code, out.Text, c.code, c.text)
			}
		}
	}
}

func TestTimeoutInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out := here.Run(ctx, &tasks.Attempt{
			Task:   &tasks.Task{Source: "()=>{ while(1) console.log() }"},
			Stdout: cancelOn(func() { time.Sleep(time.Second) }), // a slow reader
		})
		if took := out.Finished.Sub(out.Started); out.Code != tasks.Timeout || took < time.Minute || took > time.Minute+time.Second {
			t.Errorf("%v %q after %v", out.Code, out.Text, took)
		}
	})
}

func TestEndedContextRunsNothing(t *testing.T) { bothWays(t, testEndedContextRunsNothing) }

func testEndedContextRunsNothing(t *testing.T, r *js.Runner) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := r.Run(ctx, &tasks.Attempt{
		Task:   &tasks.Task{Source: "()=>console.log()"},
		Stdout: cancelOn(func() { t.Error("it ran") }),
	})
	if out.Code != tasks.Cancelled {
		t.Errorf("Run = %+v", out)
	}
}

func TestPanicOfAWriterIsTheAttempts(t *testing.T) { bothWays(t, testPanicOfAWriterIsTheAttempts) }

func testPanicOfAWriterIsTheAttempts(t *testing.T, r *js.Runner) {
	var stderr bytes.Buffer
	out := r.Run(t.Context(), &tasks.Attempt{
		Task:   &tasks.Task{Source: "()=>{ try { console.log() } catch { } }"},
		Stdout: cancelOn(func() { panic("at the\ndisco") }), Stderr: &stderr,
	})
	if out.Code != tasks.Panic || out.Text != "panic: at the disco" || !strings.Contains(stderr.String(), "js_test.go") {
		t.Errorf("%v %q, stderr %q", out.Code, out.Text, stderr.String())
	}
}

func TestAttemptsShareNothing(t *testing.T) { bothWays(t, testAttemptsShareNothing) }

func testAttemptsShareNothing(t *testing.T, r *js.Runner) {
	task := &tasks.Task{Source: "x=>{ globalThis.n = (globalThis.n||0)+1; Object.prototype.bad = 1; return [n, x, /a(.)/y.exec('ab')[1], `t${x}`] }", Args: args("1")}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				out := r.Run(t.Context(), &tasks.Attempt{Task: task})
				if string(out.Value) != `[1,1,"b","t1"]` {
					t.Errorf("%v %q %s", out.Code, out.Text, out.Value)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestRandomIsSeededByAttempt(t *testing.T) { bothWays(t, testRandomIsSeededByAttempt) }

func testRandomIsSeededByAttempt(t *testing.T, r *js.Runner) {
	random := func(id tasks.ID, n uint32) string {
		return string(r.Run(t.Context(), &tasks.Attempt{ID: id, N: n, Task: &tasks.Task{Source: "()=>[Math.random(),Math.random()]"}}).Value)
	}
	a := random(tasks.ID{1}, 1)
	if b := random(tasks.ID{1}, 1); a != b {
		t.Errorf("one attempt, two sequences: %s, %s", a, b)
	}
	for _, b := range []string{random(tasks.ID{1}, 2), random(tasks.ID{2}, 1), random(tasks.ID{1, 15: 1}, 1)} {
		if a == b {
			t.Errorf("two attempts, one sequence: %s", a)
		}
	}
}

func BenchmarkRun(b *testing.B) {
	for name, task := range map[string]*tasks.Task{
		"trivial": {Source: "function(a,b){return a+b}", Args: args("1", "2")},
		"console": {Source: `function(a,b,c){ console.log("Hello %s %s!",a,b); return c }`, Args: args(`"distributed"`, `"world"`, `"hmm"`)},
		"object":  {Source: "x=>x", Args: args(`{"a":[1,2,3],"b":{"c":"d"}}`)},
		"async":   {Source: "async x=>{ await null; return x }", Args: args("1")},
	} {
		for where, inProcess := range map[string]bool{"here": true, "child": false} {
			b.Run(name+"/in="+where, func(b *testing.B) {
				r := js.New(js.Config{InProcess: inProcess})
				defer r.Close()
				ctx, cancel := context.WithCancel(b.Context())
				defer cancel()
				a := &tasks.Attempt{Task: task}
				r.Run(ctx, a)
				b.ReportAllocs()
				for b.Loop() {
					if out := r.Run(ctx, a); out.Code != tasks.OK {
						b.Fatal(out.Text)
					}
				}
			})
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := js.Compile("function(a,b){return a+b}"); err != nil {
			b.Fatal(err)
		}
	}
}
