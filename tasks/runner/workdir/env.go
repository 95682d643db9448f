package workdir

import (
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/scagent/scagent/tasks"
)

// ownPrefix begins the variables that are scagent's and not the task's to set.
const ownPrefix = "SCAGENT_"

const workdirName = ownPrefix + "WORKDIR"

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// inherited are the variables of the agent that tasks get. Few programs start
// on windows without its own.
var inherited = map[bool][]string{
	false: {"LANG", "TZ"},
	true:  {"LANG", "TZ", "SystemRoot", "ComSpec", "PATHEXT"},
}[runtime.GOOS == "windows"]

// Env returns the environment for an attempt: PATH, LANG and TZ of the agent,
// HOME and TMPDIR in the work directory, SCAGENT_TASK_ID, SCAGENT_RUN_ID,
// SCAGENT_ATTEMPT, SCAGENT_NODE, SCAGENT_INDEX, SCAGENT_SLOTS and
// SCAGENT_WORKDIR, and on top of that the task's own, in which a name that
// begins with SCAGENT_ is an error of code BadInput.
func (d *Dir) Env(a *tasks.Attempt) ([]string, error) {
	env := make([]string, 0, 13+len(a.Task.Env))
	set := func(name, value string) {
		if _, own := a.Task.Env[name]; !own {
			env = append(env, name+"="+value)
		}
	}
	path := os.Getenv("PATH")
	if path == "" {
		path = defaultPath
	}
	set("PATH", path)
	for _, name := range inherited {
		if v, ok := os.LookupEnv(name); ok {
			set(name, v)
		}
	}
	set("HOME", d.Home())
	set("TMPDIR", d.Tmp())
	if runtime.GOOS == "windows" {
		set("USERPROFILE", d.Home())
		set("TEMP", d.Tmp())
		set("TMP", d.Tmp())
	}
	env = append(env, Marks(a)...)
	set("SCAGENT_RUN_ID", a.Run.String())
	set("SCAGENT_NODE", a.Node)
	set("SCAGENT_INDEX", strconv.Itoa(a.Index))
	set("SCAGENT_SLOTS", strconv.Itoa(a.Slots))
	set(workdirName, d.path)
	for _, name := range slices.Sorted(maps.Keys(a.Task.Env)) {
		if strings.HasPrefix(name, ownPrefix) {
			return nil, badInput("env %s: names that begin with %s are set by scagent; choose another", name, ownPrefix)
		}
		env = append(env, name+"="+a.Task.Env[name])
	}
	return env, nil
}

// Marks returns the two entries of Env that only this attempt's processes have,
// for process.Spec.Marks.
func Marks(a *tasks.Attempt) []string {
	return []string{
		"SCAGENT_TASK_ID=" + a.ID.String(),
		"SCAGENT_ATTEMPT=" + strconv.FormatUint(uint64(a.N), 10),
	}
}

// Mark returns how one of the entries begins that Env gives to each attempt whose
// directory is below root: a process.Brood's.
func Mark(root string) string { return workdirName + "=" + root + string(filepath.Separator) }
