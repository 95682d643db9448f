package command

import (
	"flag"
	"fmt"
	"slices"
	"strings"
)

// manual is what the help of a command is made of.
type manual struct {
	name  string
	usage []string // how it is called, without "scagent NAME"
	about string   // what it does
	flags *flagSet
	exits string // exit statuses; empty: those of most commands
	// example is one or more command lines.
	example string
}

const usualExits = "0 done, 1 failed, 2 called wrongly"

// String is the text of Help.
func (m manual) String() string {
	var b strings.Builder
	for i, u := range m.usage {
		lead := "Usage: "
		if i > 0 {
			lead = "       "
		}
		b.WriteString(strings.TrimRight(lead+"scagent "+m.name+" "+u, " ") + "\n")
	}
	fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(m.about))
	if m.flags != nil {
		for _, g := range m.flags.groups {
			fmt.Fprintf(&b, "\n%s:\n", g.title)
			for _, fl := range g.flags {
				b.WriteString(flagHelp(fl))
			}
		}
	}
	exits := m.exits
	if exits == "" {
		exits = usualExits
	}
	fmt.Fprintf(&b, "\nExit status: %s\n", exits)
	fmt.Fprintf(&b, "\nExample:\n")
	for line := range strings.SplitSeq(strings.TrimSpace(m.example), "\n") {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return b.String()
}

// helpWidth is how wide help is.
const helpWidth = 96

// flagHelp is the lines about one flag.
func flagHelp(fl *flag.Flag) string {
	const indent = 24
	value, text := flag.UnquoteUsage(fl)
	if b, ok := fl.Value.(*boolValue); ok && b != nil {
		value = ""
	}
	if def := fl.DefValue; def != "" && def != "false" && def != "0" && def != "0s" && !strings.Contains(text, "(default") {
		text += " (default: " + def + ")"
	}
	head := "  -" + fl.Name
	if value != "" {
		head += " " + value
	}
	lines := wrap(text, helpWidth-indent)
	if len(head) > indent-2 {
		lines = append([]string{""}, lines...)
	}
	var b strings.Builder
	for i, l := range lines {
		if i > 0 {
			head = ""
		}
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-*s%s", indent, head, l), " ") + "\n")
	}
	return b.String()
}

// wrap breaks text into lines of at most width bytes, where words allow.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && len(line)+1+len(w) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	return append(lines, line)
}

// overview is the help of scagent itself.
func overview() string {
	var b strings.Builder
	b.WriteString(`Usage: scagent COMMAND [ARG…]

scagent spreads work over the machines you have. Start "scagent agent" on each; they find each
other, and from any of them "scagent submit" runs work on one, some or all.

Commands:
`)
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-11s %s\n", c.name, c.make(&Env{}).Synopsis())
	}
	fmt.Fprintf(&b, "\n\"scagent COMMAND -h\" and \"scagent help TOPIC\" say more. Topics: %s.\n", strings.Join(topicNames(), ", "))
	return b.String()
}

// HelpCommand prints help on a command or a topic.
type HelpCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *HelpCommand) Synopsis() string { return "help on a command or a topic" }

// Help says how the command is called.
func (c *HelpCommand) Help() string {
	return manual{
		name: "help", usage: []string{"[COMMAND|TOPIC]"},
		about:   "Prints help on a command or one of these topics:\n" + strings.Join(topicNames(), ", ") + ".",
		example: "scagent help targets",
	}.String()
}

// Run prints it.
func (c *HelpCommand) Run(args []string) int {
	operands, err := newFlags(true).parse(args)
	if err == nil && len(operands) > 1 {
		err = fmt.Errorf("too many arguments; want one command or topic")
	}
	if err != nil {
		return c.env.usage("help", c.Help(), err)
	}
	if len(operands) == 0 {
		return c.env.print(overview())
	}
	text, err := helpOn(operands[0])
	if err != nil {
		return c.env.usage("help", c.Help(), err)
	}
	return c.env.print(text)
}

func helpOn(word string) (string, error) {
	if t, ok := topics[word]; ok {
		return strings.TrimSpace(t) + "\n", nil
	}
	names := topicNames()
	if name, ok := aliases[word]; ok {
		word = name
	}
	for _, c := range commands() {
		if c.name == word {
			return c.make(&Env{}).Help(), nil
		}
		names = append(names, c.name)
	}
	if near := nearest(word, names); near != "" {
		return "", fmt.Errorf("no help on %q; did you mean %s?", shorten(word, 40), near)
	}
	return "", fmt.Errorf("no help on %q; topics are %s", shorten(word, 40), strings.Join(topicNames(), ", "))
}

func topicNames() []string {
	var names []string
	for n := range topics {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
