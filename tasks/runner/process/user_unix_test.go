//go:build unix

package process

import (
	"bytes"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestMayPass(t *testing.T) {
	dir := t.TempDir()
	st, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	own := st.Sys().(*syscall.Stat_t)
	const stranger = 54321
	for _, c := range []struct {
		name string
		user User
		mode os.FileMode
		want bool
	}{
		{"owner", User{UID: own.Uid, GID: stranger}, 0o100, true},
		{"owner who may not", User{UID: own.Uid, GID: stranger}, 0o011, own.Uid == 0},
		{"group", User{UID: stranger, GID: own.Gid}, 0o010, true},
		{"further group", User{UID: stranger, GID: stranger, Groups: []uint32{7, own.Gid}}, 0o710, true},
		{"group that may not", User{UID: stranger, GID: own.Gid}, 0o701, false},
		{"others", User{UID: stranger, GID: stranger}, 0o711, true},
		{"others who may not", User{UID: stranger, GID: stranger}, 0o770, false},
		{"root", User{}, 0, true},
	} {
		if err := os.Chmod(dir, c.mode); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.user.MayPass(st); got != c.want {
			t.Errorf("%s, mode %04o: %t, want %t", c.name, c.mode, got, c.want)
		}
	}
}

// What the agent may execute and the task's user may not is passed over in the PATH, as
// it is when a shell looks.
func TestAnotherUsersPathIsLookedThrough(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can")
	}
	// t.TempDir is not to be passed through by others.
	dir, err := os.MkdirTemp("", "scagent-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, mode := range map[string]os.FileMode{"": 0o755, "/private": 0o700, "/public": 0o755} {
		if err := os.MkdirAll(dir+name, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+name+"/tool", []byte("#!/bin/sh\necho "+name+"\n/bin/cat\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir+name, mode); err != nil {
			t.Fatal(err)
		}
	}
	nobody := &User{UID: 65534, GID: 65534}
	for _, c := range []struct {
		name, path string
		user       *User
		want       string // of the output
	}{
		{"the agent's", dir + "/private:" + dir + "/public", nil, "/private\nin"},
		{"another's", dir + "/private:" + dir + "/public", nobody, "/public\nin"},
		{"the last", dir + "/public:" + dir + "/private", nobody, "/public\nin"},
		{"none after it", dir + "/private:/nowhere", nobody, dir + "/private/tool: permission denied"},
		{"the only one", dir + "/private", nobody, dir + "/private/tool: permission denied"},
	} {
		var out bytes.Buffer
		in := &closing{Reader: strings.NewReader("in")}
		_, err := Run(t.Context(), &Spec{Argv: []string{"tool"}, Env: []string{"PATH=" + c.path}, Dir: dir, Stdin: in, Stdout: &out, User: c.user})
		if err != nil {
			out.WriteString(err.Error())
		}
		if !strings.HasPrefix(out.String(), c.want) || !in.closed {
			t.Errorf("%s: output and error %q, standard input closed: %t; want %q, and closed", c.name, out.String(), in.closed, c.want)
		}
	}
}

// closing says whether it was closed.
type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }
