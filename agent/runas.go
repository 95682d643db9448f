package agent

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/tasks/runner/process"
)

// nobody is as whom the tasks of an agent run that is root, has no secret, and
// was not told otherwise: whoever is on the LAN may submit them.
const nobody = "nobody"

// openRunAs settles as whom tasks run. It needs the home and the posture.
func (a *Agent) openRunAs() error {
	name, root := a.cfg.Policy.RunAs, os.Geteuid() == 0
	if name == "" {
		if !root || a.keys != nil || a.cfg.Network != port.Machine {
			return nil
		}
		name = nobody
	}
	u, err := process.LookupUser(name)
	switch {
	case err != nil && a.cfg.Policy.RunAs == "":
		return fmt.Errorf("an agent of root without a secret runs tasks as %s, but %w; name another user with -run-as", nobody, err)
	case err != nil:
		return fmt.Errorf("-run-as: %w", err)
	case int(u.UID) == os.Geteuid():
		return nil
	case !root:
		return fmt.Errorf("-run-as %s: only an agent of root can run tasks as another user", name)
	}
	a.runAs = u
	return passable(a.home.StateDir, u)
}

// passable reports why a user could not reach what is below dir.
func passable(dir string, u *process.User) error {
	for {
		st, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if !u.MayPass(st) {
			return fmt.Errorf("tasks run as user %s, who cannot pass through %s to the work directories; "+
				"run: chmod o+x %s, or choose another place with -state-dir, or another user with -run-as", u.Name, dir, dir)
		}
		up := filepath.Dir(dir)
		if up == dir {
			return nil
		}
		dir = up
	}
}
