package command

import (
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

func TestLocalMasterJoinsSubmitsAndLeaves(t *testing.T) {
	c := agenttest.Loopback(t, 2)
	c.WaitMembers(t)
	self := c.Agent(1).Self()
	con := newConsole("")
	o := &localStart{wait: 10 * time.Second, settle: settleTime}
	o.join, o.cluster, o.bind, o.noMulticast = []string{self.AddrPort.String()}, c.Agent(1).Info().Cluster, "127.0.0.1", true
	cl, leave, err := startLocal(t.Context(), &con.Env, o)
	if err != nil {
		t.Fatal(err)
	}
	members, err := cl.Members(t.Context())
	if err != nil || len(members) != 3 || others(members) != 2 {
		t.Errorf("members = %+v, %v; want three", members, err)
	}
	stream, err := cl.SubmitFollow(t.Context(), api.SubmitRequest{
		Task: api.TaskSpec{Kind: tasks.Function, Name: "scagent.noop"}, Target: tasks.Target{All: true}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for {
			e, err := stream.Next()
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == api.StreamResult {
				if e.Result.State != tasks.StateDone {
					t.Errorf("result %+v", e.Result)
				}
				break
			}
		}
	}
	stream.Close()
	leave()
	deadline := time.After(10 * time.Second)
	for {
		n := 0
		for _, m := range c.Agent(1).APIMembers() {
			if m.Status == "left" {
				n++
			}
		}
		if n == 1 {
			break
		}
		select {
		case <-deadline:
			t.Fatalf("members %+v; want one that left", c.Agent(1).APIMembers())
		case <-time.After(10 * time.Millisecond):
		}
	}
	if con.err.String() != "" {
		t.Errorf("said %s", con.err.String())
	}
}

func TestLocalMasterThatCannotStart(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*localStart)
		want string
	}{
		{"nobody there", func(o *localStart) { o.join, o.bind = []string{"127.0.0.1:1"}, "127.0.0.1" }, "no member answered at 127.0.0.1:1 within 50ms"},
		{"no way to find anyone", func(o *localStart) {}, "-no-multicast finds nobody without -join"},
		{"secret", func(o *localStart) { o.join, o.secretFile = []string{"127.0.0.1:1"}, "/nowhere/x" }, "secret file /nowhere/x: no such file"},
		{"bad address", func(o *localStart) { o.join, o.bind = []string{"127.0.0.1:1"}, "nonsense" }, "nonsense"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := &localStart{wait: 50 * time.Millisecond}
			o.noMulticast, o.cluster = true, "test-nobody"
			c.set(o)
			_, _, err := startLocal(t.Context(), &newConsole("").Env, o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("startLocal = %v, want %q", err, c.want)
			}
		})
	}
}
