package command

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/agent/api"
)

// newBench is an agent that measures what it is given, and says what it was asked.
func newBench(t *testing.T, err error, fs ...api.Figure) (addr string, asked *api.BenchRequest) {
	t.Helper()
	b, addr := newAgent(t, script)
	asked = &api.BenchRequest{}
	b.OnBench = func(_ context.Context, r api.BenchRequest, report func(api.Figure) error) error {
		*asked = r
		for _, f := range fs {
			if err := report(f); err != nil {
				return err
			}
		}
		return err
	}
	return addr, asked
}

func TestBenchPrintsFigures(t *testing.T) {
	fs := []api.Figure{{Metric: "noop_latency_p50", Value: 61.237, Unit: "us", N: 20000}, {Metric: "noop_throughput", Value: 343694.44, Unit: "tasks/s", N: 687645},
		{Metric: "payload_in", Value: 712.5, Unit: "MB/s", N: 3}, {Metric: "fanout_p50", Value: 0.101, Unit: "ms", N: 200}, {Metric: "of\x1blater", Value: 1, Unit: "x", N: 1}}
	addr, asked := newBench(t, nil, fs...)
	newConsole("").want(t, []string{"bench", "-addr", addr}, 0, ""+
		"METRIC                   VALUE  UNIT           N  WHAT\n"+
		"noop_latency_p50          61.2  us         20000  a function that does nothing, one call at a time: the median\n"+
		"noop_throughput         343694  tasks/s   687645  the same, 1000 under way at once\n"+
		"payload_in                 712  MB/s           3  64MiB of random bytes to one worker\n"+
		"fanout_p50                0.10  ms           200  the function on all workers, until the last has answered: the median\n"+
		"of\\x1blater               1.00  x              1\n", "")
	if asked.N != 0 || asked.Inflight != 1000 || asked.Size != 64<<20 || len(asked.Only) != 0 || asked.Where != "" {
		t.Errorf("without options the agent is asked for %+v", *asked)
	}
	newConsole("").want(t, []string{"bench", "-addr", addr, "-json"}, 0, `{"metric":"noop_latency_p50","value":61.237,"unit":"us","n":20000}
{"metric":"noop_throughput","value":343694.44,"unit":"tasks/s","n":687645}
{"metric":"payload_in","value":712.5,"unit":"MB/s","n":3}
{"metric":"fanout_p50","value":0.101,"unit":"ms","n":200}
{"metric":"of\u001blater","value":1,"unit":"x","n":1}
`, "")
}

func TestBenchAsksForWhatItsFlagsSay(t *testing.T) {
	addr, asked := newBench(t, nil)
	newConsole("").want(t, []string{"bench", "-addr", addr, "-only", "latency,fanout", "-only=command", "-n", "7", "-inflight", "8", "-size", "3GiB", "-where", "slots > 1"}, 0, "", "")
	if got, _ := json.Marshal(asked); string(got) != `{"only":["latency","fanout","command"],"n":7,"inflight":8,"size":3221225472,"where":"slots \u003e 1"}` {
		t.Errorf("the agent is asked for %s", got)
	}
}

func TestBenchSaysWhyItEnds(t *testing.T) {
	full := &api.Error{Code: api.CodeTooMany, Message: "another one measures", Status: http.StatusServiceUnavailable}
	addr, _ := newBench(t, full)
	newConsole("").want(t, []string{"bench", "-addr", addr}, 1, "", "scagent: another one measures\n")
	// After figures, the error is in the stream.
	addr, _ = newBench(t, errors.New("payload: a task\nfailed"), api.Figure{Metric: "fanout_p50", Value: 1, Unit: "ms", N: 1})
	newConsole("").want(t, []string{"bench", "-addr", addr, "-json"}, 1, `{"metric":"fanout_p50","value":1,"unit":"ms","n":1}`+"\n", "scagent: payload: a task failed\n")
	// An agent that dies is no end of the figures.
	addr = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(`{"metric":"fanout_p50","value":1,"unit":"ms","n":1}` + "\n"))
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	c := newConsole("")
	if status := Run(&c.Env, []string{"bench", "-addr", addr, "-json"}); status != 1 || !strings.Contains(c.err.String(), "hung up") {
		t.Errorf("an agent that hangs up: status %d, %q; want 1 and that it did", status, c.err.String())
	}
}

