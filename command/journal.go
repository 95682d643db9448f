package command

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/scagent/scagent/agent/home"
	"github.com/scagent/scagent/tasks/journal"
)

// JournalCommand looks at the journal of an agent that does not run. It works on
// files alone.
type JournalCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *JournalCommand) Synopsis() string { return "check or repair an agent's tasks on disk" }

// Help says how the command is called.
func (c *JournalCommand) Help() string {
	return manual{
		name: "journal", usage: []string{"check STATE-DIR", "salvage STATE-DIR"}, flags: newFlags(true),
		about: `
An agent keeps its tasks in a journal, in the directory "journal" of its state directory. It refuses to
start when what is there is not what it wrote.

check    reads all of it, changes nothing, and says what is wrong (status 1)
salvage  keeps every record that is intact, and the files as they were beside it. What is lost is said by
         numbers of records: tasks among them are unknown, or as they were before, and may run again`,
		example: "scagent journal check /var/lib/scagent/1",
	}.String()
}

// Run does it.
func (c *JournalCommand) Run(args []string) int {
	operands, err := newFlags(true).parse(args)
	verb := map[string]func(string) (journal.Report, error){"check": journal.Check, "salvage": journal.Salvage}
	switch {
	case err != nil:
	case len(operands) != 2:
		err = errors.New("want check or salvage, and the state directory of an agent")
	case verb[operands[0]] == nil:
		err = fmt.Errorf("%q is unknown; want check or salvage", shorten(operands[0], 40))
	}
	if err != nil {
		return c.env.usage("journal", c.Help(), err)
	}
	h, err := home.Claim(home.Options{StateDir: operands[1]})
	if err != nil {
		return c.env.fail(err)
	}
	defer h.Release()
	// One for each node that had the directory: with certificates of its own an agent is another.
	dirs, err := filepath.Glob(filepath.Join(h.StateDir, "journal", "*"))
	if err == nil && len(dirs) == 0 {
		err = fmt.Errorf("there is no journal in %s", h.StateDir)
	}
	if err != nil {
		return c.env.fail(err)
	}
	status := exitOK
	for _, dir := range dirs {
		report, err := verb[operands[0]](dir)
		c.print(&report)
		if err != nil {
			status = c.env.fail(err)
		}
	}
	return status
}

func (c *JournalCommand) print(r *journal.Report) {
	if r.Segments == 0 {
		return
	}
	fmt.Fprintf(c.env.Stdout, "%d records of node %s in %d files, %d bytes\n", r.Records, r.Node, r.Segments, r.Bytes)
	if r.Torn > 0 {
		fmt.Fprintf(c.env.Stdout, "the last write was not finished: %d bytes; the next start cuts them off\n", r.Torn)
	}
	for _, d := range r.Damage {
		fmt.Fprintln(c.env.Stdout, d)
	}
	for _, g := range r.Gaps {
		fmt.Fprintf(c.env.Stdout, "records %d to %d are missing\n", g.First, g.Last)
	}
	if r.Kept != "" {
		fmt.Fprintf(c.env.Stdout, "the files as they were are in %s\n", r.Kept)
	}
}
