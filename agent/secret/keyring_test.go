package secret

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ring makes the keyring of a new node that has the secrets, the first in force.
func ring(t testing.TB, secrets ...*Secret) *Keyring {
	t.Helper()
	var c Chain
	for i, s := range secrets {
		e := Entry{Secret: s}
		if i > 0 {
			e.Until = time.Now().Add(time.Hour)
		}
		c = append(c, e)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKeyring(Config{Chain: c, Key: key, Hosts: []string{"n1", "10.0.0.1", "not a name"}})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// shake has a client of one configuration meet a server of the other, and
// returns what each knows of its peer.
func shake(t testing.TB, server *tls.Config, client *tls.Config) (atServer, atClient *tls.Conn, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	s, c := tls.Server(a, server), tls.Client(b, client)
	served := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1}) // in TLS 1.3 a client learns of a refusal by its first read
		}
		if err != nil {
			a.Close()
		}
		served <- err
	}()
	err = c.Handshake()
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if err != nil {
		b.Close()
	}
	return s, c, errors.Join(err, <-served)
}

func TestWhoMeetsWhom(t *testing.T) {
	s, other := New(), New()
	next := New()
	for _, c := range []struct {
		name           string
		server, client *Keyring
		ok             bool
		submit         bool // what the server learns
	}{
		{"one secret", ring(t, s), ring(t, s), true, true},
		{"a worker dials", ring(t, s), ring(t, s.Token()), true, false},
		{"a worker is dialled", ring(t, s.Token()), ring(t, s), true, true},
		{"two workers", ring(t, s.Token()), ring(t, s.Token()), true, false},
		{"another secret dials", ring(t, s), ring(t, other), false, false},
		{"another secret's token dials", ring(t, s), ring(t, other.Token()), false, false},
		{"both rotated", ring(t, next, s), ring(t, next, s), true, true},
		{"server rotated, client slept", ring(t, next, s), ring(t, s), true, true},
		{"client rotated, server slept", ring(t, s), ring(t, next, s), true, true},
		{"client rotated, worker slept", ring(t, s.Token()), ring(t, next, s), true, true},
		{"grace is over, client slept", ring(t, next), ring(t, s), false, false},
		{"grace is over, server slept", ring(t, s), ring(t, next), false, false},
	} {
		for _, protocol := range []string{"sc-link/1", "http/1.1"} {
			t.Run(c.name+" "+protocol, func(t *testing.T) {
				sc, cc, err := shake(t, c.server.Server("sc-link/1", "sc-gossip/1", "http/1.1"), c.client.Client(protocol, c.server.Node()))
				if (err == nil) != c.ok {
					t.Fatalf("handshake: %v, want ok=%t", err, c.ok)
				}
				if !c.ok {
					return
				}
				peer, err := c.server.PeerOf(sc)
				if err != nil || peer.Node != c.client.Node() || peer.Submit != c.submit {
					t.Errorf("the server's peer is %+v, %v; want node %s, submit %t", peer, err, c.client.Node(), c.submit)
				}
				if peer, err := c.client.PeerOf(cc); err != nil || peer.Node != c.server.Node() {
					t.Errorf("the client's peer is %+v, %v; want node %s", peer, err, c.server.Node())
				}
				if cs := sc.ConnectionState(); cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != protocol {
					t.Errorf("TLS %x for %q; want 1.3 for %q", cs.Version, cs.NegotiatedProtocol, protocol)
				}
			})
		}
	}
}

