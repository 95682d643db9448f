package js_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/scagent/scagent/tasks"
)

// What Node 20 prints for these arguments of console.log.
func TestConsoleAsNode(t *testing.T) {
	for args, want := range map[string]string{
		`"a","b"`:                         "a b",
		`1,"a"`:                           "1 a",
		`"%"`:                             "%",
		`"%%"`:                            "%%",
		`"%%",1`:                          "% 1",
		`"100%",1`:                        "100% 1",
		`"%s"`:                            "%s",
		`"%s",1`:                          "1",
		`"%s","x","y"`:                    "x y",
		`"%s %s","x"`:                     "x %s",
		`"%d","42"`:                       "42",
		`"%d","0x10"`:                     "16",
		`"%d",1.5`:                        "1.5",
		`"%d","x"`:                        "NaN",
		`"%d",5n`:                         "5n",
		`"%d",Symbol("a")`:                "NaN",
		`"%d",{}`:                         "NaN",
		`"%d",null`:                       "0",
		`"%d",undefined`:                  "NaN",
		`"%i",1.9`:                        "1",
		`"%i","12px"`:                     "12",
		`"%i",-0`:                         "0",
		`"%i",7n`:                         "7n",
		`"%f","1.5x"`:                     "1.5",
		`"%f",3`:                          "3",
		`"%f",Symbol()`:                   "NaN",
		`"%s",-0`:                         "-0",
		`"%s",5n`:                         "5n",
		`"%s",Symbol("q")`:                "Symbol(q)",
		`"%s",null`:                       "null",
		`"%s",undefined`:                  "undefined",
		`"%s",true`:                       "true",
		`"%s",{toString(){return "own"}}`: "own",
		`"%s",()=>1`:                      "()=>1",
		`"%s",1e21`:                       "1e+21",
		`"%d",-0`:                         "-0",
		`"%j",{a:[1,"x",null]}`:           "{\"a\":[1,\"x\",null]}",
		`"%j","x"`:                        "\"x\"",
		`"%j",undefined`:                  "undefined",
		`"%j",function(){}`:               "undefined",
		`"%c styled","color: red"`:        " styled",
		`"%x",1`:                          "%x 1",
		`"%s%s","a"`:                      "a%s",
		`"a%",1`:                          "a% 1",
		`null`:                            "null",
		`undefined`:                       "undefined",
		`true`:                            "true",
		`-0`:                              "-0",
		`0`:                               "0",
		`NaN`:                             "NaN",
		`Infinity`:                        "Infinity",
		`12n`:                             "12n",
		`Symbol("s")`:                     "Symbol(s)",
		`Symbol()`:                        "Symbol()",
		`""`:                              "",
		`"",1`:                            " 1",
		`1e21`:                            "1e+21",
		`1e-7`:                            "1e-7",
		`123456789012345680000`:           "123456789012345680000",
		`"ü😀"`:                            "ü😀",
		`"%s is %d years and %i, %f%%","Bob",42,"43.9","1.50"`: "Bob is 42 years and 43, 1.5%",
		`"%O",1`:                         "1",
		`"%o",1`:                         "1",
		`"%s","%s"`:                      "%s",
		`"%%s","x"`:                      "%s x",
		`"%d%%",5`:                       "5%",
		`[]`:                             "[]",
		`{}`:                             "{}",
		`"%s",class A{}`:                 "class A{}",
		`"%i",{}`:                        "NaN",
		`"%s", String`:                   "function String() { [native code] }",
		`"%d",[]`:                        "0",
		`"%f",5n`:                        "5",
		`"%s",function f(a){ return a }`: "function f(a){ return a }",
	} {
		out, stdout, stderr := run(t, "()=>console.log("+args+")")
		if out.Code != tasks.OK || stdout != want+"\n" || stderr != "" {
			t.Errorf("console.log(%s) = %q %q (%v %q), want %q", args, stdout, stderr, out.Code, out.Text, want)
		}
	}
}

