// Payload measures large inputs and outputs of tasks between two agents on this
// host, a process each, beside what the machine can do at most, in one run:
//
//	go run ./test/payload -mib 256 -rounds 7
//	go run ./test/payload -mib 256 -rounds 7 -secured
//	go run ./test/payload -mib 1024 -memory
//
// It prints JSON, a line for each figure. The first two compare, alternately, a
// file that is sent over a loopback connection into another file with a task that
// has such an input, or such an output: from Submit until the result is told, the
// start of its process and all else included. "put" is what comes before that, once
// for each file: the master takes it in and names it by its hash. "again" is an
// input that the worker has already. Contents are new in each round. -memory tells
// by how much the most that each process had in memory grew, and how long calls of
// a function that does nothing took meanwhile on the same pair, and before.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
)

var (
	mib     = flag.Int("mib", 256, "size of a file")
	rounds  = flag.Int("rounds", 7, "how often each is measured")
	secured = flag.Bool("secured", false, "with a secret, and so TLS")
	memory  = flag.Bool("memory", false, "measure memory, and calls meanwhile")
	dir     = flag.String("dir", "", "where files are; default: a new directory in $TMPDIR")
	worker  = flag.String("worker", "", "be the worker, and join at this address (used by the program itself)")
)

var noop = tasks.NewFunc("noop", func(context.Context, int) (int, error) { return 0, nil })

func main() {
	agent.RunHelper()
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "payload:", err)
		os.Exit(1)
	}
}

func run() error {
	if *worker != "" {
		return beWorker()
	}
	var err error
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "scagent-payload-"); err != nil {
			return err
		}
		defer os.RemoveAll(*dir)
	}
	os.Setenv("TMPDIR", *dir) // of both agents: all on one file system
	b, err := newBench()
	if err != nil {
		return err
	}
	defer b.close()
	if *memory {
		return b.memory()
	}
	return b.speed()
}

// start starts an agent.
func start(role membership.Role, join string) (*agent.Agent, error) {
	cfg := agent.DefaultConfig()
	cfg.Name, cfg.Cluster, cfg.Temporary, cfg.Multicast = string(role), "payload", true, false
	cfg.Roles, cfg.Slots, cfg.Bind = []membership.Role{role}, 4, "127.0.0.1:0"
	cfg.Logger = log.New(os.Stderr, string(role)+": ", 0)
	cfg.Logger.SetOutput(quiet{})
	if os.Geteuid() == 0 {
		cfg.Policy.RunAs = "root" // tasks link files of this program's
	}
	if join != "" {
		cfg.Join = []string{join}
	}
	if *secured {
		cfg.SecretFile = secretFile()
	}
	a, err := agent.New(cfg)
	if err == nil {
		err = a.Handle(noop)
	}
	if err == nil {
		err = a.Start(context.Background())
	}
	return a, err
}

// quiet lets warnings and errors through.
type quiet struct{}

func (quiet) Write(b []byte) (int, error) {
	if s := string(b); strings.Contains(s, "[WARN]") || strings.Contains(s, "[ERR]") {
		os.Stderr.Write(b)
	}
	return len(b), nil
}

func secretFile() string { return filepath.Join(*dir, "secret") }

func beWorker() error {
	a, err := start(membership.RoleWorker, *worker)
	if err != nil {
		return err
	}
	io.Copy(io.Discard, os.Stdin) // until the other process has ended, however it has
	return a.Close()
}

// bench is a master, in this process, and a worker, in another.
type bench struct {
	ctx    context.Context
	agent  *agent.Agent
	worker *exec.Cmd
	stdin  io.Closer
	made   byte // contents so far
}

func newBench() (b *bench, err error) {
	if *secured {
		if err := os.WriteFile(secretFile(), []byte(secret.New().Text()), 0o600); err != nil {
			return nil, err
		}
	}
	b = &bench{ctx: context.Background()}
	if b.agent, err = start(membership.RoleMaster, ""); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, errors.Join(err, b.agent.Close())
	}
	b.worker = exec.Command(self, "-dir", *dir, fmt.Sprintf("-secured=%v", *secured), "-worker", b.agent.Self().AddrPort.String())
	b.worker.Stderr = os.Stderr
	if b.stdin, err = b.worker.StdinPipe(); err == nil {
		err = b.worker.Start()
	}
	if err != nil {
		return nil, errors.Join(err, b.agent.Close())
	}
	if _, err := noop.Call(b.ctx, b.agent, tasks.Target{}, 0); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() {
	b.stdin.Close()
	b.worker.Wait()
	b.agent.Close()
}

func print(v any) { json.NewEncoder(os.Stdout).Encode(v) }

