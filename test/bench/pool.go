package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/membership"
)

func init() { roles["member"] = memberRole }

// clusterAgent is an agent as `scagent agent` starts it, but on loopback, and
// without a place on this host.
func clusterAgent(s spec, change func(*agent.Config)) (*agent.Agent, error) {
	cfg := agent.DefaultConfig()
	cfg.Bind, cfg.Cluster, cfg.Multicast, cfg.Temporary = "127.0.0.1:0", s.Cluster, false, true
	if s.Slots > 0 {
		cfg.Slots = s.Slots
	}
	if s.Join != "" {
		cfg.Join = []string{s.Join}
	}
	change(&cfg)
	a, err := agent.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := a.Handle(noop); err != nil {
		return nil, err
	}
	return a, a.Start(context.Background())
}

// crowd counts the members that an agent has been told of.
type crowd struct {
	mu      sync.Mutex
	present map[string]bool
	changed chan struct{} // closed, and made anew, when present has changed
}

func newCrowd() *crowd { return &crowd{present: map[string]bool{}, changed: make(chan struct{})} }

func (c *crowd) on(e membership.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Member.Status.Present() {
		c.present[e.Member.ID] = true
	} else {
		delete(c.present, e.Member.ID)
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// await waits until there are n members and returns when that was.
func (c *crowd) await(n int) (time.Time, error) {
	late := time.After(3 * time.Minute)
	for {
		c.mu.Lock()
		have, changed := len(c.present), c.changed
		c.mu.Unlock()
		if have == n {
			return time.Now(), nil
		}
		select {
		case <-changed:
		case <-late:
			return time.Time{}, fmt.Errorf("%d members after 3 minutes, want %d", have, n)
		}
	}
}

// moment is the answer to the order "see": when so many members were present.
type moment struct {
	At    int64 // Unix nanoseconds
	Error string
}

// memberRole is an agent of the default roles that says when it sees so many
// members, and sends a task to all.
func memberRole(in *json.Decoder, out *json.Encoder) error {
	var s spec
	if err := json.Unmarshal([]byte(getSpec()), &s); err != nil {
		return err
	}
	seen := newCrowd()
	a, err := clusterAgent(s, func(cfg *agent.Config) { cfg.OnEvent = seen.on })
	if err != nil {
		return err
	}
	defer a.Close()
	out.Encode(a.Self().AddrPort.String())
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return err
		}
		switch o.What {
		case "see":
			at, err := seen.await(o.N)
			m := moment{At: at.UnixNano()}
			if err != nil {
				m.Error = err.Error()
			}
			out.Encode(m)
		case "fan":
			out.Encode(toAll(context.Background(), a, o))
		default:
			return fmt.Errorf("unknown order %q", o.What)
		}
	}
}

// pool are members, each a process.
type pool struct {
	cluster string
	addr    string // of the first
	members []*child
	started time.Time // when the last was
}

// newPool starts k members at once that join the first, and waits until each is up.
func newPool(ctx context.Context, k int) (*pool, error) {
	s := spec{Cluster: "bench" + strconv.Itoa(os.Getpid()), Slots: 2}
	var addr string
	first, err := spawnWith(ctx, "member", s, &addr)
	if err != nil {
		return nil, err
	}
	p := &pool{cluster: s.Cluster, addr: addr, members: []*child{first}}
	s.Join = addr
	for range k - 1 {
		c, err := begin(ctx, "member", s)
		if err != nil {
			p.stop()
			return nil, err
		}
		p.members = append(p.members, c)
	}
	p.started = time.Now()
	for _, c := range p.members[1:] {
		if err := c.answer(&addr); err != nil {
			p.stop()
			return nil, err
		}
	}
	return p, nil
}

// begin is spawnWith that does not wait for the first answer.
func begin(ctx context.Context, role string, s spec) (*child, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	os.Setenv(specVar, string(b))
	return launch(ctx, role)
}

// see waits until every member sees n, and returns when the last did.
func (p *pool) see(n int) (last time.Time, err error) {
	for _, c := range p.members {
		if err := c.send.Encode(order{What: "see", N: n}); err != nil {
			return last, err
		}
	}
	for _, c := range p.members {
		var m moment
		if err := c.answer(&m); err != nil {
			return last, err
		}
		if m.Error != "" {
			return last, errors.New(m.Error)
		}
		if at := time.Unix(0, m.At); at.After(last) {
			last = at
		}
	}
	return last, nil
}

func (p *pool) stop() {
	for _, c := range p.members {
		c.in.Close()
	}
	for _, c := range p.members {
		c.cmd.Wait()
	}
}

