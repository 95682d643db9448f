//go:build linux

package test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// person is a user of a host who is not root.
type person struct {
	*host
	gid, groups string   // by number; groups may be empty
	env         []string // besides the host's
}

// user returns the user nobody, in its own group and in others.
func (h *host) user(groups string) *person {
	h.lab.t.Helper()
	need(h.lab.t, "setpriv")
	h.sh("test -e /run/program || install -m 755 " + binary(h.lab.t) + " /run/program").ok(h.lab.t) // where every user can run it
	return &person{host: h, gid: "65534", groups: groups}
}

// command returns a command that is to run as the user.
func (u *person) command(args ...string) *exec.Cmd {
	groups := "--clear-groups"
	if u.groups != "" {
		groups = "--groups=" + u.groups
	}
	cmd := u.host.Command(append([]string{"setpriv", "--reuid=65534", "--regid=" + u.gid, groups}, args...)...)
	cmd.Env = append(cmd.Env, u.env...)
	return cmd
}

// scagent runs the program as the user.
func (u *person) scagent(args ...string) *result {
	u.lab.t.Helper()
	return start(u.lab.t, u.command(append([]string{"/run/program"}, args...)...)).await()
}

func TestSocketOfRootIsForItsGroup(t *testing.T) {
	t.Parallel()
	h := newLab(t).hosts(1)[0]
	a := h.agent("-name", "n1", "-api-group", "4242")
	a.err.await(t, " is up at ", `members of the group "4242" may submit tasks`)
	if out := a.call("info").ok(t); !regexp.MustCompile(`Socket: +/run/scagent/1\.sock, mode 0660, group 4242\n`).MatchString(out) {
		t.Errorf("info says %s", out)
	}
	primary := h.user("")
	primary.gid = "4242"
	for name, u := range map[string]*person{"one of its groups": h.user("1,4242"), "its group": primary} {
		if out := u.scagent("members").ok(t); !strings.Contains(out, "n1 ") {
			t.Errorf("a user with the group as %s sees %s", name, out)
		}
		u.scagent("submit", "--", "echo", "done").want(t, 0, "done\n")
	}
	other := h.user("4243")
	other.scagent("members").complains(t, 1, "/run/scagent/1.sock", `the group "4242"`, "join that group")
	other.scagent("submit", "-join", "127.0.0.1", "--", "true").complains(t, 125, "/run/scagent/1.sock", `the group "4242"`)
	other.scagent("submit", "--", "true").complains(t, 125, "/run/scagent/1.sock", `the group "4242"`)
	if ms := a.members(); len(ms) != 1 {
		t.Errorf("the pool is %v; want that nobody has become a master of its own", ms)
	}

	// When the mode does not keep others out, the kernel's word does.
	h.sh("chmod 666 " + a.socket).ok(t)
	other.scagent("members").complains(t, 1, "hung up")
	other.scagent("submit", "--", "true").complains(t, 125, "hung up")
	h.user("4242").scagent("submit", "--", "echo", "still").want(t, 0, "still\n")
	info := decode[struct{ Counters map[string]uint64 }](t, a.call("info", "-json").ok(t))
	if n := info.Counters["api_refused_peers"]; n < 2 {
		t.Errorf("%d connections were refused, want at least 2", n)
	}
	for _, group := range []string{"no-such-group", "4294967295"} {
		h.scagent("agent", "-api-group", group).complains(t, 1, "no group", group, "-api-group")
	}
}

func TestWithoutAGroupTheSocketIsForRoot(t *testing.T) {
	t.Parallel()
	h := newLab(t).hosts(1)[0]
	a := h.agent()
	h.user("0,4242").scagent("members").complains(t, 1, a.socket, "its owner alone", "-api-group")
	h.sh("chmod 777 " + a.socket).ok(t)
	h.user("0,4242").scagent("members").complains(t, 1, "hung up")
}

// curl asks the API and returns status and body.
func (h *host) curl(args ...string) (status, body string) {
	h.lab.t.Helper()
	out := start(h.lab.t, h.Command(append([]string{"curl", "-sS", "-m", "10", "-w", "\n%{http_code}"}, args...)...)).await().ok(h.lab.t)
	i := strings.LastIndexByte(out, '\n')
	return out[i+1:], out[:i]
}

