package command

import (
	"fmt"
	"runtime"
)

// VersionCommand prints the version.
type VersionCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *VersionCommand) Synopsis() string { return "print the version" }

// Help says how the command is called.
func (c *VersionCommand) Help() string {
	_, f := versionFlags()
	return manual{
		name: "version", usage: []string{"[-json]"}, flags: f,
		about: "Prints the version of this program.", example: "scagent version",
	}.String()
}

// versionJSON is the version with -json.
type versionJSON struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func versionFlags() (*bool, *flagSet) {
	f, asJSON := newFlags(true), new(bool)
	f.boolean(asJSON, "json", "print JSON")
	return asJSON, f
}

// Run prints it.
func (c *VersionCommand) Run(args []string) int {
	asJSON, f := versionFlags()
	operands, err := f.parse(args)
	if err == nil {
		err = none(operands)
	}
	if err != nil {
		return c.env.usage("version", c.Help(), err)
	}
	v := versionJSON{agentVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH}
	if *asJSON {
		return c.env.printJSON(v)
	}
	return c.env.print(fmt.Sprintf("scagent %s (%s, %s/%s)\n", v.Version, v.Go, v.OS, v.Arch))
}

// none is an error when there are operands.
func none(operands []string) error {
	if len(operands) > 0 {
		return fmt.Errorf("unexpected argument %q; want none", shorten(operands[0], 80))
	}
	return nil
}