// kill ends a member as kill -9 does.
func (p *pool) kill(i int) time.Time {
	c := p.members[i]
	p.members = append(p.members[:i:i], p.members[i+1:]...)
	at := time.Now()
	c.cmd.Process.Kill()
	go c.cmd.Wait()
	return at
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// joinRow is how long it takes, from the start of the last of k processes, until
// all see all. What counts is the worst of many runs.
func joinRow(k int) row {
	return row{name: fmt.Sprint("join", k), what: fmt.Sprintf("%d agents as processes join one: from the start of the last until all see all", k), unit: "ms", less: true, parties: []party{
		{"scagent", func(ctx context.Context) (float64, error) {
			p, err := newPool(ctx, k)
			if err != nil {
				return 0, err
			}
			defer p.stop()
			last, err := p.see(k)
			return ms(last.Sub(p.started)), err
		}},
	}}
}

// lossRow is how long it takes from a kill -9 until all others say that a member
// has failed.
func lossRow(k int) row {
	return row{name: fmt.Sprint("loss", k), what: fmt.Sprintf("kill -9 of one of %d agents until all others say so", k), unit: "ms", less: true, parties: []party{
		{"scagent", func(ctx context.Context) (float64, error) {
			p, err := newPool(ctx, k)
			if err != nil {
				return 0, err
			}
			defer p.stop()
			if _, err := p.see(k); err != nil {
				return 0, err
			}
			at := p.kill(k / 2)
			last, err := p.see(k - 1)
			return ms(last.Sub(at)), err
		}},
	}}
}

// idleRow is what an idle agent of k costs of one core, over 20 s.
func idleRow(k int) row {
	return row{name: fmt.Sprint("idle", k), what: fmt.Sprintf("CPU of each of %d idle agents", k), unit: "millionths of a core", less: true, parties: []party{
		{"scagent", func(ctx context.Context) (float64, error) {
			cluster, join := "bench"+strconv.Itoa(os.Getpid()), ""
			var pids []int
			for range k {
				args := []string{"-cluster", cluster}
				if join != "" {
					args = append(args, "-join", join)
				}
				a, err := newRealAgent(ctx, args...)
				if err != nil {
					return 0, err
				}
				defer a.stop()
				join = a.addr
				pids = append(pids, a.cmd.Process.Pid)
			}
			const settle, measured = 10 * time.Second, 20 * time.Second
			time.Sleep(settle)
			before, err := cpu(pids)
			if err != nil {
				return 0, err
			}
			time.Sleep(measured)
			after, err := cpu(pids)
			return 1e6 * (after - before).Seconds() / measured.Seconds() / float64(k), err
		}},
	}}
}

// cpu is the time that processes have used, by the scheduler's own account; that
// of /proc/PID/stat has hundredths of a second, which is too coarse here.
func cpu(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return 0, err
		}
		for _, name := range threads {
			b, err := os.ReadFile(name)
			if err != nil {
				return 0, err
			}
			used, _, _ := strings.Cut(string(b), " ")
			ns, err := strconv.ParseInt(used, 10, 64)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(ns)
		}
	}
	return sum, nil
}

// resident is the memory of a process, in MB.
func resident(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	return float64(pages*os.Getpagesize()) / 1e6, err
}

// program builds the program itself into a temporary directory.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp(tempDir, "program-")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-C", "../..", "-o", dir+"/scagent", ".") // this module lacks what the commands need
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir + "/scagent", nil
})

// realAgent is a `scagent agent`.
type realAgent struct {
	cmd  *exec.Cmd
	addr string
	api  string // for -addr
	dir  string
}

func newRealAgent(ctx context.Context, args ...string) (*realAgent, error) {
	bin, err := program()
	if err != nil {
		return nil, err
	}
	a := &realAgent{}
	if a.dir, err = os.MkdirTemp(tempDir, "agent-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(a.dir, 0o711); err != nil { // where agents are root, tasks run as nobody
		return nil, err
	}
	a.cmd = exec.CommandContext(ctx, bin, append([]string{"agent", "-state-dir", a.dir, "-bind", "127.0.0.1:0", "-no-multicast"}, args...)...)
	a.cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+a.dir)
	errs, err := a.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	atEnd(a.stop)
	line, err := readLine(errs, " is up at ")
	if err != nil {
		a.stop()
		return nil, err
	}
	_, rest, _ := strings.Cut(line, " is up at ")
	a.addr, _, _ = strings.Cut(rest, " ")
	a.api = "unix://" + line[strings.LastIndex(line, "unix://")+len("unix://"):]
	return a, nil
}

func (a *realAgent) stop() {
	a.cmd.Process.Signal(syscall.SIGTERM)
	a.cmd.Wait()
	os.RemoveAll(a.dir)
}

// memoryRow is the resident memory of an agent that has nothing to do, alone.
func memoryRow() row {
	return row{name: "memory", what: "resident memory of an idle `scagent agent`, its supervisor process not included", unit: "MB", less: true, parties: []party{
		{"scagent", func(ctx context.Context) (float64, error) {
			a, err := newRealAgent(ctx, "-cluster", "bench")
			if err != nil {
				return 0, err
			}
			defer a.stop()
			time.Sleep(5 * time.Second) // until what the start needed is given back, or not
			return resident(a.cmd.Process.Pid)
		}},
	}}
}
