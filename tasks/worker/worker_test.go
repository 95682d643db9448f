package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/port/memnet"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
	"github.com/scagent/scagent/test/bounds"
)

// heard is what a test's master has received, a line for each message.
type heard struct {
	mu     sync.Mutex
	lines  []string
	output map[wire.Key]string
}

func (h *heard) add(format string, a ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, fmt.Sprintf(format, a...))
}

// take returns what was heard since the last call, when nothing moves any more.
func (h *heard) take() string {
	time.Sleep(2 * startedDelay) // of the bubble
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	s := strings.Join(h.lines, ", ")
	h.lines = nil
	return s
}

func (h *heard) Accept(_ *wire.Link, k wire.Key, queued bool) {
	if queued {
		h.add("accept %d queued", k.N)
	} else {
		h.add("accept %d ready", k.N)
	}
}
func (h *heard) Reject(_ *wire.Link, k wire.Key, c tasks.Code, _ string) {
	h.add("reject %d %s", k.N, c)
}
func (h *heard) Started(_ *wire.Link, k wire.Key) { h.add("started %d", k.N) }
func (h *heard) Output(_ *wire.Link, k wire.Key, _ wire.Stream, b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.output[k] += string(b)
}
func (h *heard) Result(_ *wire.Link, k wire.Key, o *tasks.Outcome) {
	h.add("%s", strings.TrimSpace(fmt.Sprintf("result %d %s", k.N, o.Code)))
}
func (h *heard) GivenBack(_ *wire.Link, ks []wire.Key) {
	ns := []uint32{}
	for _, k := range ks {
		ns = append(ns, k.N)
	}
	h.add("given back %d", ns)
}
func (h *heard) State(_ *wire.Link, ss []wire.AttemptState) {
	for _, s := range ss {
		h.add("state %d %s", s.N, s.State)
	}
}

// rig is a worker with a few masters that only listen, in a bubble.
type rig struct {
	t     *testing.T
	net   *memnet.Network
	w     *Worker
	hub   *wire.Hub
	mhubs map[string]*wire.Hub
	heard map[string]*heard
}

type runFunc func(context.Context, *tasks.Attempt) tasks.Outcome

func (f runFunc) Run(ctx context.Context, a *tasks.Attempt) tasks.Outcome { return f(ctx, a) }

const workerHost = "10.0.0.1"

func inRig(t *testing.T, slots int, change func(*Config), test func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, net: memnet.New(), mhubs: map[string]*wire.Hub{}, heard: map[string]*heard{}}
		cfg := DefaultConfig()
		cfg.Name, cfg.Slots, cfg.Logger = "w", slots, bounds.Log(t, io.Discard)
		cfg.Runners = map[tasks.Kind]Runner{tasks.Command: runFunc(func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			<-ctx.Done()
			return tasks.Outcome{Code: tasks.Cancelled, Text: context.Cause(ctx).Error()}
		})}
		if change != nil {
			change(&cfg)
		}
		var err error
		if r.w, err = New(cfg); err != nil {
			t.Fatal(err)
		}
		r.hub = r.newHub("w", workerHost, wire.Config{Worker: r.w, Events: downs{r.w}, Load: r.w.Load})
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := r.w.Close(ctx); err != nil {
				t.Error(err)
			}
			r.hub.Close()
			for _, h := range r.mhubs {
				h.Close()
			}
		}()
		test(t, r)
	})
}

type downs struct{ w *Worker }

func (d downs) Up(*wire.Link)              {}
func (d downs) Load(*wire.Link, wire.Load) {}
func (d downs) Down(l *wire.Link, _ error) { d.w.LinkDown(l) }

