package history

import (
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

func someOutcome() tasks.Outcome {
	return tasks.Outcome{
		Code: tasks.Exit, Exit: 3, Signal: "SIGHUP", Text: "status 3", Value: []byte("v"), Encoding: tasks.JSON,
		Outputs: []tasks.OutputFile{
			{Name: "a", Mode: 0o644, Content: tasks.Content{Inline: []byte("in")}},
			{Name: "b", Mode: 0o755, Content: tasks.Content{Blob: "stage-1", Size: 99}},
		},
		Steps:   []tasks.Step{{Stage: "pre", Command: "true", Exit: 1, Signal: "SIGINT"}},
		Started: time.Now(), Finished: time.Now(), User: 1, System: 2, MaxRSS: 3, StdoutBytes: 4, StderrBytes: 5,
	}
}

func TestHashSeesWhatMatters(t *testing.T) {
	base := someOutcome()
	want := Hash(&base)
	for name, c := range map[string]struct {
		change func(*tasks.Outcome)
		same   bool
	}{
		"code":         {func(o *tasks.Outcome) { o.Code = tasks.OK }, false},
		"exit":         {func(o *tasks.Outcome) { o.Exit++ }, false},
		"signal":       {func(o *tasks.Outcome) { o.Signal = "" }, false},
		"text":         {func(o *tasks.Outcome) { o.Text += "." }, false},
		"value":        {func(o *tasks.Outcome) { o.Value = []byte("w") }, false},
		"encoding":     {func(o *tasks.Outcome) { o.Encoding = tasks.Msgpack }, false},
		"stdout":       {func(o *tasks.Outcome) { o.StdoutBytes++ }, false},
		"stderr":       {func(o *tasks.Outcome) { o.StderrBytes++ }, false},
		"output name":  {func(o *tasks.Outcome) { o.Outputs[0].Name = "c" }, false},
		"output mode":  {func(o *tasks.Outcome) { o.Outputs[0].Mode = 0o600 }, false},
		"output bytes": {func(o *tasks.Outcome) { o.Outputs[0].Inline = []byte("on") }, false},
		"output size":  {func(o *tasks.Outcome) { o.Outputs[1].Size++ }, false},
		"one less":     {func(o *tasks.Outcome) { o.Outputs = o.Outputs[:1] }, false},
		"step":         {func(o *tasks.Outcome) { o.Steps[0].Exit = 0 }, false},
		"blob's name":  {func(o *tasks.Outcome) { o.Outputs[1].Blob = "another" }, true},
		"times": {func(o *tasks.Outcome) {
			o.Started, o.Finished, o.User, o.System, o.MaxRSS = time.Time{}, time.Time{}, 0, 0, 0
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			o := someOutcome()
			c.change(&o)
			if got := Hash(&o); (got == want) != c.same {
				t.Errorf("the hash is the same: %v, want %v", got == want, c.same)
			}
		})
	}
}

// node is both ends of a link to itself: its worker answers an offer with an outcome.
type node struct {
	wire.FromMaster
	wire.FromWorker
	outcome tasks.Outcome
	got     chan string
}

func (n *node) Offer(l *wire.Link, o *wire.Offer) {
	r, err := wire.NewResult(o.Key, &n.outcome)
	if err == nil {
		err = l.SendResult(r)
	}
	if err != nil {
		n.got <- err.Error()
	}
}

func (n *node) Result(_ *wire.Link, _ wire.Key, o *tasks.Outcome) { n.got <- Hash(o) }

func TestHashIsTheSameAtBothEndsOfALink(t *testing.T) {
	for name, o := range map[string]tasks.Outcome{
		"full":  someOutcome(),
		"empty": {},
		"odd":   {Exit: -1, Text: "\xff\n", Value: []byte{}, Encoding: tasks.Msgpack, Outputs: []tasks.OutputFile{{Content: tasks.Content{Inline: []byte{}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			n := &node{outcome: o, got: make(chan string, 1)}
			h, err := wire.NewHub(wire.Config{Self: wire.Hello{Cluster: "c", Node: "n", Boot: "b"}, Master: n, Worker: n})
			if err != nil {
				t.Fatal(err)
			}
			h.Start()
			defer h.Close()
			l, err := h.Connect(t.Context(), "n")
			if err != nil {
				t.Fatal(err)
			}
			l.SendOffer(&wire.Offer{Key: wire.Key{N: 1}, Slots: 1})
			if got, want := <-n.got, Hash(&o); got != want {
				t.Errorf("the hash at the master is %s, want %s", got, want)
			}
		})
	}
}
