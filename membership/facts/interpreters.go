package facts

import "os/exec"

// interpreters are the programs looked for, sorted.
var interpreters = [...]string{
	"Rscript", "awk", "bash", "bun", "dash", "deno", "fish", "julia", "ksh", "lua", "node", "perl", "php",
	"powershell", "pwsh", "python", "python3", "ruby", "sh", "tclsh", "zsh",
}

// Interpreters returns the names, sorted, of those programs that run scripts
// and are in this process's PATH, among the usual ones. It only looks: nothing
// is executed.
func Interpreters() []string {
	found := make([]string, 0, len(interpreters))
	for _, name := range interpreters {
		if _, err := exec.LookPath(name); err == nil {
			found = append(found, name)
		}
	}
	return found
}
