package secret

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/test/bounds"
)

func TestTextsRoundTrip(t *testing.T) {
	s := New()
	for _, want := range []*Secret{s, s.Token()} {
		for _, text := range []string{want.Text(), "  " + want.Text() + "\n", strings.ToUpper(want.Text())} {
			got, err := Parse(text)
			if err != nil {
				t.Fatalf("Parse of a %v: %v", want, err)
			}
			if !got.Equal(want) || got.Text() != want.Text() || got.gossip != want.gossip || got.tag != want.tag || got.discovery != want.discovery {
				t.Errorf("Parse(Text()) of %v differs", want)
			}
		}
	}
	if New().Text() == s.Text() || New().Cluster() == s.Cluster() {
		t.Error("two new secrets are the same")
	}
	if tok := s.Token(); tok.Full() || tok.masterKey != nil || tok.Cluster() != s.Cluster() || s.Equal(tok) {
		t.Error("a token can do what it must not, or is of another cluster")
	}
	if tok := s.Token(); !tok.Token().Equal(tok) {
		t.Error("the token of a token is not itself")
	}
}

// What is derived must stay the same for ever: pools of different versions meet.
func TestDerivedKeysStay(t *testing.T) {
	s := fromSeed(bytes.Repeat([]byte{7}, seedBytes))
	got := fmt.Sprintf("%s %s %x %x", s.Text(), s.Cluster(), s.tag, s.masterPub[:8])
	want, err := os.ReadFile("testdata/derived.txt")
	if err != nil || got != strings.TrimSpace(string(want)) {
		t.Errorf("derived from sevens:\n%s\nwant\n%s (%v)", got, want, err)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	s := New()
	for _, v := range []any{s, s.Token(), Chain{{Secret: s}}[0].Secret} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if got := fmt.Sprintf(verb, v); strings.Contains(got, s.Text()[10:30]) {
				t.Errorf("%s prints the secret", verb)
			}
		}
	}
}

func TestTextsThatAreNone(t *testing.T) {
	s := New()
	good, token := s.Text(), s.Token().Text()
	swap := func(text string, at int) string {
		c := byte('a')
		if text[at] == c {
			c = 'b'
		}
		return text[:at] + string(c) + text[at+1:]
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "scagent secret new"},
		{"blank", " \n\t ", "scagent secret new"},
		{"another thing", "hunter2", "no secret"},
		{"prefix alone", "sck1-", "not whole"},
		{"cut", good[:len(good)-3], "not whole"},
		{"longer", good + "a", "not whole"},
		{"typing error", swap(good, 20), "typing error"},
		{"error in the checksum", swap(good, len(good)-1), "typing error"},
		{"a space inside", good[:20] + " " + good[21:], "typing error"},
		{"a digit that base32 lacks", good[:20] + "1" + good[21:], "typing error"},
		{"token cut", token[:90], "not whole"},
		{"token with an error", swap(token, 60), "typing error"},
		{"token with a secret's prefix", "sck1-" + token[5:], "not whole"},
		{"binary", "sck1-\x00\xff\x00", "not whole"},
	} {
		_, err := Parse(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: Parse = %v; want one line with %q", c.name, err, c.want)
		} else if len(c.text) > 40 && strings.Contains(err.Error(), c.text[10:25]) {
			t.Errorf("%s: the error quotes the secret", c.name)
		}
	}
}

func TestFilesRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "secret")
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	c, err := Chain{{Secret: New()}}.Rotate(now, Grace)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Save(path); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("saved with mode %v, %v; want 0600", st.Mode(), err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || !got.Current().Equal(c.Current()) || !got[1].Until.Equal(now.Add(24*time.Hour)) {
		t.Errorf("Load(Save) = %v, want %v", got, c)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".secret*")); len(left) > 0 {
		t.Errorf("Save left %v", left)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	good := New().Text()
	dir := t.TempDir()
	for _, c := range []struct {
		name, body string
		mode       os.FileMode
		want       string // part of the error; empty: none
	}{
		{"plain", good, 0o600, ""},
		{"read-only", good + "\n", 0o400, ""},
		{"with a comment", "# of the lab\n\n" + good + "\n", 0o600, ""},
		{"for the group", good, 0o640, "chmod 600"},
		{"for the world", good, 0o604, "chmod 600"},
		{"writable by others", good, 0o602, "chmod 600"},
		{"empty", "", 0o600, "empty"},
		{"binary", "\x00\x01\x02", 0o600, "no secret"},
		{"16 MB", strings.Repeat("a", 16<<20), 0o600, "at most"},
		{"a second secret", good + "\n" + New().Text(), 0o600, "line 2"},
		{"first with an end", good + " until 2026-11-25T09:00:00Z", 0o600, "line 1"},
		{"an end that is no time", good + "\n" + New().Text() + " until tomorrow", 0o600, "RFC 3339"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(c.name, " ", "-"))
			if err := os.WriteFile(path, []byte(c.body), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := Load(path)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("Load = %v, want none", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n")):
				t.Errorf("Load = %v; want one line that names the file and says %q", err, c.want)
			}
		})
	}
	if _, err := Load(filepath.Join(dir, "missing")); err == nil || strings.Count(err.Error(), "missing") != 1 {
		t.Errorf("Load of no file = %v", err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Load of a directory = %v", err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{"XDG_CONFIG_HOME": dir}
	get := func(k string) string { return env[k] }
	if got := Find("a", get); got != "a" {
		t.Errorf("Find with a flag = %q", got)
	}
	if os.Geteuid() != 0 {
		path := filepath.Join(dir, "scagent", "secret")
		if got := Find("", get); got != "" {
			t.Errorf("Find without a file = %q, want none", got)
		}
		if err := (Chain{{Secret: New()}}).Save(path); err != nil {
			t.Fatal(err)
		}
		if got := Find("", get); got != path {
			t.Errorf("Find = %q, want %q", got, path)
		}
	}
	env["SCAGENT_SECRET_FILE"] = "b"
	if got := Find("", get); got != "b" {
		t.Errorf("Find with the variable = %q", got)
	}
}

func TestRotationNeedsTheWholeSecret(t *testing.T) {
	if _, err := (Chain{{Secret: New().Token()}}).Rotate(time.Now(), Grace); err == nil {
		t.Error("a worker token was rotated")
	}
}

func FuzzParseChain(f *testing.F) {
	s := fromSeed(bytes.Repeat([]byte{7}, seedBytes))
	f.Add([]byte(s.Text()))
	f.Add([]byte(s.Token().Text() + "\n# x\n" + s.Text() + " until 2026-11-25T09:00:00Z"))
	f.Add([]byte("sck1-\n"))
	f.Add([]byte("scw1-aaaa-bbbb until"))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		c, err := ParseChain(b)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		again, err := ParseChain(c.Text())
		if err != nil || len(again) != len(c) || !bytes.Equal(again.Text(), c.Text()) {
			t.Errorf("ParseChain(Text()) = %v, %v; want %v", again, err, c)
		}
	})
}