func TestBenchWithBadArguments(t *testing.T) {
	for args, want := range map[string]string{
		"-only x":                      `-only is "x"; want one of latency, throughput, command, payload, fanout`,
		"-only latency,":               `-only is "latency,"; want names with a comma between each two`,
		"-n 0":                         "-n is 0; want 1 to 1000000",
		"-n -1":                        "-n is -1; want 1 to 1000000",
		"-n 1000001":                   "-n is 1000001; want 1 to 1000000",
		"-n many":                      `-n is "many"; want a whole number`,
		"-inflight 0":                  "-inflight is 0; want 1 to 100000",
		"-inflight 100001":             "-inflight is 100001; want 1 to 100000",
		"-size 0":                      "-size is 0; want 1 to 17179869184",
		"-size -1":                     "-size is -1; want 1 to 17179869184",
		"-size 17GiB":                  "-size is 18253611008; want 1 to 17179869184",
		"-size 1MB":                    `-size is "1MB"; want bytes, such as 1000000, 64KiB, 64MiB or 1GiB`,
		"-size MiB":                    `-size is "MiB"; want bytes, such as 1000000, 64KiB, 64MiB or 1GiB`,
		"-size 1.5GiB":                 `-size is "1.5GiB"; want bytes, such as 1000000, 64KiB, 64MiB or 1GiB`,
		"-size 9999999999999999999GiB": `-size is "9999999999999999999GiB"; want bytes, such as 1000000, 64KiB, 64MiB or 1GiB`,
		"-size 9000000000000000000GiB": `-size is "9000000000000000000GiB"; want bytes, such as 1000000, 64KiB, 64MiB or 1GiB`,
		"-where ((":                    "-where: query: column 2: unexpected end: a value or a closing bracket is missing",
		"-where=":                      "-where: query: ",
		"now":                          `unexpected argument "now"; want none`,
	} {
		c := newConsole("")
		if status := Run(&c.Env, append([]string{"bench"}, strings.Fields(args)...)); status != 2 || !strings.HasPrefix(c.err.String(), "scagent bench: "+want) || strings.Count(c.err.String(), "\n") != 1 || c.out.String() != "" {
			t.Errorf("bench %s = %d, %q, %q; want 2 and %q", args, status, c.out.String(), c.err.String(), want)
		}
	}
}

func TestSizesAreReadAsTheyAreShown(t *testing.T) {
	for _, s := range []string{"1", "1023", "1KiB", "1000000", "64MiB", "1GiB", "1025KiB"} {
		var v sizeValue
		if err := v.Set(s); err != nil || v.String() != s {
			t.Errorf("-size %s is shown as %s, %v", s, v.String(), err)
		}
	}
}

func TestBenchEndsWithASignal(t *testing.T) {
	b, addr := newAgent(t, script)
	began, ended := make(chan struct{}), make(chan error, 1)
	b.OnBench = func(ctx context.Context, _ api.BenchRequest, report func(api.Figure) error) error {
		close(began)
		<-ctx.Done() // for ever, unless the client hangs up
		ended <- ctx.Err()
		return ctx.Err()
	}
	c := newConsole("")
	go func() {
		<-began
		c.signals <- os.Interrupt
	}()
	c.want(t, []string{"bench", "-addr", addr}, 1, "", "scagent: interrupted\n")
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the agent measures on when its client is gone")
	}
}

// TestBenchByALocalMaster measures as bench does where no agent runs.
func TestBenchByALocalMaster(t *testing.T) {
	pool := agenttest.Loopback(t, 2)
	pool.WaitMembers(t)
	con := newConsole("")
	l := &localStart{wait: 10 * time.Second, settle: settleTime}
	l.join, l.cluster, l.bind, l.noMulticast = []string{pool.Agent(1).Self().AddrPort.String()}, pool.Agent(1).Info().Cluster, "127.0.0.1", true
	cl, leave, err := startLocal(t.Context(), &con.Env, l)
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	o, err := parseBench([]string{"-n", "10", "-inflight", "3", "-size", "128KiB", "-json"})
	if err != nil {
		t.Fatal(err)
	}
	if err := (&BenchCommand{&con.Env}).print(t.Context(), cl, o); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(con.out.String(), "\n"); n != 7 {
		t.Errorf("%d figures, want 7:\n%s", n, con.out.String())
	}
}