func (r *rig) newHub(name, ip string, cfg wire.Config) *wire.Hub {
	r.t.Helper()
	host := r.net.Host(ip)
	l, p, err := host.Listen(r.t.Context(), ip+":1")
	if err != nil {
		r.t.Fatal(err)
	}
	p.Close()
	cfg.Self, cfg.Logger = wire.Hello{Node: name, Boot: "1", Cluster: "test", Name: name}, bounds.Log(r.t, io.Discard)
	cfg.Listener = l
	cfg.Dial = func(ctx context.Context, _ string) (net.Conn, error) { return host.Dial(ctx, workerHost+":1") }
	hub, err := wire.NewHub(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	hub.Start()
	return hub
}

// link returns a link from the named master, a new one if there is none.
func (r *rig) link(master string) (*wire.Link, *heard) {
	r.t.Helper()
	if r.mhubs[master] == nil {
		h := &heard{output: map[wire.Key]string{}}
		r.heard[master] = h
		r.mhubs[master] = r.newHub(master, fmt.Sprintf("10.0.1.%d", len(r.mhubs)+1), wire.Config{Master: h})
	}
	l, err := r.mhubs[master].Connect(r.t.Context(), "w")
	if err != nil {
		r.t.Fatal(err)
	}
	return l, r.heard[master]
}

// key is the n-th attempt of a master's one task.
func key(master string, n uint32) wire.Key { return wire.Key{Task: tasks.ID{master[0]}, N: n} }

func offer(l *wire.Link, master string, n uint32, change ...func(*wire.Offer)) {
	o := &wire.Offer{Key: key(master, n), Slots: 1, Spec: wire.AppendTask(nil, &tasks.Task{Kind: tasks.Command, Argv: []string{"x"}})}
	for _, f := range change {
		f(o)
	}
	l.SendOffer(o)
}

func atMostOnce(o *wire.Offer) { o.AtMostOnce = true }

func expect(t *testing.T, h *heard, want string) {
	t.Helper()
	if got := h.take(); got != want {
		t.Errorf("the master heard %q, want %q", got, want)
	}
}

func TestOfferStartsOrQueuesAndCancelAnswersEither(t *testing.T) {
	inRig(t, 1, nil, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		offer(l, "a", 1)
		expect(t, h, "started 1")
		offer(l, "a", 2)
		expect(t, h, "")
		offer(l, "a", 2) // known: it only says where it stands
		expect(t, h, "accept 2 queued")
		l.SendCancel(key("a", 2), tasks.StopCancel)
		expect(t, h, "result 2 cancelled")
		l.SendCancel(key("a", 1), tasks.StopCancel)
		expect(t, h, "result 1 cancelled")
		l.SendCancel(key("a", 9), tasks.StopCancel)
		expect(t, h, "state 9 unknown")
	})
}

func TestAtMostOnceAttemptStartsOnlyWhenGranted(t *testing.T) {
	inRig(t, 1, nil, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		offer(l, "a", 1, atMostOnce)
		expect(t, h, "accept 1 ready")
		offer(l, "a", 2, atMostOnce)
		expect(t, h, "")
		l.SendGrant(key("a", 2)) // not its turn
		expect(t, h, "")
		l.SendGrant(key("a", 1))
		expect(t, h, "started 1")
		l.SendCancel(key("a", 1), tasks.StopCancel)
		expect(t, h, "result 1 cancelled, accept 2 ready")
	})
}

func TestAtMostOnceAttemptIsStoppedWhenItsMasterIsSilentForTheLease(t *testing.T) {
	var once, other time.Duration
	start := time.Now()
	inRig(t, 2, func(c *Config) {
		c.Runners[tasks.Command] = runFunc(func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			<-ctx.Done()
			if a.N == 1 {
				once = time.Since(start)
			} else {
				other = time.Since(start)
			}
			return tasks.Outcome{Code: tasks.Cancelled}
		})
	}, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		offer(l, "a", 1, atMostOnce)
		l.SendGrant(key("a", 1))
		h.take()
		l.SendGrant(key("a", 1))
		offer(l, "a", 2)
		h.take()
		start = time.Now()
		r.mhubs["a"].Close()
		time.Sleep(time.Hour) // of the bubble
		synctest.Wait()
		if once < 2*time.Second || once > 4*time.Second || other < 9*time.Minute || other > 11*time.Minute {
			t.Errorf("the at-most-once attempt ended after %v, the other after %v; want about the lease of 3s and about 10m", once, other)
		}
	})
}

func TestMastersTakeTurns(t *testing.T) {
	var mu sync.Mutex
	var order []string
	inRig(t, 1, func(c *Config) {
		c.Runners[tasks.Command] = runFunc(func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			mu.Lock()
			order = append(order, string(a.ID[:1]))
			mu.Unlock()
			time.Sleep(time.Second) // of the bubble
			return tasks.Outcome{}
		})
	}, func(t *testing.T, r *rig) {
		a, _ := r.link("a")
		for n := range uint32(6) {
			offer(a, "a", n+1)
		}
		synctest.Wait()
		b, _ := r.link("b")
		for n := range uint32(3) {
			offer(b, "b", n+1)
		}
		time.Sleep(time.Minute) // of the bubble
		mu.Lock()
		defer mu.Unlock()
		if got, want := strings.Join(order, ""), "aabababaa"; got != want {
			t.Errorf("order = %s, want %s: the masters in turn from when both wait", got, want)
		}
	})
}

