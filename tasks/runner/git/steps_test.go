package git

import (
	"testing"

	"github.com/scagent/scagent/tasks"
)

func TestATaskOfWhichACommandRanIsNotBusy(t *testing.T) {
	for steps, want := range map[int]tasks.Code{1: tasks.Busy, 2: tasks.Internal} {
		if out := merge(tasks.Outcome{Code: tasks.Busy}, &tasks.Outcome{Steps: make([]tasks.Step, steps)}); out.Code != want {
			t.Errorf("when command %d cannot be started the code is %s, want %s", steps, out.Code, want)
		}
	}
}
