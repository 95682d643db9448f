package command

import (
	"strings"
	"testing"
)

func TestEveryCommandHasHelp(t *testing.T) {
	for _, c := range commands() {
		for _, flag := range []string{"-h", "-help", "--help"} {
			env := newConsole("")
			status := Run(&env.Env, []string{c.name, flag})
			out := env.out.String()
			if status != 0 || env.err.String() != "" || !strings.HasPrefix(out, "Usage: scagent "+c.name) ||
				!strings.Contains(out, "\nExit status: ") || !strings.Contains(out, "\nExample:\n") {
				t.Errorf("scagent %s %s = %d\nstdout: %s\nstderr: %s", c.name, flag, status, out, env.err.String())
			}
			for _, line := range strings.Split(out, "\n") {
				if len([]rune(line)) > 120 {
					t.Errorf("scagent %s -h has a line of more than 120 characters: %s", c.name, line)
				}
			}
		}
		if s := c.make(&Env{}).Synopsis(); s == "" || strings.Contains(s, "\n") {
			t.Errorf("synopsis of %s = %q, want one line", c.name, s)
		}
	}
}

func TestRunWithoutACommandIsAUsageError(t *testing.T) {
	newConsole("").want(t, nil, 2, "", overview())
	newConsole("").want(t, []string{"-h"}, 0, overview(), "")
	newConsole("").want(t, []string{"help"}, 0, overview(), "")
}

func TestUnknownCommands(t *testing.T) {
	for arg, want := range map[string]string{
		"sumbit":       "scagent: unknown command \"sumbit\"; did you mean submit?\n",
		"member":       "scagent: unknown command \"member\"; did you mean members?\n",
		"hostname":     "scagent: unknown command \"hostname\"; see: scagent help, and to run a program elsewhere: scagent submit hostname\n",
		"-x":           "scagent: unknown flag -x; flags come after a command's name, see: scagent help\n",
		"two words":    "scagent: unknown command \"two words\"; see: scagent help, and to run a program elsewhere: scagent submit two words\n",
		"evil\x1b[2J!": "scagent: unknown command \"evil\\x1b[2J!\"; see: scagent help, and to run a program elsewhere: scagent submit evil\\x1b[2J!\n",
	} {
		newConsole("").want(t, []string{arg}, 2, "", want)
	}
}

func TestUsageErrorsAreOneLine(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"members -wehre x", 2, "scagent members: unknown flag -wehre; did you mean -where? (see: scagent members -h)\n"},
		{"members --stauts=x", 2, "scagent members: unknown flag --stauts; did you mean -status? (see: scagent members -h)\n"},
		{"members -where", 2, "scagent members: flag -where needs a value (see: scagent members -h)\n"},
		{"members -role boss", 2, "scagent members: -role is \"boss\"; want one of worker, master, tracker (see: scagent members -h)\n"},
		{"members x", 2, "scagent members: unexpected argument \"x\"; want none (see: scagent members -h)\n"},
		{"available maybe", 2, "scagent available: want on or off (see: scagent available -h)\n"},
		{"cancel", 2, "scagent cancel: want at least one id of a task or a run (see: scagent cancel -h)\n"},
		{"status xyz", 2, "scagent status: not an id: \"xyz\"; want the 26 letters and digits that submit printed (see: scagent status -h)\n"},
		{"join", 2, "scagent join: want at least one address (see: scagent join -h)\n"},
		{"data {", 2, "scagent data: \"{\": want KEY=VALUE, JSON or @FILE (see: scagent data -h)\n"},
		{"help targest", 2, "scagent help: no help on \"targest\"; did you mean targets? (see: scagent help -h)\n"},
		{"submit", 125, "scagent submit: there is nothing to run; want a command, -shell, -file, -git, -js, -func or -task (see: scagent submit -h)\n"},
		{"submit -xyzzy df", 125, "scagent submit: unknown flag -xyzzy; write -- before what is not scagent's (see: scagent submit -h)\n"},
		{"agent -on-event a", 2, "scagent agent: -on-event is \"a\"; there is no =; want NAME=COMMAND, such as workerAvailable=./script (see: scagent agent -h)\n"},
		{"agent -on-event a*=b", 2, "scagent agent: -on-event is \"a*=b\"; not the name of an event: \"a*\"; * stands for a whole part, and ** for one or more at the end, as in build.* and build.** (see: scagent agent -h)\n"},
		{"agent -hook-timeout 0s", 2, "scagent agent: -hook-timeout is 0s; want above 0 (see: scagent agent -h)\n"},
	} {
		newConsole("").want(t, strings.Fields(c.args), c.status, "", c.want)
	}
}

func TestHelpTopics(t *testing.T) {
	for name, text := range topics {
		newConsole("").want(t, []string{"help", name}, 0, strings.TrimSpace(text)+"\n", "")
		for line := range strings.SplitSeq(text, "\n") {
			if len([]rune(line)) > 110 {
				t.Errorf("topic %s has a line of more than 110 characters: %s", name, line)
			}
		}
	}
	newConsole("").want(t, []string{"help", "join"}, 0, (&JoinCommand{}).Help(), "")
}

func TestVersionIsPrinted(t *testing.T) {
	for _, arg := range []string{"version", "-version", "--version", "-v"} {
		c := newConsole("")
		if status := Run(&c.Env, []string{arg}); status != 0 || !strings.HasPrefix(c.out.String(), "scagent "+agentVersion()+" (go") {
			t.Errorf("scagent %s = %d, %q", arg, status, c.out.String())
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"where", "wait-workers", "one", "on", "n", "stdin", "json"}
	for word, want := range map[string]string{
		"wehre": "where", "were": "where", "wait-worker": "wait-workers", "whree": "where", "jsno": "json", "stdni": "stdin",
		"zzz": "", "": "", "completely-else": "", strings.Repeat("w", 1000): "",
	} {
		if got := nearest(word, words); got != want {
			t.Errorf("nearest(%.20q) = %q, want %q", word, got, want)
		}
	}
}

func TestCleanShowsWhatWouldDriveATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"plain ünïcode 名": "plain ünïcode 名",
		"a\x1b[2Jb":       `a\x1b[2Jb`,
		"two\nlines":      `two\nlines`,
		"bad\xffutf":      `bad\xffutf`,
		"c1\u009bx":       `c1\u009bx`,
		"bidi\u202eevil":  `bidi\u202eevil`,
		"":                "",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTableAlignsCleanCells(t *testing.T) {
	got := table{{"NAME", "X", "Y"}, {"名前", "1", "a"}, {"n\n1", "100", ""}}.String()
	want := "NAME  X    Y\n名前    1    a\nn\\n1  100  \n"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
