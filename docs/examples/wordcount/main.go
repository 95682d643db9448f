// Wordcount counts the words of files on all nodes that run it: a function is offered
// by each, called with one piece of text after the other, and the counts are added up.
//
//	wordcount -name w1                   # on each host: it waits for work
//	wordcount -name w2
//	wordcount -count *.txt               # anywhere: counts, and prints the ten most frequent
package main

import (
	"bufio"
	"cmp"
	"context"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
)

const pieceLines = 1000 // of a file, for one call

// count is the function that runs on the workers. What it takes and returns is
// anything that msgpack can carry.
var count = tasks.NewFunc("wordcount", func(_ context.Context, text string) (map[string]int, error) {
	words := map[string]int{}
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) }) {
		words[w]++
	}
	return words, nil
})

func main() {
	agent.RunHelper()
	log.SetFlags(0)
	cfg := agent.DefaultConfig()
	cfg.Temporary = true
	flag.StringVar(&cfg.Name, "name", "", "`NAME` of this node (default: the host's)")
	flag.StringVar(&cfg.Cluster, "cluster", "wordcount", "`NAME` of the pool")
	flag.StringVar(&cfg.Bind, "bind", "", "`ADDR[:PORT]` to listen at (default: all)")
	join := flag.String("join", "", "`ADDR` of a node, where multicast does not reach")
	counts := flag.Bool("count", false, "count the words of the files named, and end")
	flag.Parse()
	if *join != "" {
		cfg.Join = []string{*join}
	}
	if *counts {
		cfg.Roles = []membership.Role{membership.RoleMaster} // the others work
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	a, err := agent.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	if err := a.Handle(count); err != nil {
		log.Fatal(err)
	}
	var first sync.Once
	if _, err := a.On("taskReceived", func(e agent.Event) {
		first.Do(func() { fmt.Printf("counts for %s\n", e.From) })
	}); err != nil {
		log.Fatal(err)
	}
	if err := a.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	if !*counts {
		fmt.Printf("%s works at %s\n", a.Self().Name, a.Self().AddrPort)
		<-ctx.Done()
		a.Leave(context.Background())
		return
	}
	words, err := countFiles(ctx, a, flag.Args())
	if err != nil {
		a.Close()
		log.Fatal(err)
	}
	top := slices.SortedFunc(maps.Keys(words), func(a, b string) int {
		return cmp.Or(words[b]-words[a], strings.Compare(a, b))
	})
	for _, w := range top[:min(10, len(top))] {
		fmt.Println(words[w], w)
	}
}

// countFiles has pieces of the files counted, many at a time, and adds up what comes back.
// A piece whose worker dies is counted on another: it is a function of its text alone.
func countFiles(ctx context.Context, a *agent.Agent, files []string) (map[string]int, error) {
	batch, err := a.OpenBatch(tasks.Any(), tasks.DefaultOptions(), 100)
	if err != nil {
		return nil, err
	}
	read := make(chan error, 1)
	go func() {
		defer batch.Seal() // there are no more
		read <- each(files, func(text string) error {
			t, err := count.Task(text)
			if err == nil {
				_, err = batch.Add(ctx, &t)
			}
			return err
		})
	}()
	words := map[string]int{}
	for r := range batch.Results(ctx) {
		some, err := count.Result(&r)
		if err != nil {
			batch.Cancel(tasks.StopCancel)
			return nil, err
		}
		for w, n := range some {
			words[w] += n
		}
	}
	return words, cmp.Or(<-read, ctx.Err())
}

// each calls f with the files, in pieces of whole lines.
func each(files []string, f func(text string) error) error {
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		var piece strings.Builder
		lines, n := bufio.NewScanner(file), 0
		for lines.Scan() {
			piece.WriteString(lines.Text() + "\n")
			if n++; n%pieceLines == 0 {
				if err := f(piece.String()); err != nil {
					return err
				}
				piece.Reset()
			}
		}
		if err := cmp.Or(lines.Err(), f(piece.String())); err != nil {
			return err
		}
	}
	return nil
}
