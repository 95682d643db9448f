//go:build unix

package agent_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// asNobody runs TestOpenSocket of this program as another user, and reports whether
// that got in.
func asNobody(t *testing.T, env string) bool {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestOpenSocket$", "-test.v")
	cmd.Env, cmd.Dir = []string{env}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, _ := cmd.CombinedOutput()
	switch s := string(out); {
	case strings.Contains(s, "opened: "):
		return true
	case strings.Contains(s, "refused: "):
		return false
	}
	t.Fatalf("the other user's program printed %q", out)
	return false
}
