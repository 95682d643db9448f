package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/original"
)

// kinds runs a file, a JavaScript function, a repository, and a task object of
// the original's.
func (d *demo) kinds(ctx context.Context) {
	d.step("a file of ours, on w1", func() error {
		t := tasks.Task{Kind: tasks.File, Name: "greet.sh", Args: []json.RawMessage{[]byte(`"you"`)},
			Content: &tasks.Content{Inline: []byte("#!/bin/sh\necho hello $1, says a file on $SCAGENT_NODE\n")}}
		return d.submit(ctx, t, tasks.On("w1"), func(rs []tasks.Result) error {
			return want(rs, 1, func(r *tasks.Result) string { return "hello you, says a file on " + r.Worker + "\n" })
		})
	})
	d.step("a JavaScript function on all workers", func() error {
		t := tasks.Task{Kind: tasks.JS, Source: `function(a,b,c){ console.log("Hello %s %s!",a,b); return c }`,
			Args: []json.RawMessage{[]byte(`"distributed"`), []byte(`"world"`), []byte(`"hmm"`)}}
		return d.submit(ctx, t, tasks.All(), func(rs []tasks.Result) error {
			for i := range rs {
				if v, err := rs[i].JSONValue(); err != nil || string(v) != `"hmm"` {
					return fmt.Errorf("%s returned %s (%v), want \"hmm\"", rs[i].Worker, v, err)
				}
			}
			return want(rs, 3, func(*tasks.Result) string { return "Hello distributed world!\n" })
		})
	})
	d.step("a tag of a git repository, on w3", func() error {
		base, err := os.MkdirTemp("", "scagent-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(base)
		if err := demoRepository(ctx, filepath.Join(base, "demo", "slc")); err != nil {
			return err
		}
		if err := letOthersRead(base); err != nil { // tasks of root's agent run as nobody
			return err
		}
		object := fmt.Sprintf(`{"type":"github","user":"demo","repo":"slc","git_base":%q,
			"cmds":{"pre":[{"cmd":"git","args":["checkout","-q","v1.1"]}],"cmd":{"cmd":"sh","args":["hello.sh","git"]}}}`, "file://"+base)
		t, err := original.Task([]byte(object), nil)
		if err != nil {
			return err
		}
		return d.submit(ctx, t, tasks.On("w3"), func(rs []tasks.Result) error {
			if err := rs[0].Err(); err != nil {
				return err
			}
			if !strings.Contains(string(rs[0].Stdout), "hello git, this is 1.1\n") {
				return fmt.Errorf("wrote %q, want the greeting of 1.1", rs[0].Stdout)
			}
			return nil
		})
	})
}

// letOthersRead lets every user read a directory and what is in it.
func letOthersRead(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return os.Chmod(path, 0o755)
		}
		return os.Chmod(path, 0o644)
	})
}

// demoRepository makes a repository with a tag, and a commit after it.
func demoRepository(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	git := func(args ...string) error {
		c := exec.CommandContext(ctx, "git", append([]string{"-c", "user.name=demo", "-c", "user.email=demo@localhost", "-c", "init.defaultBranch=main"}, args...)...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w: %s", args[0], err, out)
		}
		return nil
	}
	if err := git("init", "-q"); err != nil {
		return err
	}
	for _, version := range []string{"1.1", "1.2"} {
		if err := os.WriteFile(filepath.Join(dir, "hello.sh"), []byte("echo hello $1, this is "+version+"\n"), 0o644); err != nil {
			return err
		}
		if err := git("add", "hello.sh"); err != nil {
			return err
		}
		if err := git("commit", "-q", "-m", version); err != nil {
			return err
		}
		if err := git("tag", "v"+version); err != nil {
			return err
		}
	}
	return nil
}
