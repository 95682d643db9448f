// Growingpool hands out work for as long as it runs, to whoever is there: workers that join
// are given some at once, and what a worker had that goes is done by others.
//
//	growingpool -work                 # on each laptop, whenever it likes
//	growingpool -tasks 1000           # somewhere: hands out, says who works, and ends
//
// After ^C it hands out no more, and ends when what is out is done.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
)

// square is the work.
var square = tasks.NewFunc("square", func(ctx context.Context, n int) (int, error) {
	select {
	case <-time.After(20 * time.Millisecond): // as if it were hard
		return n * n, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
})

func main() {
	agent.RunHelper()
	log.SetFlags(0)
	cfg := agent.DefaultConfig()
	cfg.Temporary = true
	flag.StringVar(&cfg.Name, "name", "", "`NAME` of this node (default: the host's)")
	flag.StringVar(&cfg.Cluster, "cluster", "growingpool", "`NAME` of the pool")
	flag.StringVar(&cfg.Bind, "bind", "", "`ADDR[:PORT]` to listen at (default: all)")
	join := flag.String("join", "", "`ADDR` of a node, where multicast does not reach")
	work := flag.Bool("work", false, "work for others until ^C")
	n := flag.Int("tasks", 1000, "hand out `N` tasks")
	flag.Parse()
	if *join != "" {
		cfg.Join = []string{*join}
	}
	if !*work {
		cfg.Roles = []membership.Role{membership.RoleMaster}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second ^C ends it at once
	a, err := agent.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	if err := a.Handle(square); err != nil {
		log.Fatal(err)
	}
	if !*work {
		watch(a)
	}
	if err := a.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	fmt.Printf("%s is at %s\n", a.Self().Name, a.Self().AddrPort)
	if *work {
		<-ctx.Done()
		// What runs here ends first; what waits here goes elsewhere.
		drain, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		a.Drain(drain)
		a.Leave(drain)
		return
	}
	if err := handOut(ctx, a, *n); err != nil {
		a.Close()
		log.Fatal(err)
	}
}

// watch says who comes and goes.
func watch(a *agent.Agent) {
	for event, does := range map[string]string{"workerAvailable": "joins", "workerUnavailable": "leaves"} {
		if _, err := a.On(event, func(e agent.Event) {
			fmt.Printf("%s %s\n", e.Member.Name, does)
		}); err != nil {
			log.Fatal(err)
		}
	}
}

// handOut has n numbers squared, checks their sum, and says who squared how many.
func handOut(ctx context.Context, a *agent.Agent, n int) error {
	options := tasks.DefaultOptions()
	options.WaitWorkers = time.Hour // for the first to join
	batch, err := a.OpenBatch(tasks.Any(), options, 100)
	if err != nil {
		return err
	}
	go func() {
		defer batch.Seal()
		for i := 0; i < n && ctx.Err() == nil; i++ {
			t, err := square.Task(i)
			if err == nil {
				_, err = batch.Add(ctx, &t) // waits while enough are out
			}
			if err != nil {
				return // the results end when what was added is done
			}
		}
	}()
	sum, by := 0, map[string]int{}
	for r := range batch.Results(context.WithoutCancel(ctx)) {
		v, err := square.Result(&r)
		if err != nil {
			return err
		}
		sum += v
		by[r.Worker]++
		if by[r.Worker] == 1 {
			fmt.Printf("%s works\n", r.Worker)
		}
	}
	done := 0
	for _, w := range slices.Sorted(maps.Keys(by)) {
		fmt.Printf("%s did %d\n", w, by[w])
		done += by[w]
	}
	if done < n && ctx.Err() == nil {
		return fmt.Errorf("%d of %d are done", done, n)
	}
	fmt.Printf("sum %d\n", sum)
	return nil
}