func TestRecallGivesBackOnlyWhatHasNotStarted(t *testing.T) {
	inRig(t, 1, nil, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		for n := range uint32(3) {
			offer(l, "a", n+1)
		}
		h.take()
		l.SendRecall([]wire.Key{key("a", 1), key("a", 3), key("a", 7)})
		expect(t, h, "given back [3]")
	})
}

func TestReattachSettlesWhatGoesOn(t *testing.T) {
	inRig(t, 2, func(c *Config) {
		c.Runners[tasks.Command] = runFunc(func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			fmt.Fprint(a.Stdout, "hello")
			if a.N == 1 {
				time.Sleep(time.Second) // of the bubble
				return tasks.Outcome{}
			}
			<-ctx.Done()
			return tasks.Outcome{Code: tasks.Cancelled}
		})
	}, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		for n := range uint32(4) {
			offer(l, "a", n+1)
		}
		expect(t, h, "started 1, started 2")
		r.net.Reset(workerHost, "10.0.1.1")
		time.Sleep(2 * time.Second) // of the bubble: 1 ends, and 3 starts, while there is no link
		l, h = r.link("a")
		h.output = map[wire.Key]string{}
		l.SendReattach([]wire.Held{{Key: key("a", 1), Received: 3}, {Key: key("a", 3)}, {Key: key("a", 9)}})
		got := h.take()
		for _, want := range []string{"state 1 finished", "state 3 running", "state 9 unknown", "result 1", "started 3"} {
			if !strings.Contains(got, want) {
				t.Errorf("the master heard %q, want %q in it", got, want)
			}
		}
		if h.output[key("a", 1)] != "lo" || h.output[key("a", 3)] != "hello" {
			t.Errorf("output sent again: %v, want what was missing of 1 and all of 3", h.output)
		}
		if ld := r.w.Load(); ld.Busy != 1 || ld.Queued != 0 {
			t.Errorf("load = %+v, want 3 alone: 2 and 4 are not wanted any more", ld)
		}
		l.SendAck(key("a", 1), 1<<20)
		synctest.Wait()
		l.SendReattach([]wire.Held{{Key: key("a", 1)}, {Key: key("a", 3)}})
		if got := h.take(); !strings.Contains(got, "state 1 unknown") {
			t.Errorf("after the ack the master heard %q, want that 1 is forgotten", got)
		}
	})
}

func TestTimeoutStopsTheAttempt(t *testing.T) {
	inRig(t, 1, func(c *Config) {
		c.Runners[tasks.Command] = runFunc(func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			<-ctx.Done()
			var why *tasks.StopError
			if errors.As(context.Cause(ctx), &why) && why.Reason == tasks.StopTimeout {
				return tasks.Outcome{Code: tasks.Timeout}
			}
			return tasks.Outcome{Code: tasks.Cancelled}
		})
	}, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		offer(l, "a", 1, func(o *wire.Offer) { o.Timeout = time.Second })
		time.Sleep(900 * time.Millisecond) // of the bubble
		expect(t, h, "started 1")
		time.Sleep(200 * time.Millisecond) // of the bubble
		expect(t, h, "result 1 timeout")
	})
}

