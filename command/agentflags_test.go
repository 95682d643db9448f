package command

import (
	"encoding/json"
	"io"
	"log"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/hook"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/policy"
)

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func env(pairs ...string) func(string) string {
	return func(k string) string {
		for _, p := range pairs {
			if name, value, _ := strings.Cut(p, "="); name == k {
				return value
			}
		}
		return ""
	}
}

func TestFlagsBeatEnvironmentBeatsFilesBeatDefaults(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"1.json":    `{"name": "file1", "cluster": "file1", "slots": 1, "drain_timeout": "7s"}`,
		"2.json":    "{\n  \"slots\": 2,\n  \"join\": [\"a\", \"b\"],\n  \"no-multicast\": true,\n  \"data\": {\"x\": [1, 2]}\n}\n",
		"other.txt": `not JSON`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-config", dir, "-name", "flag", "-role", "worker", "-http", "127.0.0.1:0"}
	o, err := parseAgent(args, env("SCAGENT_API_GROUP=ops", "SCAGENT_NAME=env", "SCAGENT_CLUSTER=env", "SCAGENT_ROLE=master", "SCAGENT_LOG_LEVEL=debug", "SCAGENT_BIND="))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := agentConfig(o, log.New(io.Discard, "", 0), func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]any{
		"name":          {cfg.Name, "flag"},
		"roles":         {cfg.Roles, []membership.Role{membership.RoleWorker}},
		"cluster":       {cfg.Cluster, "env"},
		"http":          {cfg.HTTP, "127.0.0.1:0"},
		"api group":     {cfg.APIGroup, "ops"},
		"log level":     {o.logLevel, "DEBUG"},
		"slots":         {cfg.Slots, 2},
		"join":          {cfg.Join, []string{"a", "b"}},
		"multicast":     {cfg.Multicast, false},
		"data":          {string(cfg.Data), `{"x":[1,2]}`},
		"drain timeout": {o.drainTimeout, 7 * time.Second},
		"lease":         {cfg.Lease, 3 * time.Second},
		"profile":       {cfg.Profile, "lan"},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s = %v, want %v", what, pair[0], pair[1])
		}
	}
}

func TestAgentDefaults(t *testing.T) {
	o, err := parseAgent(nil, env())
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := agentConfig(o, log.New(io.Discard, "", 0), func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Slots < 1 || !cfg.Multicast || cfg.Cluster != "default" || len(cfg.Roles) != 2 || cfg.Insecure || o.drainTimeout != 10*time.Second || o.logLevel != "INFO" {
		t.Errorf("defaults: %+v", cfg)
	}
}

func TestAgentRefusesBadConfiguration(t *testing.T) {
	file := func(content string) []string { return []string{"-config", writeFile(t, "c.json", content)} }
	for _, c := range []struct {
		name string
		args []string
		env  string
		want string
	}{
		{"operand", []string{"x"}, "", `unexpected argument "x"`},
		{"slots", []string{"-slots", "0"}, "", "-slots is 0; want at least 1"},
		{"slots in the environment", nil, "SCAGENT_SLOTS=abc", `SCAGENT_SLOTS is "abc"; want a whole number`},
		{"role", []string{"-role", "boss"}, "", `-role is "boss"; want worker, master or tracker`},
		{"profile", []string{"-profile", "moon"}, "", `-profile is "moon"; want lan, wan or local`},
		{"level", nil, "SCAGENT_LOG_LEVEL=loud", `-log-level is "LOUD"; want TRACE, DEBUG, INFO, WARN or ERR`},
		{"lease", []string{"-lease", "3"}, "", `-lease is "3"; want a duration`},
		{"cluster", []string{"-cluster="}, "", "-cluster is empty"},
		{"allow in a file", file(`{"allow": ["command", "dance"]}`), "", `-allow is "dance"; want one of command, file, git, js, function`},
		{"secret and insecure", []string{"-secret-file", "x", "-insecure"}, "", "-insecure and -secret-file exclude each other"},
		{"half a PKI", []string{"-tls-ca", "x"}, "", "-tls-ca, -tls-cert and -tls-key belong together"},
		{"no file", []string{"-config", "/nowhere/c.json"}, "", "-config: stat /nowhere/c.json"},
		{"unknown key", file("{\n\"name\": \"x\",\n\t\"drain-timout\": \"1s\"}"), "", `c.json:3: unknown key "drain-timout"; did you mean "drain-timeout"?`},
		{"strange key", file(`{"zzzzzz": 1}`), "", `c.json:1: unknown key "zzzzzz"`},
		{"config in config", file(`{"config": "x"}`), "", `c.json:1: unknown key "config"`},
		{"key twice", file("{\"state-dir\": \"a\",\n\"state_dir\": \"b\"}"), "", `c.json:2: the key "state_dir" is there twice`},
		{"bad value", file("{\"slots\":\n \"x\"}"), "", `c.json:1: slots is "x"; want a whole number`},
		{"null", file(`{"name": null}`), "", "c.json:1: name is null; want one value"},
		{"object", file(`{"name": {}}`), "", "c.json:1: name is {}; want one value"},
		{"list for one", file(`{"name": ["a"]}`), "", `c.json:1: name is ["a"]; want one value`},
		{"no object", file(`[1]`), "", "c.json:1: want a JSON object"},
		{"empty", file(``), "", "c.json:1: want a JSON object"},
		{"cut", file(`{"name": "x"`), "", "c.json:1: "},
		{"no JSON", file(`{"name" "x"}`), "", "c.json:1: "},
		{"two objects", file(`{} {}`), "", "c.json:1: there is something after the object"},
		{"large", file(strings.Repeat(" ", maxConfigBytes+1)), "", "has more than 1048576 bytes"},
		{"data", []string{"-data", "x"}, "", `-data is "x"; want KEY=VALUE, JSON or @FILE`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseAgent(c.args, env(c.env))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("agent %q %s = %v, want one line with %q", c.args, c.env, err, c.want)
			}
		})
	}
}

