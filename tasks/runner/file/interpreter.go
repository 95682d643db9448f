package file

import (
	"bytes"
	"path"
	"runtime"
	"slices"
	"strings"
)

// HeadBytes is how much of the beginning of a file decides what runs it.
const HeadBytes = 512

// extensions say what runs a file without a #! line, by its extension in lower case.
var extensions = map[string][]string{
	".js": {"node"}, ".mjs": {"node"}, ".cjs": {"node"},
	".py": {"python3"}, ".rb": {"ruby"}, ".pl": {"perl"}, ".php": {"php"}, ".lua": {"lua"}, ".r": {"Rscript"}, ".jl": {"julia"}, ".tcl": {"tclsh"},
	".sh": {"sh"}, ".bash": {"bash"}, ".zsh": {"zsh"}, ".ksh": {"ksh"}, ".fish": {"fish"},
	".awk": {"awk", "-f"}, ".ps1": {"pwsh", "-File"},
}

// known are the interpreters that a worker says it has when it has them: those
// of membership/facts. Of others nobody knows.
var known = []string{
	"Rscript", "awk", "bash", "bun", "dash", "deno", "fish", "julia", "ksh", "lua", "node", "perl", "php",
	"powershell", "pwsh", "python", "python3", "ruby", "sh", "tclsh", "zsh",
}

// usual are the directories where a program is, if it is in the PATH at all.
var usual = []string{"/bin", "/usr/bin", "/usr/local/bin"}

// Interpreter returns the name of the interpreter that a worker must have to run
// a file of that name, which begins with head (HeadBytes of it are enough), with
// an interpreter that was asked for, if any. It is one of those that workers
// list; false when the file needs none, or one of which no worker says whether
// it is there.
func Interpreter(name string, head []byte, interpreter string) (string, bool) {
	argv := choose(name, head, interpreter)
	if len(argv) == 0 {
		return "", false
	}
	program := argv[0]
	if dir, base := path.Split(program); slices.Contains(usual, path.Clean(dir)) {
		program = base
	}
	return program, slices.Contains(known, program)
}

// choose returns the program, with its first arguments, that runs the file:
// none if it is a program itself, nil if nothing says what does.
func choose(name string, head []byte, interpreter string) []string {
	if interpreter != "" {
		return []string{interpreter}
	}
	if argv := shebang(head); argv != nil {
		return argv
	}
	if native(head) {
		return []string{}
	}
	return extensions[strings.ToLower(path.Ext(name))]
}

// shebang returns the words of a #! line, nil if there is none.
func shebang(head []byte) []string {
	line, ok := bytes.CutPrefix(head, []byte("#!"))
	if !ok {
		return nil
	}
	line, _, _ = bytes.Cut(line[:min(len(line), HeadBytes)], []byte("\n"))
	program, rest, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(string(line), "\t", " ")), " ")
	rest = strings.TrimSpace(rest)
	switch {
	case program == "":
		return nil
	case rest == "":
		return []string{program}
	case path.Base(program) != "env" || strings.ContainsAny(rest, `"'\$`):
		return []string{program, rest}
	}
	words := strings.Fields(rest)
	if words[0] == "-S" {
		words = words[1:]
	}
	if len(words) > 0 && !strings.HasPrefix(words[0], "-") && !strings.Contains(words[0], "=") {
		return words // env only looks it up, and so do we
	}
	return append([]string{program}, strings.Fields(rest)...)
}

// native reports whether the file is a program for some machine: ELF, Mach-O or
// PE.
func native(head []byte) bool {
	for _, magic := range []string{"\x7fELF", "\xcf\xfa\xed\xfe", "\xce\xfa\xed\xfe", "\xca\xfe\xba\xbe", "MZ"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return magic != "MZ" || runtime.GOOS == "windows"
		}
	}
	return false
}
