package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
	"github.com/scagent/scagent/tasks/runner/workdir"
)

// configuration is all that our git is configured with. safe.directory: a
// repository may belong to another user than the one that reads it. gc: objects
// that work trees borrow must stay.
const configuration = `[safe]
	directory = *
[core]
	hooksPath = /dev/null
	fsmonitor = false
	protectHFS = true
	protectNTFS = true
[submodule]
	recurse = false
[fetch]
	recurseSubmodules = false
[http]
	followRedirects = false
	lowSpeedLimit = 1000
	lowSpeedTime = 20
[gc]
	auto = 0
[maintenance]
	auto = false
[advice]
	detachedHead = false
`

// fromAgent are the variables of the agent that our git gets, and no command of
// a task: how to reach the network.
var fromAgent = []string{
	"PATH", "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "SSH_AUTH_SOCK",
	"SystemRoot", "ComSpec", "PATHEXT",
}

// job is the work of one attempt. It belongs to the goroutine of the attempt.
type job struct {
	r   *Runner
	ctx context.Context
	a   *tasks.Attempt
	dir *workdir.Dir // for HOME, and where our git runs
}

// git runs git and returns what it printed. Of protocols, scheme is all that it
// may use. The error is a *gitError if git failed, else one with an Outcome.
func (j *job) git(scheme, stdin string, args ...string) (string, error) {
	cfg := &j.r.cfg
	env := []string{
		"LC_ALL=C", "SCAGENT_WORKDIR=" + j.dir.Path(), "HOME=" + j.dir.Home(), "TMPDIR=" + j.dir.Tmp(),
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + j.r.gitconfig(), "GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=" + scheme,
		"GIT_SSH_COMMAND=ssh -oBatchMode=yes -oConnectTimeout=20", "GIT_SSH_VARIANT=ssh", "GIT_LFS_SKIP_SMUDGE=1",
	}
	for _, name := range fromAgent {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	var stdout, stderr capture
	s := &process.Spec{
		Argv: append([]string{cfg.Git}, args...), Env: append(env, workdir.Marks(j.a)...), Dir: j.dir.Home(),
		Stdout: &stdout, Stderr: &stderr, Marks: workdir.Marks(j.a), Kill: j.a.Kill,
		Grace: cfg.Grace, Linger: cfg.Linger, Nets: cfg.Nets, User: cfg.User,
	}
	if stdin != "" {
		s.Stdin = strings.NewReader(stdin)
	}
	ex, err := process.Run(j.ctx, s)
	var start *process.StartError
	switch {
	case errors.As(err, &start) && (start.Code == tasks.NotFound || start.Code == tasks.NotExecutable):
		return "", &failure{tasks.NotFound, fmt.Sprintf("git is not on this worker (%s); install it, or choose workers that have it", start.Text)}
	case err != nil:
		return "", err
	case ex.Stopped != 0:
		return "", &stopped{ex.Outcome(j.ctx)}
	case ex.Status != 0 || ex.Signal != "":
		return "", &gitError{verb: verb(args), text: string(stderr), exit: ex.Status, signal: ex.Signal}
	}
	return string(stdout), nil
}

// verb returns git's subcommand: the first argument that is no option of git's own.
func verb(args []string) string {
	for i := 0; i < len(args); i++ {
		if args[i] == "-C" || args[i] == "-c" {
			i++
		} else {
			return args[i]
		}
	}
	return ""
}

// capture keeps the last part of what is written to it.
type capture []byte

const captureBytes = 16 << 10

func (c *capture) Write(b []byte) (int, error) {
	*c = append(*c, b...)
	if over := len(*c) - captureBytes; over > 0 {
		*c = append((*c)[:0], (*c)[over:]...)
	}
	return len(b), nil
}

// noTemplate returns the option that makes a repository without hooks.
func noTemplate() string {
	if runtime.GOOS == "windows" {
		return "--template=NUL"
	}
	return "--template="
}