func TestDataValues(t *testing.T) {
	file := writeFile(t, "d.json", "{\n \"from\": \"file\" }\n")
	for _, c := range []struct {
		name string
		args []string
		want string // "": an error
	}{
		{"strings", []string{"a=b", "c=d=e"}, `{"a":"b","c":"d=e"}`},
		{"JSON values", []string{"n=1", "b=true", `l=[1, 2]`, "s=\"x\"", "z=null", "e="}, `{"b":true,"e":"","l":[1,2],"n":1,"s":"x","z":null}`},
		{"large numbers stay", []string{"n=9007199254740993"}, `{"n":9007199254740993}`},
		{"JSON replaces", []string{"a=1", `{"b": 2}`, "c=3"}, `{"b":2,"c":3}`},
		{"any JSON", []string{"[1]"}, `[1]`},
		{"file", []string{"a=1", "@" + file}, `{"from":"file"}`},
		{"key in a list", []string{"[1]", "a=1"}, ""},
		{"no value", []string{"a"}, ""},
		{"no key", []string{"=a"}, ""},
		{"broken JSON", []string{`{"a"=1}`}, ""},
		{"no file", []string{"@/nowhere"}, ""},
		{"file without JSON", []string{"@" + writeFile(t, "x", "hello")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &dataValue{}
			err := d.apply(c.args)
			if (err != nil) != (c.want == "") || err == nil && string(d.raw) != c.want {
				t.Errorf("%q = %s, %v; want %s", c.args, d.raw, err, c.want)
			}
			if err == nil && !json.Valid(d.raw) {
				t.Errorf("%s is not JSON", d.raw)
			}
		})
	}
}

func TestPolicyFromFileAndFlags(t *testing.T) {
	file := writeFile(t, "p.json", `{"kinds": ["js"], "run_as": "a", "limits": {"open_files": 64}}`)
	config := func(args ...string) (policy.Policy, error) {
		o, err := parseAgent(args, env())
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := agentConfig(o, log.New(io.Discard, "", 0), env())
		return cfg.Policy, err
	}
	for _, c := range []struct {
		name  string
		args  []string
		kinds []tasks.Kind
		runAs string
	}{
		{"nothing", nil, nil, ""},
		{"file", []string{"-policy", file}, []tasks.Kind{tasks.JS}, "a"},
		{"flags", []string{"-allow", "git,file", "-run-as", "b"}, []tasks.Kind{tasks.Git, tasks.File}, "b"},
		{"flags beat the file", []string{"-policy", file, "-allow", "command", "-run-as", "b"}, []tasks.Kind{tasks.Command}, "b"},
	} {
		p, err := config(c.args...)
		if err != nil || !reflect.DeepEqual(p.Kinds, c.kinds) || p.RunAs != c.runAs || (p.Limits.OpenFiles == 64) != slices.Contains(c.args, "-policy") {
			t.Errorf("%s: %+v, %v", c.name, p, err)
		}
	}
	for _, c := range []struct{ name, file, want string }{
		{"none", "/nowhere/p.json", "-policy: open /nowhere/p.json"},
		{"bad", writeFile(t, "bad.json", "{\n\"kind\": 1}"), "bad.json: line 2: unknown field \"kind\""},
	} {
		if _, err := config("-policy", c.file); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", c.name, err, c.want)
		}
	}
}

func TestHooksComeFromFlagsEnvironmentAndFiles(t *testing.T) {
	file := writeFile(t, "hooks.json", `{"on_event": ["a=one, two", "b.**=X=1 three"], "hook-timeout": "5s"}`)
	for _, c := range []struct {
		name string
		args []string
		env  string
		want []hook.Hook
	}{
		{"none", nil, "", nil},
		{"flags", []string{"-on-event", "a=1, 2", "-on-event=b=3", "-config", file}, "SCAGENT_ON_EVENT=c=4", []hook.Hook{{Pattern: "a", Command: "1, 2"}, {Pattern: "b", Command: "3"}}},
		{"environment", []string{"-config", file}, "SCAGENT_ON_EVENT=c=4, 5", []hook.Hook{{Pattern: "c", Command: "4, 5"}}},
		{"file", []string{"-config", file}, "", []hook.Hook{{Pattern: "a", Command: "one, two"}, {Pattern: "b.**", Command: "X=1 three"}}},
	} {
		o, err := parseAgent(c.args, env(c.env))
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := agentConfig(o, log.New(io.Discard, "", 0), func(string) string { return "" })
		timeout := hook.DefaultTimeout
		if c.args != nil {
			timeout = 5 * time.Second
		}
		if err != nil || !slices.Equal(cfg.Hooks, c.want) || cfg.HookTimeout != timeout {
			t.Errorf("%s: hooks are %q for %v, %v, want %q for %v", c.name, cfg.Hooks, cfg.HookTimeout, err, c.want, timeout)
		}
	}
}
