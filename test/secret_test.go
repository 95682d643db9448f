//go:build linux

package test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// apart makes hosts on networks of their own, 10.77.1 and so on, each behind the
// same router, over which multicast does not go. Each host has the address 2.
func (l *lab) apart(n int) []*host {
	l.t.Helper()
	router := l.host()
	var hosts []*host
	for i := range n {
		h := l.host()
		l.connect(fmt.Sprintf("10.77.%d", i+1), router, h)
		h.sh(fmt.Sprintf("ip route add default via 10.77.%d.1", i+1)).ok(l.t)
		hosts = append(hosts, h)
	}
	router.sh("echo 1 > /proc/sys/net/ipv4/ip_forward").ok(l.t)
	return hosts
}

// secret makes a file in the lab's directory with what a verb of the command prints.
func (h *host) secret(from, verb, name string) string {
	h.lab.t.Helper()
	path := filepath.Join(h.lab.dir, name)
	text := h.scagent("secret", verb, "-secret-file", from).ok(h.lab.t)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.lab.t.Fatal(err)
	}
	return path
}

func TestTheSecretIsMadeShownAndReplaced(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := l.host()
	path := filepath.Join(l.dir, "etc", "secret") // whose directory is made
	h.Env = []string{"SCAGENT_SECRET_FILE=" + path}
	show := func() string { return h.scagent("secret", "show").ok(t) }

	h.scagent("secret", "show").complains(t, 1, path)
	h.scagent("secret", "new").complains(t, 0, "a new secret is in "+path)
	h.sh("stat -c %a "+path+" "+filepath.Dir(path)).want(t, 0, "600\n700\n")
	first := show()
	if !regexp.MustCompile(`^sck1-[a-z2-7]{52}-[a-z2-7]+\n$`).MatchString(first) {
		t.Errorf("secret show prints %q", first)
	}
	h.scagent("secret", "new").complains(t, 1, path, "scagent secret rotate")
	h.scagent("secret", "new", "-secret-file", path+"/x").complains(t, 1, path)
	token := h.scagent("secret", "token").ok(t)
	if !strings.HasPrefix(token, "scw1-") || strings.Contains(token, first[5:20]) {
		t.Errorf("secret token prints %q of %q", token, first)
	}
	ca := h.scagent("secret", "ca").ok(t)
	block, rest := pem.Decode([]byte(ca))
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		t.Fatalf("secret ca prints %q", ca)
	}
	if cert, err := x509.ParseCertificate(block.Bytes); err != nil || !cert.IsCA || cert.CheckSignatureFrom(cert) != nil {
		t.Errorf("secret ca prints %+v, %v; want an authority that vouches for itself", cert, err)
	}
	if out := h.scagent("secret", "header", "GET", "https://t:44201/hostsAvailable").ok(t); !strings.HasPrefix(out, "Authorization: SC1 ts=") || strings.Count(out, "\n") != 1 {
		t.Errorf("secret header prints %q", out)
	}
	h.scagent("secret", "rotate").complains(t, 0, path, "taken until")
	if second := show(); second == first || !strings.HasPrefix(second, "sck1-") {
		t.Errorf("after secret rotate, show prints %q, before %q", second, first)
	}
	if b, _ := os.ReadFile(path); strings.Count(string(b), "\n") != 2 || !strings.Contains(string(b), strings.TrimSpace(first)+" until ") {
		t.Errorf("the file has %q, want the new secret and the old one with its end", b)
	}
	h.sh("stat -c %a "+path).want(t, 0, "600\n")

	tokenFile := h.secret(path, "token", "token")
	for verb, words := range map[string][]string{"rotate": {"worker token"}, "ca": {"worker token"}} {
		h.scagent("secret", verb, "-secret-file", tokenFile).complains(t, 1, words...)
	}
	h.scagent("secret").complains(t, 2, "new, show, token")
	h.scagent("secret", "shwo").complains(t, 2, "shwo")
	h.scagent("secret", "header", "GET", "nonsense").complains(t, 1, "nonsense")
	h.scagent("secret", "header", "GET").complains(t, 2, "METHOD URL")
}