var httpAt = regexp.MustCompile(`HTTP at (http://\S+) with the token in (\S+);`)

// webAgent starts an agent with -http, and returns the URL and the file with the token.
func (h *host) webAgent(args ...string) (a *agent, url, file string) {
	h.lab.t.Helper()
	a = h.launch(args...)
	line := a.err.await(h.lab.t, " is up at ")
	m := httpAt.FindStringSubmatch(line)
	if m == nil {
		h.lab.t.Fatalf("the agent printed %q; want %s", line, httpAt)
	}
	return a.up(), m[1], m[2]
}

func TestAPIOverTCP(t *testing.T) {
	t.Parallel()
	need(t, "curl")
	l := newLab(t)
	h := l.hosts(1)[0]
	a, url, file := h.webAgent("-name", "n1", "-http", "127.0.0.1:0")
	if file != "/var/lib/scagent/1/api-token" || h.sh("stat -c %a "+file).ok(t) != "600\n" {
		t.Errorf("the token is in %s, mode %s", file, h.sh("stat -c %a "+file))
	}
	token := strings.TrimSpace(h.sh("cat " + file).ok(t))
	auth := "Authorization: Bearer " + token
	if out := a.call("info").ok(t); !strings.Contains(out, url+", token in "+file) || strings.Contains(out, token) {
		t.Errorf("info says %s; want the URL and the file, and not the token", out)
	}
	if strings.Contains(a.err.String()+h.sh("cat /run/scagent/1.json").ok(t), token) {
		t.Error("the token is in the log or in the announcement")
	}

	l.run(t, "curl", func(t *testing.T) {
		port := url[strings.LastIndexByte(url, ':'):]
		for _, c := range []struct {
			name, status, body string
			args               []string
		}{
			{"the line of the docs", "200", `"n1"`, []string{"-H", auth, url + "/v1/members"}},
			{"by name", "200", `"n1"`, []string{"-H", auth, "http://localhost" + port + "/v1/info"}},
			{"submit", "200", `"run"`, []string{"-H", auth, "-H", "Content-Type: application/json", "-d", `{"task":{"kind":"command","argv":["true"]}}`, url + "/v1/tasks"}},
			{"no token", "401", "unauthorized", []string{url + "/v1/members"}},
			{"the token in the URL", "401", "unauthorized", []string{url + "/v1/members?token=" + token}},
			{"another host", "421", "bad_host", []string{"-H", auth, "-H", "Host: evil.example", url + "/v1/members"}},
			{"another site", "403", "bad_origin", []string{"-H", auth, "-H", "Origin: http://evil.example", url + "/v1/events"}},
			{"a form", "415", "bad_content_type", []string{"-H", auth, "-d", `{"task":{"kind":"command","argv":["true"]}}`, url + "/v1/tasks"}},
			{"is it there", "200", "ok", []string{url + "/healthz"}},
		} {
			if status, body := h.curl(c.args...); status != c.status || !strings.Contains(body, c.body) {
				t.Errorf("%s: %s %s; want %s and %s", c.name, status, body, c.status, c.body)
			}
		}
	})
	l.run(t, "commands of the agent's user", func(t *testing.T) {
		h.scagent("submit", "-addr", url, "--", "echo", "hello").want(t, 0, "hello\n")
		h.scagent("submit", "-addr", strings.Replace(url, "127.0.0.1", "localhost", 1), "--", "echo", "hello").want(t, 0, "hello\n")
		h.Env = append(h.Env, "SCAGENT_ADDR="+url)
		defer func() { h.Env = h.Env[:len(h.Env)-1] }()
		h.scagent("submit", "-stdin", "--", "cat").ok(t)
	})
	l.run(t, "commands of another user", func(t *testing.T) {
		u := h.user("")
		u.scagent("members", "-addr", url).complains(t, 1, url, "asks for a token", file, "SCAGENT_TOKEN_FILE", a.socket)
		h.sh("mkdir /run/n && install -o 65534 -m 600 " + file + " /run/n/token && chmod 755 /run/n").ok(t)
		u.env = []string{"SCAGENT_TOKEN_FILE=/run/n/token"}
		u.scagent("submit", "-addr", url, "--", "echo", "hello").want(t, 0, "hello\n")
		h.sh("chmod 644 /run/n/token").ok(t)
		u.scagent("members", "-addr", url).complains(t, 1, "SCAGENT_TOKEN_FILE", "/run/n/token", "chmod 600")
		h.sh("chmod 600 /run/n/token && tr 0-9 1-90 < " + file + " > /run/n/token").ok(t)
		u.scagent("members", "-addr", url).complains(t, 1, url, "does not take the token in /run/n/token")
	})
	l.run(t, "addresses that are refused", func(t *testing.T) {
		h.scagent("members", "-addr", "http://10.77.0.1:1").complains(t, 1, "not on this host", "ssh -L")
		h.scagent("members", "-addr", url+"/?token=x").complains(t, 1, "SCAGENT_TOKEN_FILE", "never from the address")
		h.scagent("members", "-addr", "https"+url[4:]).complains(t, 1, "TLS")
		h.scagent("agent", "-http", "0.0.0.0:8080").complains(t, 1, "-http", "0.0.0.0:8080", "127.0.0.1:PORT", "ssh -L")
		h.scagent("agent", "-http", url[len("http://"):]).complains(t, 1, "-http", "is taken")
	})
	l.run(t, "the token goes to an agent that lives", func(t *testing.T) {
		a.process.kill()
		var squatter net.Listener
		var err error
		h.inside(func() { squatter, err = net.Listen("tcp", url[len("http://"):]) })
		if err != nil {
			t.Fatal(err)
		}
		heard := make(chan string, 1)
		go func() {
			c, err := squatter.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			r, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return
			}
			var b bytes.Buffer
			r.Write(&b)
			heard <- b.String()
			fmt.Fprint(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
		}()
		r := h.scagent("members", "-addr", url)
		squatter.Close()
		if got := <-heard; r.status != 1 || strings.Contains(got, token) || !strings.HasPrefix(got, "GET /v1/members") {
			t.Errorf("a program at the port of an agent that was killed heard %q\n%s", got, r)
		}
	})
	l.run(t, "the token stays", func(t *testing.T) {
		_, again, _ := h.webAgent("-name", "n1", "-http", url[len("http://"):])
		if status, body := h.curl("-H", auth, again+"/v1/members"); again != url || status != "200" {
			t.Errorf("after a restart, at %s, the same request is answered %s %s", again, status, body)
		}
	})
}