func TestMerge(t *testing.T) {
	now := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	early, late := now.Add(time.Hour), now.Add(24*time.Hour)
	old, a, b, other := fixed(1), fixed(2), fixed(3), fixed(4)
	if bytes.Compare(a.cluster[:], b.cluster[:]) > 0 {
		a, b = b, a
	}
	cur := func(s *Secret, more ...Entry) Chain { return append(Chain{{Secret: s}}, more...) }
	was := func(s *Secret, until time.Time) Entry { return Entry{s, until} }
	for _, c := range []struct {
		name       string
		x, y, want Chain
		oneSided   bool
	}{
		{"the same", cur(a, was(old, late)), cur(a, was(old, late)), cur(a, was(old, late)), false},
		{"a newer one", cur(old), cur(a, was(old, late)), cur(a, was(old, late)), false},
		{"two newer ones", cur(old), cur(b, was(a, late), was(old, early)), cur(b, was(a, late), was(old, early)), false},
		{"an end brought forward", cur(a, was(old, late)), cur(a, was(old, early)), cur(a, was(old, early)), false},
		{"a newer one and an end brought forward", cur(a, was(old, early)), cur(b, was(a, late), was(old, late)), cur(b, was(a, late), was(old, early)), false},
		{"two made at once", cur(a, was(old, late)), cur(b, was(old, late)), cur(a, was(old, late), was(b, late)), false},
		{"two made at once, with other ends", cur(a, was(old, late)), cur(b, was(old, early)), cur(a, was(old, early), was(b, early)), false},
		{"one that is no longer listed, with a newer one", cur(a, was(old, late), was(other, late)), cur(b, was(a, late)), cur(b, was(a, late)), false},
		{"one that only one has", cur(a, was(old, late), was(other, early)), cur(a, was(old, late)), cur(a, was(old, late), was(other, early)), false},
		{"nothing in common", cur(a, was(old, late)), cur(other), cur(a, was(old, late)), true},
	} {
		// In turn: what the one hears of the other, the reverse, and that once is enough.
		if got := c.x.Merge(c.y); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", c.name, got.Text(), c.want.Text())
		}
		if got := c.y.Merge(c.x); !got.Equal(c.want) && !c.oneSided {
			t.Errorf("%s, the other way: %s, want %s", c.name, got.Text(), c.want.Text())
		}
		if got := c.want.Merge(c.y); !got.Equal(c.want) {
			t.Errorf("%s, once more: %s, want %s", c.name, got.Text(), c.want.Text())
		}
	}
}

// What is taken out of the file is out, unless the file is older than what is known.
func TestReload(t *testing.T) {
	late := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	now := Chain{{Secret: fixed(1)}, {fixed(2), late}, {fixed(3), late}}
	for _, c := range []struct {
		name       string
		file, want Chain
	}{
		{"a line is gone", Chain{now[0], now[2]}, Chain{now[0], now[2]}},
		{"an end is brought forward", Chain{now[0], {fixed(2), late.Add(-time.Hour)}, now[2]}, Chain{now[0], now[2], {fixed(2), late.Add(-time.Hour)}}},
		{"an end is put off", Chain{now[0], {fixed(2), late.Add(time.Hour)}, now[2]}, now},
		{"an old file", Chain{{Secret: fixed(2)}}, now},
	} {
		if got := now.Reload(c.file); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", c.name, got.Text(), c.want.Text())
		}
	}
}