func TestWhatAWorkerCannotRunIsRejected(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*wire.Offer)
		want   string
	}{
		{"more slots than there are", func(o *wire.Offer) { o.Slots = 3 }, "reject 1 refused"},
		{"no slots", func(o *wire.Offer) { o.Slots = 0 }, "reject 1 refused"},
		{"a kind without runner", func(o *wire.Offer) {
			o.Spec = wire.AppendTask(nil, &tasks.Task{Kind: tasks.JS, Source: "1"})
		}, "reject 1 refused"},
		{"a task that no worker could run", func(o *wire.Offer) {
			o.Spec = wire.AppendTask(nil, &tasks.Task{Kind: tasks.Command, Argv: []string{"x"}, Inputs: []tasks.Input{{Name: "../x"}}})
		}, "reject 1 refused"},
		{"not a task", func(o *wire.Offer) { o.Spec = []byte("nonsense") }, "reject 1 refused"},
		{"nothing", func(o *wire.Offer) { o.Spec = nil }, "reject 1 refused"},
		{"as many slots as there can be", func(o *wire.Offer) { o.Slots = 1<<32 - 1 }, "reject 1 refused"},
		{"two ways to run", func(o *wire.Offer) {
			o.Spec = wire.AppendTask(nil, &tasks.Task{Kind: tasks.Command, Argv: []string{"x"}, Shell: "x"})
		}, "reject 1 refused"},
		{"an input 5,000 deep", func(o *wire.Offer) {
			o.Spec = wire.AppendTask(nil, &tasks.Task{Kind: tasks.Command, Argv: []string{"x"}, Inputs: []tasks.Input{{Name: strings.Repeat("d/", 5000) + "x"}}})
		}, "reject 1 refused"},
		{"a task of a mebibyte", func(o *wire.Offer) {
			o.Spec = wire.AppendTask(nil, &tasks.Task{Kind: tasks.Command, Argv: []string{"x"}, Stdin: &tasks.Content{Inline: make([]byte, 900<<10)}})
		}, "reject 1 refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inRig(t, 2, nil, func(t *testing.T, r *rig) {
				l, h := r.link("a")
				offer(l, "a", 1, c.change)
				expect(t, h, c.want)
			})
		})
	}
}

// What makes no sense where an attempt stands is answered or dropped, however
// often it comes, and changes nothing.
func TestWordsThatComeTooLateChangeNothing(t *testing.T) {
	inRig(t, 1, func(c *Config) {
		c.Runners[tasks.Command] = runFunc(func(context.Context, *tasks.Attempt) tasks.Outcome { return tasks.Outcome{} })
	}, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		offer(l, "a", 1)
		expect(t, h, "result 1")
		k := key("a", 1)
		for range 1000 {
			l.SendCancel(k, tasks.StopCancel)
			l.SendCancel(k, tasks.StopReason(200))
			l.SendGrant(k)
			l.SendWindow(k, 1<<32-1)
		}
		expect(t, h, "")
		l.SendRecall([]wire.Key{k, k, {}})
		expect(t, h, "given back []")
		l.SendReattach([]wire.Held{{Key: k, Received: 1<<64 - 1, Taken: 1<<64 - 1}, {Key: k}, {}})
		expect(t, h, "state 1 finished, state 1 finished, state 0 unknown")
		l.SendAck(k, 1<<20)
		l.SendAck(k, 1<<20)
		expect(t, h, "") // acks travel last
		l.SendCancel(k, tasks.StopCancel)
		expect(t, h, "state 1 unknown")
		if n := len(r.w.attempts); n != 0 || r.w.busy != 0 {
			t.Errorf("%d attempts and %d slots are held", n, r.w.busy)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	inRig(t, 1, func(c *Config) { c.MaxQueued = 1 }, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		for n := range uint32(3) {
			offer(l, "a", n+1)
		}
		expect(t, h, "reject 3 busy, started 1")
	})
}

func TestDrainGivesBackWhatIsQueuedAndWaitsForTheRest(t *testing.T) {
	inRig(t, 1, func(c *Config) {
		c.Runners[tasks.Command] = runFunc(func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			time.Sleep(10 * time.Second) // of the bubble
			return tasks.Outcome{}
		})
	}, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		offer(l, "a", 1)
		offer(l, "a", 2)
		expect(t, h, "started 1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.w.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain with 1s = %v, want deadline exceeded", err)
		}
		offer(l, "a", 3)
		expect(t, h, "reject 2 draining, reject 3 draining")
		if err := r.w.Drain(t.Context()); err != nil {
			t.Errorf("Drain = %v", err)
		}
		expect(t, h, "result 1")
	})
}

func TestCancelledRunnerKeepsItsSlotUntilItReturns(t *testing.T) {
	inRig(t, 1, func(c *Config) {
		c.Runners[tasks.Command] = runFunc(func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			time.Sleep(10 * time.Second) // of the bubble: it ignores that it is stopped
			return tasks.Outcome{Code: tasks.Cancelled}
		})
	}, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		offer(l, "a", 1)
		l.SendCancel(key("a", 1), tasks.StopCancel)
		offer(l, "a", 2)
		expect(t, h, "started 1")
		time.Sleep(9 * time.Second) // of the bubble
		expect(t, h, "")
		time.Sleep(2 * time.Second) // of the bubble
		expect(t, h, "result 1 cancelled, started 2")
	})
}