func TestStrangersInTLS(t *testing.T) {
	s := New()
	server := ring(t, s)
	conf := server.Server("sc-link/1", "sc-gossip/1", "http/1.1")
	plain := func(protocols ...string) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}
	}
	old := plain("sc-link/1")
	old.MaxVersion = tls.VersionTLS12
	// A worker's own authority in its hands, it makes itself a submitter's name.
	forged := func(uri string, issuer ed25519.PrivateKey) *tls.Config {
		_, key, _ := ed25519.GenerateKey(rand.Reader)
		cert, err := s.Token().certificate(key, nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, _ := x509.ParseCertificate(cert.Certificate[0])
		node, _ := NodeID(key.Public())
		leaf.URIs[0].Path = strings.ReplaceAll(uri, "NODE", node)
		tmpl := *leaf
		parent := &x509.Certificate{Subject: s.subject(roleMaster), PublicKey: issuer.Public(), BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign}
		der, err := x509.CreateCertificate(rand.Reader, &tmpl, parent, key.Public(), issuer)
		if err != nil {
			t.Fatal(err)
		}
		c := plain("sc-link/1")
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
		}
		return c
	}
	wrongServer := ring(t, s).Client("sc-link/1", ring(t, s).Node())
	for _, c := range []struct {
		name   string
		client *tls.Config
		ok     bool
	}{
		{"no certificate, link", plain("sc-link/1"), false},
		{"no certificate, gossip", plain("sc-gossip/1"), false},
		{"no certificate, link behind http", plain("sc-link/1", "http/1.1"), true}, // gets http, see below
		{"no certificate, http", plain("http/1.1"), true},
		{"no protocol", plain(), true},
		{"unknown protocol", plain("h2"), false},
		{"TLS 1.2", old, false},
		{"a master's name by a worker's authority", forged("/master/NODE", s.workerKey), false},
		{"another node's name", forged("/worker/aaaaaaaaaaaaaaaaaaaaaaaaaa", s.workerKey), false},
		{"another node answers", wrongServer, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			sc, _, err := shake(t, conf, c.client)
			if (err == nil) != c.ok {
				t.Fatalf("handshake: %v, want ok=%t", err, c.ok)
			}
			if c.ok {
				if p := sc.ConnectionState().NegotiatedProtocol; p != "http/1.1" && p != "" {
					t.Errorf("without a certificate it speaks %q", p)
				}
				if _, err := server.PeerOf(sc); err == nil {
					t.Error("a client without a certificate is a node")
				}
			}
		})
	}
}

// A secret that ends takes connections made under it along: PeerOf refuses them.
func TestSecretsEnd(t *testing.T) {
	old := New()
	c, err := Chain{{Secret: old}}.Rotate(time.Now(), Grace)
	if err != nil {
		t.Fatal(err)
	}
	server, sleeper := ring(t, old), ring(t, old)
	if ok, err := server.Replace(c); !ok || err != nil {
		t.Fatalf("Replace = %t, %v", ok, err)
	}
	now := time.Now()
	server.now = func() time.Time { return now }
	sc, _, err := shake(t, server.Server("sc-link/1"), sleeper.Client("sc-link/1", ""))
	if err != nil {
		t.Fatalf("within the grace time: %v", err)
	}
	if _, err := server.PeerOf(sc); err != nil {
		t.Errorf("within the grace time PeerOf: %v", err)
	}
	now = now.Add(Grace + time.Second)
	if _, err := server.PeerOf(sc); err == nil {
		t.Error("after the grace time the peer still counts")
	}
	if _, _, err := shake(t, server.Server("sc-link/1"), sleeper.Client("sc-link/1", "")); err == nil {
		t.Error("after the grace time the old secret still opens")
	}
	if n := len(server.GossipKeys()); n != 1 {
		t.Errorf("after the grace time %d gossip keys are left, want 1", n)
	}
}

func TestReplaceAndPromote(t *testing.T) {
	old := New()
	c, _ := Chain{{Secret: old}}.Rotate(time.Now(), Grace)
	for _, k := range []*Keyring{ring(t, old), ring(t, old.Token())} {
		if ok, err := k.Replace(Chain{{Secret: New()}}); ok || err != nil {
			t.Errorf("a chain that does not know ours was taken: %t, %v", ok, err)
		}
		from := c
		if !k.Submits() {
			from = c.Tokens()
		}
		if ok, err := k.Replace(from); !ok || err != nil {
			t.Fatalf("Replace = %t, %v", ok, err)
		}
		if ok, _ := k.Replace(from); ok {
			t.Error("the same chain was taken twice")
		}
		if ok, _ := k.Replace(Chain{{Secret: old}}); ok {
			t.Error("an older chain was taken")
		}
		if g := k.GossipKeys(); len(g) != 2 || g[0].Tag != old.tag || string(k.BeaconKeys()[0]) != string(old.discovery[:]) {
			t.Error("before Promote the new key seals already")
		}
		k.Promote()
		if g := k.GossipKeys(); len(g) != 2 || g[0].Tag != c.Current().tag {
			t.Error("after Promote the old key still seals")
		}
	}
	if _, err := ring(t, old).Replace(c.Tokens()); err == nil {
		t.Error("a whole secret was replaced by a token")
	}
}

