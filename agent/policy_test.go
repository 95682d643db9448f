package agent_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/policy"
)

// withPolicy gives the second agent a policy.
func withPolicy(p policy.Policy) agenttest.Option {
	return func(i int, cfg *agent.Config) {
		if i == 2 {
			cfg.Policy = p
		}
	}
}

// ran submits a task to n2 and returns how it ended.
func ran(t *testing.T, c *agenttest.Cluster, task tasks.Task, target tasks.Target) tasks.Result {
	t.Helper()
	run, err := c.Agent(1).Submit(t.Context(), submission(task, target))
	if err != nil {
		t.Fatal(err)
	}
	rs, err := run.Wait(t.Context())
	if err != nil || len(rs) != 1 {
		t.Fatalf("%d results, %v, want 1", len(rs), err)
	}
	return rs[0]
}

func TestPolicyRefusesWithACodeAndASentence(t *testing.T) {
	work := t.TempDir()
	if err := os.Symlink("/", filepath.Join(work, "up")); err != nil {
		t.Fatal(err)
	}
	c := agenttest.New(t, 2, withPolicy(policy.Policy{
		Kinds: []tasks.Kind{tasks.File, tasks.Git},
		Git:   policy.Git{Schemes: []string{"https", "file"}, Hosts: []string{"git.example.org", "*.example.com"}},
		Env:   policy.Env{Refuse: []string{"LD_*"}},
		Dirs:  []string{work},
	}))
	c.WaitMembers(t)
	script := tasks.Task{Kind: tasks.File, Name: "x.sh", Content: &tasks.Content{Inline: []byte("echo ran\n")}}
	env, dir, good, link := script, script, script, script
	env.Env, dir.Dir, good.Dir, link.Dir = map[string]string{"LD_PRELOAD": "/x.so"}, "/tmp", work, work+"/up"
	git := func(url string) tasks.Task {
		return tasks.Task{Kind: tasks.Git, URL: url, Argv: []string{"true"}}
	}
	for _, one := range []struct {
		name string
		task tasks.Task
		want string // how the text begins, behind who refused; empty: it runs
	}{
		{"what is allowed", script, ""},
		{"variable", env, "env_not_allowed: this worker lets no task set the variable \"LD_PRELOAD\""},
		{"directory", dir, "dir_not_allowed: this worker runs nothing in \"/tmp\""},
		{"directory that is allowed", good, ""},
		{"directory through a link", link, "dir_not_allowed: "},
		{"scheme", git("http://git.example.org/x"), "git_scheme_not_allowed: "},
		{"host", git("https://example.com/x"), "git_host_not_allowed: "},
		{"host that ends alike", git("https://badexample.com/x"), "git_host_not_allowed: "},
		{"own files, where no command may run", git("file:///etc"), "git_file_not_allowed: "},
	} {
		r := ran(t, c, one.task, tasks.On("n2"))
		text := strings.TrimPrefix(r.Text, `refused by "n2": `)
		if (one.want == "") != (r.State == tasks.StateDone) || !strings.HasPrefix(text, one.want) || one.want != "" && r.Code != tasks.Refused {
			t.Errorf("%s: %v %v %q, want %q", one.name, r.State, r.Code, r.Text, one.want)
		}
	}
	// What n2 refuses, n1 takes.
	if r := ran(t, c, env, tasks.Any()); r.State != tasks.StateDone || r.Worker != "n1" {
		t.Errorf("for any worker: %v on %q, %q; want it done by n1", r.State, r.Worker, r.Text)
	}
	// The kinds that it runs are known before anything is sent.
	command := submission(tasks.Task{Kind: tasks.Command, Argv: []string{"true"}}, tasks.On("n2"))
	command.Options.WaitWorkers = time.Millisecond
	if _, err := c.Agent(1).Submit(t.Context(), command); err == nil || !strings.Contains(err.Error(), "kind command") {
		t.Errorf("a command for n2: %v, want that it runs no tasks of that kind", err)
	}
	p := c.Agent(2).Info().Policy
	if b, _ := json.Marshal(p); len(p.Kinds) != 2 || p.RunAs == "" || !strings.Contains(string(b), `"refuse":["LD_*"]`) {
		t.Errorf("info shows %s", b)
	}
}

func TestPolicyLimitsWhatRuns(t *testing.T) {
	c := agenttest.New(t, 3, agenttest.Option(func(i int, cfg *agent.Config) {
		switch i {
		case 2:
			cfg.Policy.Limits = policy.Limits{MemoryBytes: 64 << 20, OpenFiles: 32, FileBytes: 1 << 20, OutputBytes: 1000}
		case 3: // of its own, as all that runs there has no more time
			cfg.Policy.Limits = policy.Limits{WallSeconds: 0.5}
		}
	}))
	c.WaitMembers(t)
	r := ran(t, c, tasks.Task{Kind: tasks.Command, Shell: "sleep 600"}, tasks.On("n3"))
	if took := r.Finished.Sub(r.Started); r.Code != tasks.Timeout || took > 5*time.Minute {
		t.Errorf("sleep 600: %v after %v, want a timeout after 0.5s", r.Code, took)
	}
	shell := func(line string) tasks.Result {
		return ran(t, c, tasks.Task{Kind: tasks.Command, Shell: line}, tasks.On("n2"))
	}
	if r := shell("ulimit -n; ulimit -d; ulimit -f; ulimit -c"); string(r.Stdout) != "32\n65536\n2048\n0\n" && string(r.Stdout) != "32\n65536\n1024\n0\n" {
		t.Errorf("the limits are %q", r.Stdout)
	}
	if r := shell(`awk 'BEGIN { s = "x"; while (length(s) < 200000000) s = s s; print length(s) }'`); r.State != tasks.StateFailed {
		t.Errorf("200 MB of memory: %v %q", r.State, r.Stdout)
	}
	if r := shell("exec head -c 2000000 /dev/zero > f"); r.State != tasks.StateFailed {
		t.Errorf("a file of 2 MB: %v, want that it fails", r.State)
	}
	r = shell("head -c 5000 /dev/zero; head -c 200 /dev/zero >&2")
	if r.State != tasks.StateFailed || r.Exit != 0 || len(r.Stdout) != 1000 || len(r.Stderr) != 200 || !strings.Contains(r.Text, "limit") {
		t.Errorf("5000 bytes of output: %v, %d and %d bytes, %q; want 1000 and 200, and that it is said", r.State, len(r.Stdout), len(r.Stderr), r.Text)
	}
}
