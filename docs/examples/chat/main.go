// Chat sends each line of its standard input to everybody in a room, and prints what the
// others say, and who comes and goes.
//
//	chat -name ann            # on one host
//	chat -name bob            # on another
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
)

func main() {
	log.SetFlags(0)
	cfg := agent.DefaultConfig()
	cfg.Temporary = true
	cfg.Roles = []membership.Role{membership.RoleMaster} // it runs nothing for others
	flag.StringVar(&cfg.Name, "name", "", "`NAME` of this node (default: the host's)")
	flag.StringVar(&cfg.Cluster, "cluster", "chat", "`NAME` of the pool")
	flag.StringVar(&cfg.Bind, "bind", "", "`ADDR[:PORT]` to listen at (default: all)")
	join := flag.String("join", "", "`ADDR` of a node, where multicast does not reach")
	room := flag.String("room", "lobby", "`NAME` of the room")
	flag.Parse()
	if *join != "" {
		cfg.Join = []string{*join}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	a, err := agent.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	listen(a, "chat."+*room)
	if err := a.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	fmt.Printf("* %s is at %s\n", a.Self().Name, a.Self().AddrPort)

	lines := make(chan string)
	go func() {
		defer close(lines)
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			lines <- in.Text()
		}
	}()
	for {
		select {
		case line, more := <-lines:
			if !more { // end of input: listen on
				lines = nil
				continue
			}
			if err := a.Send(ctx, tasks.All(), "chat."+*room, line); err != nil {
				log.Print(err)
			}
		case <-ctx.Done():
			a.Leave(context.Background())
			return
		}
	}
}

// listen prints what is said in a room, and who comes and goes. On calls its function
// with one event after the other, so lines are not mixed.
func listen(a *agent.Agent, room string) {
	print := func(e agent.Event) {
		var line string
		switch {
		case e.Missed > 0:
			fmt.Printf("* %d lines were missed\n", e.Missed)
		case e.Event == "masterAvailable" && !e.Member.Self:
			fmt.Printf("* %s has come\n", e.Member.Name)
		case e.Event == "masterUnavailable" && !e.Member.Self:
			fmt.Printf("* %s has gone (%s)\n", e.Member.Name, e.Member.Status)
		case e.Event != room || e.FromID == a.Self().ID:
		case e.Data.Decode(&line) == nil:
			fmt.Printf("%s: %s\n", e.From, line)
		}
	}
	if _, err := a.On("**", print); err != nil {
		log.Fatal(err)
	}
}