func TestSignedRequests(t *testing.T) {
	s := New()
	k := ring(t, s)
	now := time.Now()
	k.now = func() time.Time { return now }
	request := func(auth string) *http.Request {
		r := httptest.NewRequest("POST", "/hostsAvailable?x=1", strings.NewReader(`{"a":1}`))
		r.Header.Set("Authorization", auth)
		return r
	}
	sign := func(s *Secret, at time.Time) string {
		return s.SignRequest("POST", "/hostsAvailable?x=1", []byte(`{"a":1}`), at)
	}
	good := sign(s, now)
	for _, c := range []struct {
		name, auth, want string
	}{
		{"good", good, ""},
		{"again", good, "made before"},
		{"by a worker token", sign(s.Token(), now), ""},
		{"a minute old", sign(s, now.Add(-time.Minute)), ""},
		{"missing", "", "signed request"},
		{"bearer", "Bearer x", "signed request"},
		{"scheme alone", "SC1", "cannot be read"},
		{"expired", sign(s, now.Add(-time.Hour)), "set the clocks"},
		{"from the future", sign(s, now.Add(time.Hour)), "set the clocks"},
		{"other secret", sign(New(), now), "signature is wrong"},
		{"other path", s.SignRequest("POST", "/other", []byte(`{"a":1}`), now), "signature is wrong"},
		{"other method", s.SignRequest("GET", "/hostsAvailable?x=1", []byte(`{"a":1}`), now), "signature is wrong"},
		{"other body", s.SignRequest("POST", "/hostsAvailable?x=1", []byte(`{"a":2}`), now), "not the one that was signed"},
		{"other digest", strings.Replace(good, "body="+bodySum([]byte(`{"a":1}`)), "body="+bodySum(nil), 1), "signature is wrong"},
		{"field twice", good + ",ts=1", "cannot be read"},
		{"short nonce", strings.Replace(good, "nonce=", "nonce=zz", 1), "cannot be read"},
		{"nonce in capitals", upper(good, "nonce="), "signature is wrong"},
		{"signature in capitals", upper(sign(s, now), "sig="), ""},
		{"a nonce that is no ASCII", strings.Replace(good, "nonce=", "nonce=ü", 1), "cannot be read"},
		{"ts past the end of time", strings.Replace(good, "ts=", "ts=9", 1), "set the clocks"},
		{"ts of 2^64", strings.Replace(good, "ts=", "ts=18446744073709551616", 1), "cannot be read"},
		{"10,000 fields", good + strings.Repeat(",a", 10_000), "cannot be read"},
		{"no signature", good[:strings.Index(good, ",sig")], "signature is wrong"},
	} {
		nonces := &Nonces{}
		if c.name == "again" {
			nonces.take(strings.Split(strings.Split(good, "nonce=")[1], ",")[0], now)
		}
		r := request(c.auth)
		err := k.CheckRequest(r, nonces)
		if (c.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: CheckRequest = %v, want %q", c.name, err, c.want)
		}
	}
}

// What is signed is kept in memory until it is checked.
func TestSignedRequestIsShort(t *testing.T) {
	s := New()
	k := ring(t, s)
	for size, want := range map[int]bool{128 << 10: true, 128<<10 + 1: false} {
		body := bytes.Repeat([]byte("x"), size)
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		r.Header.Set("Authorization", s.SignRequest("POST", "/", body, time.Now()))
		if err := k.CheckRequest(r, &Nonces{}); (err == nil) != want {
			t.Errorf("a body of %d bytes: CheckRequest = %v, want it taken: %t", size, err, want)
		}
	}
}

// unread fails the test when somebody reads it.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestTheBodyOfWhoHasNotSignedIsNotRead(t *testing.T) {
	k := ring(t, New())
	for _, auth := range []string{"", New().SignRequest("POST", "/", make([]byte, 1000), time.Now())} {
		r := httptest.NewRequest("POST", "/", unread{t})
		r.Header.Set("Authorization", auth)
		if err := k.CheckRequest(r, &Nonces{}); err == nil {
			t.Errorf("%q is taken", auth)
		}
	}
}

// upper returns a header with the value of one field in capitals.
func upper(header, field string) string {
	before, after, _ := strings.Cut(header, field)
	value, rest, more := strings.Cut(after, ",")
	if more {
		rest = "," + rest
	}
	return before + field + strings.ToUpper(value) + rest
}

func TestNoncesAreBounded(t *testing.T) {
	var n Nonces
	now := time.Now()
	for i := range maxNonces {
		if !n.take(string(rune(i))+"x", now) && i < 0xd000 {
			t.Fatalf("nonce %d is not new", i)
		}
	}
	for len(n.seen) < maxNonces {
		n.take(rand.Text(), now)
	}
	if n.take("another", now) {
		t.Error("more nonces are taken than are remembered")
	}
	if !n.take("another", now.Add(time.Hour)) || len(n.seen) != 1 {
		t.Errorf("an hour later %d are remembered, want 1", len(n.seen))
	}
}