func TestConsoleShowsObjectsAsJSON(t *testing.T) {
	for args, want := range map[string]string{
		`{a: [1, "x", null], "b c": {}}`:                               `{"a":[1,"x",null],"b c":{}}`,
		`{u: undefined, n: NaN, z: -0, b: 1n, s: Symbol("q"), i: 1/0}`: `{"u":undefined,"n":NaN,"z":-0,"b":1n,"s":Symbol(q),"i":Infinity}`,
		`()=>1, class A{}, [function f(){}], String`:                   `[Function] [Function: A] [[Function: f]] [Function: String]`,
		`new Proxy(function p(){}, {})`:                                `[Function: p]`,
		`new Date(0), /a/g, new Number(-0)`:                            `"1970-01-01T00:00:00.000Z" /a/g -0`,
		`new Map, {s: new Set}, new WeakMap, Promise.resolve()`:        `[Map] {"s":[Set]} [WeakMap] [Promise]`,
		`"%o|%O|%j", "s", {f(){}}, {f(){}, a: 1}`:                      `"s"|{"f":[Function: f]}|{"a":1}`,
		`...(a => (a.a = [a], ["%j %o", a, a]))({})`:                   `[Circular] {"a":[[Circular]]}`,
		`new Error("boo")`:                                             "Error: boo\n    at task.js:1:17",
		`{e: new TypeError("boo")}`:                                    "{\"e\":TypeError: boo\n    at task.js:1:21}",
		`"%s", new Error("boo")`:                                       "Error: boo\n    at task.js:1:23",
		`(() => { try { fetch() } catch (e) { return e } })()`:         "ReferenceError: fetch is not there in scagent's js: it has no network\n    at task.js:1:37\n    at task.js:1:67",
		`globalThis`: `{}`,
	} {
		out, stdout, stderr := run(t, "()=>console.log("+args+")")
		if out.Code != tasks.OK || stdout != want+"\n" || stderr != "" {
			t.Errorf("console.log(%s):\n got %q %q (%v %q)\nwant %q", args, stdout, stderr, out.Code, out.Text, want)
		}
	}
}

func TestConsoleStreams(t *testing.T) {
	out, stdout, stderr := run(t, `()=>{
		console.log("log"); console.info("info"); console.debug("debug")
		console.error("error %d", 1); console.warn("warn")
		console.assert(true, "no"); console.assert(false); console.assert(0, "%s!", "so")
		console.trace("here"); console.trace()
	}`)
	if out.Code != tasks.OK || stdout != "log\ninfo\ndebug\n" {
		t.Errorf("%v %q, stdout %q", out.Code, out.Text, stdout)
	}
	want := "error 1\nwarn\nAssertion failed\nAssertion failed: so!\n" +
		"Trace: here\n    at task.js:5:16\nTrace\n    at task.js:5:39\n"
	if stderr != want {
		t.Errorf("stderr %q, want %q", stderr, want)
	}
}

func TestConsoleIsTheScripts(t *testing.T) {
	out, stdout, _ := run(t, `()=>{
		const log = console.log, old = console
		console.log = (x) => log("<%s>", x)
		console.log("a")
		console = {log: 1}
		old.info("b")
		return [console.log, Object.keys(globalThis), typeof old.table]
	}`)
	if stdout != "<a>\nb\n" || string(out.Value) != `[1,[],"undefined"]` {
		t.Errorf("%v %q %s, stdout %q", out.Code, out.Text, out.Value, stdout)
	}
	out, stdout, _ = run(t, `()=>{ Object.freeze(globalThis); console.log("a"); console = 1; console.log("b") }`)
	if out.Code != tasks.OK || stdout != "a\nb\n" {
		t.Errorf("with frozen globals: %v %q, stdout %q", out.Code, out.Text, stdout)
	}
	out, _, _ = run(t, `console = 5; console`)
	if string(out.Value) != "5" {
		t.Errorf("%v %q %s", out.Code, out.Text, out.Value)
	}
}

func TestConsoleThrowsWhatItIsGiven(t *testing.T) {
	out, _, _ := run(t, `()=>{
		let caught = []
		for (const f of [() => console.log({get a(){ throw 1 }}), () => console.log("%d", {valueOf(){ throw 2 }}), () => console.log("%j", 1n)])
			try { f() } catch (e) { caught.push(typeof e === "number" ? e : e.name) }
		return caught
	}`)
	if string(out.Value) != `[1,2,"TypeError"]` {
		t.Errorf("%v %q %s", out.Code, out.Text, out.Value)
	}
}

func TestConsoleCutsWhatIsTooLong(t *testing.T) {
	for _, source := range []string{
		"()=>console.log(Array(2**32-1))",
		"()=>console.log(Array(100000).fill('ü😀'))",
		"()=>{ class X { toJSON(){ return [new X, new X] } }; console.log(new X) }",
		"()=>{ let a=[]; for(let i=0;i<5000;i++) a=[a]; console.log(a) }",
		"()=>console.log('%j', Array(2**32-1))",
	} {
		out, stdout, _ := run(t, source)
		if out.Code != tasks.OK || len(stdout) < 200 || len(stdout) > tasks.MaxValueBytes+64 || !utf8.ValidString(stdout) {
			t.Errorf("%s: %v %q, %d bytes", source, out.Code, out.Text, len(stdout))
		}
		if !strings.Contains(stdout, "…\n") && !strings.Contains(stdout, "[...]") {
			t.Errorf("%s: nothing says that it was cut: %q", source, stdout[len(stdout)-20:])
		}
	}
}

func TestLongStackIsCut(t *testing.T) {
	out, _, stderr := run(t, "()=>{ function f(n){ if (n==0) throw new Error('deep'); f(n-1) }; f(50) }")
	if out.Code != tasks.Failed || strings.Count(stderr, "task.js:") != 20 || !strings.HasSuffix(stderr, "\n    ... and 32 more\n") {
		t.Errorf("%v %q, stderr %q", out.Code, out.Text, stderr)
	}
}
