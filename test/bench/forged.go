package main

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// memberRow is what a member takes of the resident memory of a `scagent agent`:
// one is told of many that are not there, in one exchange of the whole state. Each
// has a document of its own, as real ones have.
func memberRow(n int) row {
	return row{name: "member", what: fmt.Sprintf("resident memory of a `scagent agent` for each of %d idle members", n), unit: "bytes", less: true, parties: []party{
		{"scagent", func(ctx context.Context) (float64, error) {
			cluster := fmt.Sprint("bench", os.Getpid())
			a, err := newRealAgent(ctx, "-cluster", cluster)
			if err != nil {
				return 0, err
			}
			defer a.stop()
			const settle = 5 * time.Second
			time.Sleep(settle)
			before, err := resident(a.cmd.Process.Pid)
			if err != nil {
				return 0, err
			}
			if err := tellOf(ctx, a.addr, cluster, n); err != nil {
				return 0, err
			}
			time.Sleep(settle)
			after, err := resident(a.cmd.Process.Pid)
			return (after - before) * 1e6 / float64(n), err
		}},
	}}
}

// tellOf gives an agent the state of n members, as memberlist's push/pull does.
func tellOf(ctx context.Context, addr, cluster string, n int) error {
	near := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TTL, 255) }), err)
	}} // as agents without a secret show that they are on the same link
	c, err := near.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	const pushPull, hasLabel = 6, 244
	label := "scagent/" + cluster
	b := bytes.NewBuffer(append([]byte{hasLabel, byte(len(label))}, label...))
	b.WriteByte(pushPull)
	enc := codec.NewEncoder(b, &codec.MsgpackHandle{})
	if err := enc.Encode(struct {
		Nodes, UserStateLen int
		Join                bool
	}{Nodes: n}); err != nil {
		return err
	}
	for i := range n {
		meta, err := forgedMeta(i)
		if err != nil {
			return err
		}
		id := make([]byte, 16)
		binary.BigEndian.PutUint32(id, uint32(i+1))
		if err := enc.Encode(struct {
			Name        string
			Addr        []byte
			Port        uint16
			Meta        []byte
			Incarnation uint32
			State       int
			Vsn         []uint8
		}{
			Name: base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding).EncodeToString(id) + ".1",
			Addr: []byte{127, 1, byte(i >> 8), byte(i)}, Port: 44201, Meta: meta, Incarnation: 1, Vsn: []uint8{1, 5, 2, 1, 1, 1},
		}); err != nil {
			return err
		}
	}
	if _, err := c.Write(b.Bytes()); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(2 * time.Second))
	_, err = io.Copy(io.Discard, c) // its answer, to the end
	return err
}

// forgedMeta is what a worker says of itself in gossip, see membership/meta.go.
func forgedMeta(i int) ([]byte, error) {
	name, version := fmt.Sprintf("node-%05d", i), "devel"
	b := append([]byte{1, 1, 1, 2, 0, byte(len(name))}, name...)
	b = append(append(b, byte(len(version))), version...)
	var document bytes.Buffer
	w, err := flate.NewWriter(&document, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(w, `{"data":{"gpu":"a100","rack":"r%d"},"facts":{"os":"linux","arch":"amd64","cpus":%d,"memory":%d,"hostname":%q,"kernel":"6.1.0-44-amd64"},`+
		`"kinds":["command","file","function","git","js"],"interpreters":["bash","node","perl","python3","sh"]}`, i%40, 1+i%64, 1<<30+i, name)
	if err := w.Close(); err != nil {
		return nil, err
	}
	b = binary.AppendUvarint(append(b, 1), uint64(document.Len()))
	return append(b, document.Bytes()...), nil
}
