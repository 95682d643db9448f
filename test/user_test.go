//go:build linux

package test

import (
	"fmt"
	"os"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestTasksRunAsTheUserThatThePostureSays has an agent of root in each posture, and
// asks tasks of each kind that is a process who they are, and whose their directory is.
func TestTasksRunAsTheUserThatThePostureSays(t *testing.T) {
	t.Parallel()
	need(t, "git")
	const other = "daemon" // a user of every system
	l := newLab(t)
	l.shareMounts()
	secret := filepath.Join(l.dir, "secret")
	l.host().scagent("secret", "new", "-secret-file", secret).ok(t)
	const whoami = "echo $(id -u) $(id -g) $(id -G) $(stat -c '%u %a' $HOME) $(stat -c %u .)"
	script := l.file("whoami.sh", whoami+"\n")
	made := l.host().sh(`set -e; cd ` + l.dir + `; git init -q repository; cd repository; echo "` + strings.ReplaceAll(whoami, "$", `\$`) + `" > whoami.sh; git add .
		git -c user.name=t -c user.email=t@localhost commit -q -m one`)
	made.ok(t)

	for _, c := range []struct {
		name string
		args []string
		user string
	}{
		{"open", nil, "nobody"},
		{"open, as another", []string{"-run-as", other}, other},
		{"secured", []string{"-secret-file", secret}, "root"},
		{"secured, as another", []string{"-secret-file", secret, "-run-as", other}, other},
		{"secured, as another by number", []string{"-secret-file", secret, "-run-as", lookup(t, other).Uid}, other},
		{"insecure", []string{"-insecure"}, "nobody"},
	} {
		l.run(t, c.name, func(t *testing.T) {
			u := lookup(t, c.user)
			h := l.hosts(1)[0]
			a := h.agent(c.args...)
			want := fmt.Sprintf("%s %s %s %s 700 %s\n", u.Uid, u.Gid, u.Gid, u.Uid, u.Uid)
			if c.user == "root" { // of whom nothing is taken away
				want = fmt.Sprintf("0 0 %s 0 700 0\n", strings.TrimSpace(h.sh("id -G").ok(t)))
			}
			h.scagent("submit", "--", "id", "-u").want(t, 0, u.Uid+"\n")
			h.scagent("submit", "-shell", whoami).want(t, 0, want)
			h.scagent("submit", "-file", script).want(t, 0, want)
			h.scagent("submit", "-git", "file://"+l.dir+"/repository", "--", "sh", "whoami.sh").want(t, 0, want)

			trust := "as user " + c.user
			if line := a.err.await(t, " is up at "); !strings.Contains(line, " may run tasks here (command, file, function, git, js) "+trust+";") {
				t.Errorf("at its start the agent says %q, want %q in it", line, trust)
			}
			if out := h.scagent("info").ok(t); !strings.Contains(out, trust) {
				t.Errorf("info does not say %q:\n%s", trust, out)
			}
			r := h.scagent("members")
			if r.ok(t); !strings.HasPrefix(r.stderr, "scagent: on this node, ") || !strings.Contains(r.stderr, " "+trust+"\n") {
				t.Errorf("%s\nwant a word on stderr with %q", r, trust)
			}
		})
	}
}

func lookup(t testing.TB, name string) *osuser.User {
	t.Helper()
	u, err := osuser.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestOnlyRootRunsTasksAsOthers(t *testing.T) {
	t.Parallel()
	need(t, "setpriv")
	l := newLab(t)
	h := l.host()
	u := lookup(t, "daemon")
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(l.dir, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(run, uid, uid); err != nil {
		t.Fatal(err)
	}
	h.Env = []string{"XDG_RUNTIME_DIR=" + run}
	as := func(args ...string) *process {
		return start(t, h.Command(append([]string{"setpriv", "--reuid", u.Uid, "--regid", u.Gid, "--clear-groups", binary(t), "agent", "-state-dir", run + "/state"}, args...)...))
	}
	as("-run-as", "nobody").await().complains(t, 1, "-run-as nobody", "only an agent of root")
	as("-run-as", "no such user").await().complains(t, 1, "-run-as", "no such user")
	h.scagent("agent", "-run-as", "no such user").complains(t, 1, "-run-as", "no such user")
	a := &agent{process: as("-run-as", "daemon"), host: h} // itself
	a.up()
	a.call("submit", "--", "id", "-u").want(t, 0, u.Uid+"\n")
}
