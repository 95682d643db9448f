// Task is what chaos tasks run. It notes in a file, outside of all that is struck,
// that it starts and that it ends:
//
//	task FILE [MICROSECONDS]
//
// appends `TASKID ATTEMPT PID start UNIXNANO`, waits for a time that differs from task
// to task, at most so long, and appends the same with `end`. Each line is one write.
package main

import (
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		os.Stderr.WriteString("task: " + err.Error() + "\n")
		os.Exit(1)
	}
}

func run(args []string) error {
	f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	id := os.Getenv("SCAGENT_TASK_ID")
	note := func(what string) error {
		_, err := f.WriteString(id + " " + os.Getenv("SCAGENT_ATTEMPT") + " " + strconv.Itoa(os.Getpid()) + " " + what + " " + strconv.FormatInt(time.Now().UnixNano(), 10) + "\n")
		return err
	}
	if err := note("start"); err != nil {
		return err
	}
	if len(args) > 1 {
		most, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(spread(id, most)) * time.Microsecond)
	}
	return note("end")
}

// spread returns a number from 0 to most, made from the id, so that all attempts of a
// task take as long.
func spread(id string, most int) int {
	h := uint32(2166136261) // FNV-1a
	for i := range len(id) {
		h = (h ^ uint32(id[i])) * 16777619
	}
	return int(h % uint32(most+1))
}