func TestPanicOfARunnerIsTheAttemptsOutcome(t *testing.T) {
	inRig(t, 1, func(c *Config) {
		c.Runners[tasks.Command] = runFunc(func(context.Context, *tasks.Attempt) tasks.Outcome { panic("oh") })
	}, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		offer(l, "a", 1)
		expect(t, h, "result 1 panic")
		if ld := r.w.Load(); ld.Busy != 0 {
			t.Errorf("load = %+v, want the slot back", ld)
		}
	})
}

func TestOneMasterHasNoSayInAnothersAttempt(t *testing.T) {
	inRig(t, 1, nil, func(t *testing.T, r *rig) {
		a, ha := r.link("a")
		offer(a, "a", 1)
		offer(a, "a", 2)
		expect(t, ha, "started 1")
		b, hb := r.link("b")
		b.SendCancel(key("a", 1), tasks.StopKill)
		b.SendRecall([]wire.Key{key("a", 2)})
		offer(b, "a", 1)
		b.SendReattach([]wire.Held{{Key: key("a", 1)}})
		expect(t, hb, "state 1 unknown, given back [], reject 1 refused, state 1 unknown")
		expect(t, ha, "")
		if ld := r.w.Load(); ld.Busy != 1 || ld.Queued != 1 {
			t.Errorf("load = %+v, want both attempts still there", ld)
		}
	})
}

// sendResult sends an outcome as a worker does.
func sendResult(l *wire.Link, k wire.Key, o *tasks.Outcome) error {
	r, err := wire.NewResult(k, o)
	if err != nil {
		return err
	}
	return l.SendResult(r)
}

// What waits for its grant has a slot, and is about to run: Drain waits for it too.
func TestDrainWaitsForWhatWaitsForItsGrant(t *testing.T) {
	inRig(t, 2, nil, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		offer(l, "a", 1, atMostOnce)
		offer(l, "a", 2, atMostOnce)
		expect(t, h, "accept 1 ready, accept 2 ready")
		drained := make(chan error, 1)
		go func() { drained <- r.w.Drain(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-drained:
			t.Fatalf("Drain = %v while two attempts wait for their grants", err)
		default:
		}
		l.SendGrant(key("a", 1))
		expect(t, h, "started 1")
		l.SendCancel(key("a", 1), tasks.StopCancel)
		expect(t, h, "result 1 cancelled")
		l.SendCancel(key("a", 2), tasks.StopCancel)
		expect(t, h, "result 2 cancelled")
		synctest.Wait()
		select {
		case err := <-drained:
			if err != nil {
				t.Errorf("Drain = %v", err)
			}
		default:
			t.Error("Drain waits still when nothing is left")
		}
	})
}

// That its standard input did not come in time is no fault of this machine.
func TestAStopWhileStandardInputIsFetchedIsTheOutcome(t *testing.T) {
	for _, c := range []struct {
		name string
		stop func(l *wire.Link)
		want string
	}{
		{"timeout", func(*wire.Link) {}, "started 1, result 1 timeout"},
		{"cancel", func(l *wire.Link) { l.SendCancel(key("a", 1), tasks.StopCancel) }, "started 1, result 1 cancelled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inRig(t, 1, func(cfg *Config) {
				cfg.Open = func(ctx context.Context, _ string, _ *tasks.Content) (io.ReadCloser, error) {
					<-ctx.Done()
					return nil, context.Cause(ctx)
				}
			}, func(t *testing.T, r *rig) {
				l, h := r.link("a")
				offer(l, "a", 1, func(o *wire.Offer) {
					o.Timeout = time.Minute
					in := &tasks.Content{Blob: strings.Repeat("0", 64), Size: 1}
					o.Spec = wire.AppendTask(nil, &tasks.Task{Kind: tasks.Command, Argv: []string{"x"}, Stdin: in})
				})
				time.Sleep(time.Second) // of the bubble
				c.stop(l)
				time.Sleep(time.Minute) // of the bubble
				expect(t, h, c.want)
			})
		})
	}
}

// A function that ends its goroutine, as testing.T.FailNow does, costs no slot.
func TestARunnerThatEndsItsGoroutineIsTheAttemptsOutcome(t *testing.T) {
	inRig(t, 1, func(c *Config) {
		c.Runners[tasks.Command] = runFunc(func(_ context.Context, a *tasks.Attempt) tasks.Outcome {
			if a.N == 1 {
				runtime.Goexit()
			}
			return tasks.Outcome{}
		})
	}, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		offer(l, "a", 1)
		offer(l, "a", 2)
		expect(t, h, "result 1 panic, result 2")
	})
}