// file makes a file whose content no other had, and returns its hash.
func (b *bench) file(name string) (path, hash string, err error) {
	path = filepath.Join(*dir, name)
	os.Remove(path)
	f, err := os.Create(path)
	if err != nil {
		return "", "", err
	}
	h := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(f, h), 1<<20)
	piece := make([]byte, 1<<20)
	b.made++
	for i := range piece {
		piece[i] = byte(i*i>>8) ^ byte(i)*b.made
	}
	for i := range *mib {
		piece[0], piece[1] = byte(i), byte(i>>8)
		w.Write(piece)
	}
	err = errors.Join(w.Flush(), f.Close())
	return path, hex.EncodeToString(h.Sum(nil)), err
}

// do runs a task that must be done.
func (b *bench) do(t tasks.Task) (tasks.Result, error) {
	run, err := b.agent.Submit(b.ctx, tasks.Submission{Task: t, Options: tasks.DefaultOptions()})
	if err != nil {
		return tasks.Result{}, err
	}
	rs, err := run.Wait(b.ctx)
	if err != nil {
		return tasks.Result{}, err
	}
	return rs[0], rs[0].Err()
}

// put gives a file to the master, to be named in tasks.
func (b *bench) put(path string) (tasks.Content, error) {
	f, err := os.Open(path)
	if err != nil {
		return tasks.Content{}, err
	}
	defer f.Close()
	hash, size, err := b.agent.PutBlob(b.ctx, f)
	return tasks.Content{Blob: hash, Size: size}, err
}

// in runs a task with an input.
func (b *bench) in(c tasks.Content, argv ...string) error {
	_, err := b.do(tasks.Task{Kind: tasks.Command, Argv: argv, Inputs: []tasks.Input{{Name: "in", Content: c}}})
	return err
}

// settle makes what is measured next begin as all else does. The disk has what was
// written: the kernel slows down who writes when it is behind. And memory for what
// will be written is free that was in use before: a virtual machine gets what it
// never used from its host piece by piece, which takes several times as long as to
// write to it.
func (b *bench) settle() error {
	if err := exec.Command("sync").Run(); err != nil {
		return err
	}
	path := filepath.Join(*dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	piece := make([]byte, 1<<20)
	for range 3 * *mib {
		f.Write(piece)
	}
	return errors.Join(f.Close(), os.Remove(path))
}

// out runs a task with an output: the file, which is made by a link to it. It
// returns how long that took.
func (b *bench) out(path, hash string) (time.Duration, error) {
	begun := time.Now()
	r, err := b.do(tasks.Task{Kind: tasks.Command, Argv: []string{"ln", path, "out"}, Outputs: []string{"out"}})
	took := time.Since(begun)
	if err == nil && (len(r.Outputs) != 1 || r.Outputs[0].Blob != hash) {
		err = fmt.Errorf("the outputs are %v; want a file with hash %s", r.Outputs, hash)
	}
	return took, err
}

// check compares a content of the master's with its hash.
func (b *bench) check(hash string) error {
	f, _, err := b.agent.OpenBlob(hash)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil || hex.EncodeToString(h.Sum(nil)) != hash {
		return fmt.Errorf("what came back does not match its hash: %v", err)
	}
	return nil
}

// speed compares the ways of files with the limits.
func (b *bench) speed() error {
	took := map[string][]float64{}
	timed := func(name string, f func() error) error {
		if err := b.settle(); err != nil {
			return err
		}
		begun := time.Now()
		err := f()
		took[name] = append(took[name], float64(*mib)*1.048576/time.Since(begun).Seconds())
		return err
	}
	sendTo := sendPlain
	if *secured {
		var err error
		if sendTo, err = newSendTLS(); err != nil {
			return err
		}
	}
	for range *rounds {
		path, _, err := b.file("file")
		if err != nil {
			return err
		}
		var c tasks.Content
		err = errors.Join(
			timed("put", func() (err error) { c, err = b.put(path); return err }),
			timed("limit", func() error { return sendTo(path, path+".copy") }),
			os.Remove(path+".copy"),
			timed("in", func() error { return b.in(c, "true") }),
			timed("again", func() error { return b.in(c, "true") }),
			b.in(c, "cmp", path, "in"),
		)
		if err != nil {
			return err
		}
		path, hash, err := b.file("file")
		if err != nil {
			return err
		}
		if err := b.settle(); err != nil {
			return err
		}
		d, err := b.out(path, hash)
		if err != nil {
			return err
		}
		if err := b.check(hash); err != nil {
			return err
		}
		took["out"] = append(took["out"], float64(*mib)*1.048576/d.Seconds())
	}
	for _, name := range []string{"limit", "put", "in", "again", "out"} {
		all := took[name]
		parts := make([]float64, len(all)) // of the limit in the same round: the machine may not stay as fast
		for i := range all {
			parts[i] = all[i] / took["limit"][i]
		}
		print(map[string]any{"metric": name, "secured": *secured, "mib": *mib, "unit": "MB/s", "value": round(median(all)),
			"least": round(slices.Min(all)), "most": round(slices.Max(all)), "of_limit": round(median(parts))})
	}
	return nil
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

func round(f float64) float64 {
	if f < 10 {
		return float64(int(f*100+0.5)) / 100
	}
	return float64(int(f + 0.5))
}