// TestAgentsOfAnyUmask start again too: what they made must be theirs to use.
func TestAgentsOfAnyUmask(t *testing.T) {
	t.Parallel()
	for _, umask := range []string{"000", "077", "777"} {
		t.Run(umask, func(t *testing.T) {
			h := newLab(t).hosts(1)[0]
			u := h.user("")
			u.env = []string{"HOME=/run/n", "XDG_RUNTIME_DIR=/run/n"}
			h.sh("install -d -o 65534 -m 700 /run/n").ok(t)
			for _, as := range []struct {
				name, dir, mode string
				command         func(args ...string) *exec.Cmd
			}{{"root", "/run/scagent", "755", h.Command}, {"nobody", "/run/n/scagent", "700", u.command}} {
				for range 2 {
					p := start(t, as.command("sh", "-c", "umask "+umask+"; exec /run/program agent -no-multicast -http 127.0.0.1:0"))
					p.err.await(t, " is up at ", "API at unix://"+as.dir+"/1.sock")
					start(t, as.command("/run/program", "submit", "--", "id", "-u")).await().want(t, 0, "65534\n")
					want := as.mode + "\n600\n600\n"
					if got := h.sh("stat -c %a " + as.dir + " " + as.dir + "/1.sock " + as.dir + "/1.lock").ok(t); got != want {
						t.Errorf("with umask %s, modes of the directory, the socket and the lock of %s are %q, want %q", umask, as.name, got, want)
					}
					p.kill()
				}
			}
		})
	}
}
