package git

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/scagent/scagent/test/bounds"
)

func TestURL(t *testing.T) {
	for _, c := range []struct{ in, base, want, scheme string }{
		{"strongloop/slc", "", "https://github.com/strongloop/slc", "https"},
		{"a-b_c.d/e.f_g-h", "", "https://github.com/a-b_c.d/e.f_g-h", "https"},
		{"user/repo.git", "https://git.example/x", "https://git.example/x/user/repo.git", "https"},
		{"user/repo", "https://git.example/x/", "https://git.example/x/user/repo", "https"},
		{"user/repo", "file:///srv/git", "file:///srv/git/user/repo", "file"},
		{"user/repo", "/srv/git", "/srv/git/user/repo", "file"},
		{"user/repo", "git@git.example:", "git@git.example:user/repo", "ssh"},
		{"https://example.com/a/b.git", "x", "https://example.com/a/b.git", "https"},
		{"http://127.0.0.1:8080/a", "", "http://127.0.0.1:8080/a", "http"},
		{"ssh://git@example.com:2222/~me/a", "", "ssh://git@example.com:2222/~me/a", "ssh"},
		{"git://[::1]/a", "", "git://[::1]/a", "git"},
		{"git@github.com:a/b.git", "", "git@github.com:a/b.git", "ssh"},
		{"host:a", "", "host:a", "ssh"},
		{"file:///srv/a b", "", "file:///srv/a b", "file"},
		{"/srv/ü", "", "/srv/ü", "file"},
	} {
		got, err := URL(c.in, c.base)
		s, _ := scheme(got)
		if err != nil || got != c.want || s != c.scheme {
			t.Errorf("URL(%q, %q) = %q (%s), %v, want %q (%s)", c.in, c.base, got, s, err, c.want, c.scheme)
		}
	}
}

var badURLs = []string{
	"", "-", "--upload-pack=touch /tmp/p", "-c core.sshCommand=touch", "-u/x", "ext::sh -c touch% /tmp/p", "ext::sh://x/y", "fd::17", "transport::https://x/y",
	"file://etc", "file://host/etc", "file://", "file:///", "ssh://-oProxyCommand=x/y", "ssh://-x@host/y", "ssh://u@-host/y", "-oProxyCommand=x:y", "u@-host:y", "-u@host:y", "host:-y", "host:",
	"https://u:p@h/r", "https://token@h/r", "ssh://u:p@h/r", "http://h", "https:///r", "https://h/", "ftp://h/r", "javascript://h/r", "HTTPS://-h/r", "HTTPS://h/r",
	"https://h:port/r", "https://h/%zz", "https://h/a\nb", "https://h/a\x00", "https://h/\x1b[2J", "https://h/\xff", "/srv/\x07", "git://a b/c", "git://a;b/c", "git://$(x)/c",
	"a", "a/b/c", "./a", "../a", "a/..", "./b", "a/.", "github.com/a/b", "~/a", "C:", "a b/c", "@h:p",
	"https://h/" + strings.Repeat("x", 3000),
}

func TestBadURLs(t *testing.T) {
	for _, in := range badURLs {
		got, err := URL(in, "")
		if err == nil || strings.ContainsAny(err.Error(), "\n\x1b\x00") || !utf8.ValidString(err.Error()) || len(err.Error()) > 500 {
			t.Errorf("URL(%.80q) = %q, %v, want a printable error", in, got, err)
		}
	}
	for _, base := range []string{"-x", "ext::sh -c x", "ftp://x", "rel"} {
		if got, err := URL("user/repo", base); err == nil {
			t.Errorf("URL below %q = %q, want an error", base, got)
		}
	}
}

func FuzzURL(f *testing.F) {
	for _, in := range append(badURLs, "a/b", "https://h/r", "u@h:p", "/a", "file:///a") {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		bounds.Input(t, in)
		defer bounds.Check(t)()
		got, err := URL(in, "")
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b\x00") || !utf8.ValidString(err.Error()) || len(err.Error()) > 500 {
				t.Errorf("URL(%.80q): %q", in, err)
			}
			return
		}
		s, err := scheme(got)
		if err != nil || strings.HasPrefix(got, "-") || strings.ContainsAny(got, "\x00\n\r\x1b") {
			t.Errorf("URL(%q) = %q (%s), %v", in, got, s, err)
		}
		// What git takes for the name of a helper.
		word := strings.TrimLeft(got, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-")
		if strings.HasPrefix(word, "::") || !strings.Contains("https http ssh git file", s) {
			t.Errorf("URL(%q) = %q (%s)", in, got, s)
		}
		if name := repoName(got); name == "" || strings.HasPrefix(name, "-") || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\\\x00") {
			t.Errorf("repoName(%q) = %q", got, name)
		}
	})
}

func TestRefs(t *testing.T) {
	for _, ref := range []string{"", "HEAD", "v1.1", "main", "feature/x-y_z.1", "refs/heads/main", "0123456789abcdef0123456789abcdef01234567"} {
		if err := checkRef(ref); err != nil {
			t.Errorf("checkRef(%q) = %v", ref, err)
		}
	}
	for _, ref := range []string{"--exec=x", "-x", "HEAD:..", "HEAD:x", "@{-1}", "@", "a..b", "a.lock", "a b", "a\nb", "a\x00", "a//b", "a/", "/a", ".a", "a~1", "a^{tree}", "a*", strings.Repeat("a", 201)} {
		if err := checkRef(ref); err == nil || strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("checkRef(%q) = %v, want an error", ref, err)
		}
	}
}

func TestNamesOfDirectories(t *testing.T) {
	for in, want := range map[string]string{
		"https://h/a/slc.git": "slc", "https://h/a/slc/": "slc", "u@h:slc": "slc", "/srv/a b": "a-b", "https://h/.git": "repo", "https://h/..": "repo",
		"https://h/-x": "x", "https://h/.x": "x", "/" + strings.Repeat("x", 200): "repo", "/srv/ü": "repo",
	} {
		if got := repoName(in); got != want {
			t.Errorf("repoName(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCommandsAsTyped(t *testing.T) {
	for want, argv := range map[string][]string{
		"npm install":        {"npm", "install"},
		"make | tee x":       {"sh", "-c", "make | tee x"},
		"make && x":          {"/bin/sh", "-c", "make && x"},
		`echo 'a b' '' '$x'`: {"echo", "a b", "", "$x"},
		`echo 'it'\''s'`:     {"echo", "it's"},
	} {
		if got := asTyped(argv); got != want {
			t.Errorf("asTyped(%q) = %s, want %s", argv, got, want)
		}
	}
}
