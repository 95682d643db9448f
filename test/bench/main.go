package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/scagent/scagent/agent"
)

// row is one line of the table: how one thing is measured for several parties.
type row struct {
	name    string
	what    string
	unit    string
	less    bool // smaller is better
	parties []party
}

// tempDir is removed at the end.
var tempDir string

// party measures one competitor once; start and stop are not in the figure.
type party struct {
	name    string
	measure func(ctx context.Context) (float64, error)
}

func main() {
	agent.RunHelper()
	if role := os.Getenv(roleVar); role != "" {
		play(role)
		return
	}
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	names := flag.String("rows", "", "rows to measure, separated by commas (default: all)")
	runs := flag.Int("runs", 5, "measurements of each party")
	only := flag.String("only", "", "measure only parties whose name contains this")
	verbose := flag.Bool("v", false, "print each measurement")
	flag.Parse()
	if err := run(*names, *only, *runs, *verbose); err != nil {
		log.Fatal(err)
	}
}

// run measures the rows with these names, all if there are none.
func run(names, only string, runs int, verbose bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if tempDir, err = os.MkdirTemp("", "scagent-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(tempDir)
	if err := os.Chmod(tempDir, 0o711); err != nil { // where agents are root, tasks run as nobody
		return err
	}
	defer end()
	for _, r := range rows() {
		if names != "" && !slices.Contains(strings.Split(names, ","), r.name) {
			continue
		}
		r.parties = slices.DeleteFunc(r.parties, func(p party) bool { return !strings.Contains(p.name, only) })
		if err := measure(ctx, r, runs, verbose); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}

// measure prints a row: the first party is scagent, and the ratios are to it.
func measure(ctx context.Context, r row, runs int, verbose bool) error {
	fmt.Printf("\n%s: %s\n", r.name, r.what)
	got := make([][]float64, len(r.parties))
	for range runs {
		for i, p := range r.parties {
			v, err := p.measure(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			got[i] = append(got[i], v)
			if verbose {
				fmt.Printf("    %-28s %12.1f %s\n", p.name, v, r.unit)
			}
		}
	}
	own := median(got[0])
	for i, p := range r.parties {
		slices.Sort(got[i])
		m := median(got[i])
		fmt.Printf("  %-28s %12.1f %-8s [%.1f … %.1f]", p.name, m, r.unit, got[i][0], got[i][len(got[i])-1])
		if i > 0 {
			fmt.Printf("   scagent is %.2f ×", own/m)
		}
		fmt.Println()
	}
	return nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
