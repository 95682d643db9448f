package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"time"
)

// sendPlain sends a file over a loopback connection into another file, with
// sendfile and splice where the system has them.
func sendPlain(from, to string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	return send(from, to, l, func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) })
}

// newSendTLS returns a function that does so with TLS 1.3.
func newSendTLS() (func(from, to string) error, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	server := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	client := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}
	return func(from, to string) error {
		l, err := tls.Listen("tcp", "127.0.0.1:0", server)
		if err != nil {
			return err
		}
		defer l.Close()
		return send(from, to, l, func() (net.Conn, error) { return tls.Dial("tcp", l.Addr().String(), client) })
	}, nil
}

func send(from, to string, l net.Listener, dial func() (net.Conn, error)) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	st, err := src.Stat()
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(c, src)
			err = errors.Join(err, c.Close())
		}
		sent <- err
	}()
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.CopyN(dst, c, st.Size())
	return errors.Join(err, dst.Close(), <-sent)
}
