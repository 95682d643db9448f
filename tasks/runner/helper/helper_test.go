package helper

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	Run(map[string]func() int{"greet": func() int {
		fmt.Print("hello ", len(os.Environ()))
		return 7
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
