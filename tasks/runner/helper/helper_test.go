package helper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	Run(map[string]func() int{"greet": func() int {
		fmt.Print("hello ", len(os.Environ()))
		return 7
	}, "files": func() int {
		// What it starts in turn says which files it has.
		c := exec.Command("/bin/sh", "-c", "ls /dev/fd")
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		if c.Run() != nil {
			return 1
		}
		return 0
	}})
	os.Exit(m.Run())
}

func TestHelperIsThisProgram(t *testing.T) {
	c, err := Command("greet")
	if err != nil {
		t.Fatal(err)
	}
	out, _ := c.Output()
	if string(out) != "hello 0" || c.ProcessState.ExitCode() != 7 {
		t.Errorf("the helper wrote %q and ended with %d; want %q and 7", out, c.ProcessState.ExitCode(), "hello 0")
	}
}

func TestUnknownHelper(t *testing.T) {
	_, err := Command("none")
	if !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "\n") {
		t.Errorf("Command(none) = %v, want ErrUnavailable", err)
	}
}

func TestInheritedFilesAreNotHandedOn(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("nothing is inherited there")
	}
	list := func(files ...*os.File) string {
		c, err := Command("files")
		if err != nil {
			t.Fatal(err)
		}
		c.ExtraFiles = files
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if without, with := list(), list(f, f, f, f, f); with != without {
		t.Errorf("what a helper starts has the files %q when the helper was given five, and %q else", with, without)
	}
}
