//go:build unix

package home

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// in returns the environment as seen from another network namespace.
func in(e *Env, ns uint64) *Env {
	c := *e
	c.NetNS = func() (uint64, error) { return ns, nil }
	return &c
}

func up(t *testing.T, e *Env) *Home {
	t.Helper()
	h := claim(t, Options{Env: e})
	announce(t, h)
	return h
}

func TestFindTakesTheLowestOfItsNamespace(t *testing.T) {
	e := testEnv(t)
	up(t, in(e, 7))
	two := up(t, in(e, 8))
	up(t, in(e, 8))
	got, err := in(e, 8).Find()
	if err != nil || got.N != 2 || got.Socket != two.Socket || got.Name != "name-2" || got.ID != "id-2" || got.Pid != os.Getpid() || got.NetNS != 8 {
		t.Errorf("Find = %+v, %v; want agent 2", got, err)
	}
}

func TestFindOrdersByNumberNotByName(t *testing.T) {
	e := in(testEnv(t), 1)
	var homes []*Home
	for range 10 {
		homes = append(homes, up(t, e))
	}
	for _, h := range homes[:8] {
		h.Release()
	}
	if got, err := e.Find(); err != nil || got.N != 9 {
		t.Errorf("Find = %+v, %v; want 9, which is less than 10", got, err)
	}
}

func TestNoAgent(t *testing.T) {
	e := testEnv(t)
	up(t, e).Release()
	// what a killed agent leaves behind, and what never was one
	dir := e.Root + "/user/scagent"
	for _, f := range []string{"1.sock", "1.json", "x.lock", "0.lock", "-1.lock", "99999999999999999999.lock"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := e.Find()
	var none *NoAgentError
	if !errors.Is(err, ErrNoAgent) || !errors.As(err, &none) {
		t.Fatalf("Find = %v, want a *NoAgentError", err)
	}
	for _, want := range []string{dir, "/run/scagent", "scagent agent", "-addr"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not mention %s", err, want)
		}
	}
}

func TestAgentOfAnotherNamespaceIsNamed(t *testing.T) {
	e := testEnv(t)
	h := up(t, in(e, 7))
	_, err := in(e, 8).Find()
	var others *OthersError
	if !errors.As(err, &others) || len(others.Agents) != 1 || others.Agents[0].NetNS != 7 {
		t.Fatalf("Find = %v, want an *OthersError with the one", err)
	}
	for _, want := range []string{"name-1", h.Socket, "another network namespace", "-addr"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not mention %s", err, want)
		}
	}
}

func TestAgentThatStartsIsNamed(t *testing.T) {
	e := testEnv(t)
	h := claim(t, Options{Env: e})
	_, err := e.Find()
	var others *OthersError
	if !errors.As(err, &others) || !strings.Contains(err.Error(), h.Socket+" is only starting") {
		t.Errorf("Find = %v; want an *OthersError that says it is starting", err)
	}
}

func TestRootsAgentIsTakenIfItMayBeOpened(t *testing.T) {
	e := testEnv(t)
	root := up(t, rootEnv(t, e))
	if got, err := e.Find(); err != nil || got.Socket != root.Socket || got.UID != 0 {
		t.Errorf("Find = %+v, %v; want root's", got, err)
	}
	e.MayOpen = func(s string) error {
		if s == root.Socket {
			return &fs.PathError{Op: "connect", Path: s, Err: fs.ErrPermission}
		}
		return nil
	}
	listener(t, root)
	_, err := e.Find()
	var denied *NoAccessError
	if !errors.As(err, &denied) || denied.Socket != root.Socket || !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrNoAgent) {
		t.Fatalf("Find = %v, want a *NoAccessError", err)
	}
	if !strings.Contains(err.Error(), "-api-group") {
		t.Errorf("error %q does not say what to do", err)
	}
	mine := up(t, e)
	if got, err := e.Find(); err != nil || got.Socket != mine.Socket || got.UID != e.UID {
		t.Errorf("Find = %+v, %v; want the user's own, before root's", got, err)
	}
}

func TestAnotherUserFindsRootsAgent(t *testing.T) {
	e := rootEnv(t, testEnv(t))
	others := openToOthers(t, e.Root)
	find := func() string {
		return others.run(t, syscall.Credential{Uid: nobody, Gid: nobody}, "HOME_TEST_FIND="+e.Root)
	}
	if got := find(); !strings.Contains(got, ErrNoAgent.Error()) {
		t.Errorf("without an agent: %s", got)
	}
	h := up(t, e)
	listener(t, h)
	if got := find(); !strings.Contains(got, h.Socket+" is there for its owner alone") {
		t.Errorf("with root's agent: %s", got)
	}
	h.Release()
	if got := find(); !strings.Contains(got, ErrNoAgent.Error()) {
		t.Errorf("after root's agent has ended: %s", got)
	}
	h = claim(t, Options{Env: e, Group: "65534"})
	listener(t, h)
	announce(t, h)
	if got := find(); got != h.Socket {
		t.Errorf("with an agent for the user's group: %s", got)
	}
}

func TestMayOpenAsksTheKernel(t *testing.T) {
	h := claim(t, Options{Env: testEnv(t)})
	listener(t, h)
	if err := mayOpen(h.Socket); err != nil {
		t.Errorf("mayOpen(own socket) = %v", err)
	}
	if err := mayOpen(h.Socket + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("mayOpen(nothing) = %v, want that it does not exist", err)
	}
}

func TestFindHTTP(t *testing.T) {
	e := in(testEnv(t), 7)
	serve := func(e *Env, url string) *Home {
		h := claim(t, Options{Env: e})
		if err := h.Announce(Announcement{ID: "id", Name: "name", HTTP: url, TokenFile: "/file"}); err != nil {
			t.Fatal(err)
		}
		return h
	}
	const one, two = "http://127.0.0.1:1", "http://[::1]:1"
	up(t, e)             // without HTTP
	serve(in(e, 8), one) // another program may have that address here
	starting := claim(t, Options{Env: e})
	if a, err := e.FindHTTP(one, two); !errors.Is(err, ErrNoAgent) {
		t.Errorf("FindHTTP = %+v, %v; want ErrNoAgent", a, err)
	}
	h := serve(e, two)
	if a, err := e.FindHTTP(one, two); err != nil || a.HTTP != two || a.N != h.N || a.TokenFile != "/file" {
		t.Errorf("FindHTTP = %+v, %v; want the agent at the second URL", a, err)
	}
	other := serve(e, one)
	if a, err := e.FindHTTP(one, two); err != nil || a.HTTP != one || a.N != other.N {
		t.Errorf("FindHTTP = %+v, %v; want the agent at the first URL", a, err)
	}
	// What an agent leaves when it is killed: the port is free for others then.
	said, err := os.ReadFile(other.announcement())
	if err != nil {
		t.Fatal(err)
	}
	other.Release()
	if err := os.WriteFile(other.announcement(), said, 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := e.FindHTTP(one); !errors.Is(err, ErrNoAgent) {
		t.Errorf("FindHTTP after the agent has ended = %+v, %v; want ErrNoAgent", a, err)
	}
	starting.Release()
	if os.Geteuid() == 0 {
		root := serve(rootEnv(t, e), one)
		if a, err := e.FindHTTP(one); err != nil || a.UID != 0 || a.Socket != root.Socket {
			t.Errorf("FindHTTP = %+v, %v; want root's", a, err)
		}
	}
}