// curl, and whatever else knows only the root certificate, can check a node's.
func TestRootVerifiesNodes(t *testing.T) {
	s := New()
	der, err := s.Root()
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	for _, host := range []string{"n1", "N1", "10.0.0.1", "127.0.0.1"} { // the last is where shake listens
		for range 2 {
			_, _, err = shake(t, ring(t, s).Server("http/1.1"), &tls.Config{RootCAs: roots, ServerName: host, NextProtos: []string{"http/1.1"}})
			if err != nil {
				t.Errorf("%s: %v", host, err)
			}
		}
	}
	if _, _, err = shake(t, ring(t, New()).Server("http/1.1"), &tls.Config{RootCAs: roots, ServerName: "n1"}); err == nil {
		t.Error("a node of another secret passes")
	}
	if again, _ := s.Root(); string(again) != string(der) {
		t.Error("the root certificate is not the same at each call")
	}
	if _, err := s.Token().Root(); err == nil {
		t.Error("a token made a root certificate")
	}
}

// Whoever scans the network learns a node's key, and so its id, but no name.
func TestCertificatesTellNoNames(t *testing.T) {
	s := New()
	k := ring(t, s)
	for _, name := range []string{"", "n2", "n1.example", Chain{{Secret: s}}.serverName(), Chain{{Secret: New()}}.serverName()} {
		for _, protocol := range []string{"http/1.1", "sc-link/1"} {
			var seen *x509.Certificate
			_, _, _ = shake(t, k.Server("http/1.1", "sc-link/1"), &tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: []string{protocol},
				VerifyConnection: func(cs tls.ConnectionState) error { seen = cs.PeerCertificates[0]; return nil }})
			if seen == nil || len(seen.DNSNames) > 0 {
				t.Errorf("who asks for %q over %s is told %v", name, protocol, seen)
			}
		}
	}
}

// ownPKI makes an authority, and a function that makes files for a node.
func ownPKI(t testing.TB) (ca string, node func(unit string) (cert, key string)) {
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	_, caKey, _ := ed25519.GenerateKey(rand.Reader)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "own"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, root, root, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(1)
	return write("ca.pem", "CERTIFICATE", der), func(unit string) (string, string) {
		n++
		_, key, _ := ed25519.GenerateKey(rand.Reader)
		leaf := &x509.Certificate{SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: "node"}, NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
		if unit != "" {
			leaf.Subject.OrganizationalUnit = []string{unit}
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), caKey)
		if err != nil {
			t.Fatal(err)
		}
		k, _ := x509.MarshalPKCS8PrivateKey(key)
		return write(big.NewInt(n).String()+".pem", "CERTIFICATE", der), write(big.NewInt(n).String()+".key", "PRIVATE KEY", k)
	}
}

func TestOwnPKI(t *testing.T) {
	ca, node := ownPKI(t)
	otherCA, otherNode := ownPKI(t)
	load := func(ca string, files func(string) (string, string), unit string) *Keyring {
		cert, key := files(unit)
		p, err := LoadPKI(ca, cert, key)
		if err != nil {
			t.Fatal(err)
		}
		k, err := NewKeyring(Config{Chain: Chain{{Secret: New()}}, PKI: p})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	server := load(ca, node, "")
	for _, c := range []struct {
		name       string
		client     *Keyring
		ok, submit bool
	}{
		{"same authority", load(ca, node, ""), true, true},
		{"worker", load(ca, node, WorkerUnit), true, false},
		{"other authority", load(otherCA, otherNode, ""), false, false},
		{"the secret's certificate", ring(t, New()), false, false},
	} {
		sc, _, err := shake(t, server.Server("sc-link/1"), c.client.Client("sc-link/1", server.Node()))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v, want ok=%t", c.name, err, c.ok)
		} else if c.ok {
			if peer, err := server.PeerOf(sc); err != nil || peer.Submit != c.submit || peer.Node != c.client.Node() {
				t.Errorf("%s: peer %+v, %v; want submit %t", c.name, peer, err, c.submit)
			}
		}
	}
	cert, key := node("")
	if _, err := LoadPKI(otherCA, cert, key); err == nil {
		t.Error("a certificate of another authority was taken")
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPKI(ca, cert, key); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
	if _, err := LoadPKI(ca, cert, ""); err == nil || !strings.Contains(err.Error(), "belong together") {
		t.Errorf("without a key: %v", err)
	}
}
