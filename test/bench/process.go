package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"slices"
	"sync"
)

// roleVar names the role that this program plays when it has started itself.
const roleVar = "SCAGENT_BENCH_ROLE"

// roles are what child processes do. A role reads orders, one JSON value a line,
// from in, and answers each with one line on out; it ends with in.
var roles = map[string]func(in *json.Decoder, out *json.Encoder) error{}

func play(role string) {
	log.SetFlags(0)
	log.SetPrefix("bench: " + role + ": ")
	if err := roles[role](json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)); err != nil && err != io.EOF {
		log.Fatal(err)
	}
}

// child is a process that plays a role.
type child struct {
	role string
	cmd  *exec.Cmd
	in   io.WriteCloser
	send *json.Encoder
	recv *json.Decoder
}

// spawn starts a child with a role, and waits for its first answer.
func spawn(ctx context.Context, role string, first any) (*child, error) {
	c, err := launch(ctx, role)
	if err != nil {
		return nil, err
	}
	if err := c.answer(first); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// launch starts a child with a role.
func launch(ctx context.Context, role string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{role: role, cmd: exec.CommandContext(ctx, self)}
	c.cmd.Env = append(os.Environ(), roleVar+"="+role)
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.send, c.recv = json.NewEncoder(c.in), json.NewDecoder(out)
	atEnd(c.stop)
	return c, nil
}

// ends are called at the end of the program: most processes are there for several
// rows. They may have been called before.
var ends struct {
	mu sync.Mutex
	f  []func()
}

func atEnd(f func()) {
	ends.mu.Lock()
	defer ends.mu.Unlock()
	ends.f = append(ends.f, f)
}

// end stops what is there still, what was started last first.
func end() {
	ends.mu.Lock()
	defer ends.mu.Unlock()
	for _, f := range slices.Backward(ends.f) {
		f()
	}
}

// ask sends an order and waits for the answer.
func (c *child) ask(order, answer any) error {
	if err := c.send.Encode(order); err != nil {
		return fmt.Errorf("%s: %w", c.role, err)
	}
	return c.answer(answer)
}

func (c *child) answer(to any) error {
	if err := c.recv.Decode(to); err != nil {
		return fmt.Errorf("%s has ended: %w", c.role, err)
	}
	return nil
}

func (c *child) stop() {
	c.in.Close()
	c.cmd.Wait() // it says on standard error what went wrong
}