func TestASecretFileThatIsNoneIsOneClearLine(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := l.host()
	good := filepath.Join(l.dir, "good")
	h.scagent("secret", "new", "-secret-file", good).ok(t)
	text := strings.TrimSpace(h.scagent("secret", "show", "-secret-file", good).ok(t))
	put := func(name, content string, mode os.FileMode) string {
		path := l.file(name, content)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo := filepath.Join(l.dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	another := "7"
	if text[20] == '7' {
		another = "4"
	}
	for _, c := range []struct {
		name, path string
		words      []string
	}{
		{"not there", l.dir + "/nowhere", []string{"no such file"}},
		{"for all to read", put("0644", text, 0o644), []string{"mode 0644", "chmod 600"}},
		{"for the group to write", put("0620", text, 0o620), []string{"mode 0620", "chmod 600"}},
		{"a FIFO", fifo, []string{"not a regular file"}},
		{"a directory", l.dir, []string{"not a regular file"}},
		{"a device", "/dev/zero", []string{"not a regular file"}},
		{"empty", put("empty", "", 0o600), []string{"empty"}},
		{"16 MB", put("large", strings.Repeat("x", 16<<20), 0o600), []string{"at most 16384"}},
		{"binary", put("binary", noise(300), 0o600), nil},
		{"another's", put("other", text[:20]+another+text[21:], 0o600), []string{"checksum"}},
		{"cut off", put("short", text[:30], 0o600), nil},
		{"two secrets", put("two", text+"\n"+text+"\n", 0o600), []string{"line 2", "until"}},
	} {
		l.run(t, c.name, func(t *testing.T) {
			words := append([]string{c.path}, c.words...)
			h.scagent("agent", "-secret-file", c.path).complains(t, 1, words...)
			h.scagent("submit", "-secret-file", c.path, "true").complains(t, 125, words...)
			h.scagent("secret", "token", "-secret-file", c.path).complains(t, 1, words...)
			h.Env = []string{"SCAGENT_SECRET_FILE=" + c.path}
			defer func() { h.Env = nil }()
			h.scagent("agent").complains(t, 1, words...)
		})
	}
	l.run(t, "with spaces and line ends around it", func(t *testing.T) {
		path := put("spaces", "# ours\n\n  "+strings.ToUpper(text)+" \r\n", 0o600)
		h.scagent("secret", "show", "-secret-file", path).want(t, 0, text+"\n")
	})
}

// TestHostsWithTheSecretMeetAcrossNetworks has a router between all hosts.
func TestHostsWithTheSecretMeetAcrossNetworks(t *testing.T) {
	t.Parallel()
	need(t, "curl")
	l := newLab(t)
	hosts := l.apart(5)
	one, two, three, four, five := hosts[0], hosts[1], hosts[2], hosts[3], hosts[4]
	secret := filepath.Join(l.dir, "secret")
	one.scagent("secret", "new", "-secret-file", secret).ok(t)
	token := one.secret(secret, "token", "token")
	const at = "10.77.1.2"
	a := one.agent("-name", "one", "-role", "worker,master,tracker", "-secret-file", secret)
	b := two.agent("-name", "two", "-secret-file", one.secret(secret, "show", "copy"), "-join", at)
	assemble(t, patience, a, b)
	l.run(t, "tasks go both ways", func(t *testing.T) {
		a.call("submit", "-on", "two", "--", "echo", "over").want(t, 0, "over\n")
		b.call("submit", "-on", "one", "--", "echo", "back").want(t, 0, "back\n")
		large := noise(1 << 20)
		l.file("in", large)
		b.call("submit", "-on", "one", "-in", l.dir+"/in", "-out", "out", "-out-dir", l.dir+"/back", "--", "cp", "in", "out").want(t, 0, "")
		wantFiles(t, l.dir+"/back", map[string]string{"out": large})
	})
	l.run(t, "a command without an agent", func(t *testing.T) {
		three.scagent("submit", "-secret-file", secret, "-join", at, "-all", "-fold", "--", "echo", "hi").ok(t)
	})

	w := three.agent("-name", "three", "-secret-file", token, "-join", at)
	l.run(t, "a worker token", func(t *testing.T) {
		if line := w.err.await(t, " is up at "); !strings.Contains(line, " as worker;") {
			t.Errorf("with a worker token, the agent says %q; want it to be a worker alone", line)
		}
		assemble(t, patience, a, b, w)
		a.call("submit", "-on", "three", "--", "echo", "ran").want(t, 0, "ran\n")
		w.call("submit", "-on", "one", "true").complains(t, 125, "worker token")
		four.scagent("submit", "-secret-file", token, "-join", at, "true").complains(t, 125, "worker token")
	})

	l.run(t, "another secret", func(t *testing.T) {
		other := filepath.Join(l.dir, "other")
		four.scagent("secret", "new", "-secret-file", other).ok(t)
		s := four.agent("-name", "four", "-secret-file", other, "-join", at)
		s.err.await(t, "[WARN]", at, "same secret")
		a.err.await(t, "[WARN]", "10.77.4.2", "secret")
		four.scagent("submit", "-addr", "unix://"+s.socket, "-on", "one", "-wait-workers", "100ms", "true").complains(t, 125, `"one"`)
		s.call("join", at).complains(t, 1, at, "same secret")
		if ms := s.members(); len(ms) != 1 {
			t.Errorf("with another secret it sees %v", ms)
		}
		s.signal(syscall.SIGTERM)
		s.await()
		four.scagent("submit", "-secret-file", other, "-join", at, "-wait-workers", "1s", "true").complains(t, 125, at, "secret")
	})
	l.run(t, "no secret", func(t *testing.T) {
		s := five.agent("-name", "five", "-insecure", "-join", at)
		s.err.await(t, "[WARN]", at, "secret")
		a.err.await(t, "[WARN]", "10.77.5.2", "secret")
		s.call("join", at).complains(t, 1, at, "secret")
		if ms := s.members(); len(ms) != 1 {
			t.Errorf("without a secret it sees %v", ms)
		}
	})
	for _, who := range []*agent{a, b, w} {
		eventually(t, patience, who.name+" sees the three that have the secret", func() (bool, any) {
			ms := alive(who.members())
			return len(ms) == 3, ms
		})
	}

	l.run(t, "curl", func(t *testing.T) {
		four.Env = []string{"SCAGENT_SECRET_FILE=" + secret, "PATH=" + filepath.Dir(binary(t)) + ":" + os.Getenv("PATH")}
		const ask = `curl -sS --cacert ca.pem -H "$(scagent secret header GET $url)" $url`
		sh := func(line string) *result { return four.sh("cd " + l.dir + " && " + line) }
		sh("scagent secret ca > ca.pem").ok(t)
		out := sh("url=https://" + at + ":44201/hostsAvailable; " + ask).ok(t)
		if list := decode[hostList](t, out); len(list.Masters) != 2 || len(list.Workers) != 3 {
			t.Errorf("the tracker answers %s, want 2 masters and 3 workers", out)
		}
		if named := sh("url=https://one:44201/hostsAvailable; " + strings.Replace(ask, "curl", "curl --resolve one:44201:"+at, 1)).ok(t); len(named) != len(out) {
			t.Errorf("under its name the tracker answers %s, under its address %s", named, out)
		}
		sh("url=https://two:44201/hostsAvailable; "+strings.Replace(ask, "curl", "curl --resolve two:44201:"+at, 1)).want(t, 60, "") // its certificate does not say so
		post := sh(`url=https://` + at + `:44201/hostsAvailable; body='{"addr":"10.77.4.2","port":9000,"role":"worker"}'
			curl -sS --cacert ca.pem -H "$(scagent secret header POST $url "$body")" -d "$body" $url`).ok(t)
		if !strings.Contains(post, `"10.77.4.2"`) {
			t.Errorf("the tracker answers an announcement with %s", post)
		}
		const code = ` -w ' %{http_code}'`
		for line, want := range map[string][]string{
			"curl -sS --cacert ca.pem https://" + at + ":44201/hostsAvailable": {"this pool has a secret", "scagent secret header", " 401"},
			"url=https://" + at + ":44201/hostsAvailable; h=$(scagent secret header GET $url); curl -sS -o once --cacert ca.pem -H \"$h\" $url; curl -sS --cacert ca.pem -H \"$h\" $url": {"made before", " 401"},
			"SCAGENT_SECRET_FILE=" + l.dir + "/other; export SCAGENT_SECRET_FILE; url=https://" + at + ":44201/hostsAvailable; " + ask:                                                   {"signature is wrong", " 401"},
			"curl -sS http://" + at + ":44201/hostsAvailable": {"use https instead", " 400"},
		} {
			if out := sh(line + code).ok(t); !containsAll(out, want) || strings.Contains(out, "masters") {
				t.Errorf("%s prints %q, want %q", line, out, want)
			}
		}
	})
}
