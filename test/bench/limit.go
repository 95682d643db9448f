package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
)

func init() {
	roles["pong"] = pongRole
	roles["ping"] = pingRole
	roles["exec"] = execRole
}

func getSpec() string { return os.Getenv(specVar) }

// linkPair is what a round trip costs at least: 64 bytes there and back over TCP,
// with one goroutine that reads and one that works on each side.
func linkPair() *pair {
	return &pair{start: func(ctx context.Context) (*child, error) {
		var addr, up string
		if _, err := spawnWith(ctx, "pong", spec{}, &addr); err != nil {
			return nil, err
		}
		return spawnWith(ctx, "ping", spec{Join: addr}, &up)
	}}
}

// hop reads 64 bytes at a time and hands them to another goroutine.
func hop(c net.Conn) <-chan struct{} {
	got := make(chan struct{})
	go func() {
		defer close(got)
		var b [64]byte
		for r := bufio.NewReader(c); ; got <- struct{}{} {
			if _, err := io.ReadFull(r, b[:]); err != nil {
				return
			}
		}
	}()
	return got
}

func pongRole(in *json.Decoder, out *json.Encoder) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				var b [64]byte
				for range hop(c) {
					c.Write(b[:])
				}
			}()
		}
	}()
	out.Encode(l.Addr().String())
	var order string
	return in.Decode(&order)
}

func pingRole(in *json.Decoder, out *json.Encoder) error {
	var s spec
	if err := json.Unmarshal([]byte(getSpec()), &s); err != nil {
		return err
	}
	c, err := net.Dial("tcp", s.Join)
	if err != nil {
		return err
	}
	got := hop(c)
	out.Encode("up")
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return err
		}
		var b [64]byte
		f, err := latency(o, func() error {
			if _, err := c.Write(b[:]); err != nil {
				return err
			}
			<-got
			return nil
		})
		if err != nil {
			f.Error = err.Error()
		}
		out.Encode(f)
	}
}

// execRole runs /bin/true two at a time with nothing but os/exec: both streams
// read through pipes, and a process group of its own.
func execRole(in *json.Decoder, out *json.Encoder) error {
	out.Encode("up")
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return err
		}
		o.InFlight = 2
		f, err := inFlight(o, func() error {
			var stdout, stderr bytes.Buffer
			cmd := exec.Command("/bin/true")
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			return cmd.Run()
		})
		if err != nil {
			f.Error = err.Error()
		}
		out.Encode(f)
	}
}
