//go:build linux

package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority issues certificates, which are files of the lab.
type authority struct {
	*lab
	name   string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func (l *lab) authority(name string) *authority {
	l.t.Helper()
	a := &authority{lab: l, name: name, key: newKey(l.t), cert: &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	a.pem(name+".ca", "CERTIFICATE", der)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) pem(name, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// issue makes the certificate of a node, and returns the flags with which an agent
// uses it.
func (a *authority) issue(name, addr string, units ...string) []string {
	a.t.Helper()
	a.serial++
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1 + a.serial), Subject: pkix.Name{CommonName: name, OrganizationalUnit: units},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, DNSNames: []string{name}, IPAddresses: []net.IP{net.ParseIP(addr)},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	base := a.name + "." + name
	a.pem(base+".pem", "CERTIFICATE", der)
	a.pem(base+".key", "PRIVATE KEY", private)
	path := filepath.Join(a.dir, base)
	return []string{"-tls-ca", filepath.Join(a.dir, a.name+".ca"), "-tls-cert", path + ".pem", "-tls-key", path + ".key"}
}

// TestCertificatesOfOnesOwn has nodes with certificates of an authority in place of
// those that the secret gives.
func TestCertificatesOfOnesOwn(t *testing.T) {
	t.Parallel()
	need(t, "curl")
	l := newLab(t)
	hosts := l.hosts(4)
	secret := filepath.Join(l.dir, "secret")
	hosts[0].scagent("secret", "new", "-secret-file", secret).ok(t)
	own, other := l.authority("own"), l.authority("other")
	with := func(tls []string, args ...string) []string {
		return append(append([]string{"-secret-file", secret}, tls...), args...)
	}
	a := hosts[0].agent(with(own.issue("a", "10.77.0.1"), "-name", "a", "-role", "worker,master,tracker")...)
	b := hosts[1].agent(with(own.issue("b", "10.77.0.2"), "-name", "b")...)
	w := hosts[2].agent(with(own.issue("w", "10.77.0.3", "scagent-worker"), "-name", "w")...)
	assemble(t, patience, a, b, w)
	a.call("submit", "-all", "-fold", "--", "echo", "hi").ok(t)
	b.call("submit", "-on", "w", "--", "echo", "hi").want(t, 0, "hi\n")
	w.call("submit", "-on", "a", "true").complains(t, 125, "scagent-worker")

	for name, args := range map[string][]string{
		"another authority": with(other.issue("c", "10.77.0.4"), "-name", "c", "-join", "10.77.0.1"),
		"none":              {"-secret-file", secret, "-name", "c", "-join", "10.77.0.1"},
	} {
		l.run(t, name, func(t *testing.T) {
			c := hosts[3].agent(args...)
			c.err.await(t, "[WARN]", "10.77.0.1", "handshake")
			c.call("join", "10.77.0.1").complains(t, 1, "10.77.0.1", "handshake")
			if ms := c.members(); len(ms) != 1 {
				t.Errorf("it sees %v", ms)
			}
		})
	}
	eventually(t, patience, "the pool is the three", func() (bool, any) {
		ms := alive(a.members())
		return len(ms) == 3, ms
	})
	out := hosts[3].sh(`url=https://10.77.0.1:44201/hostsAvailable; curl -sS --cacert ` + l.dir + `/own.ca -H "$(` + binary(t) + ` secret header -secret-file ` + secret + ` GET $url)" $url`).ok(t)
	if list := decode[hostList](t, out); len(list.Workers) != 3 || len(list.Masters) != 2 {
		t.Errorf("the tracker answers %s, want 2 masters and 3 workers", out)
	}

	tls := own.issue("d", "10.77.0.4")
	for _, c := range []struct {
		name   string
		status int
		args   []string
		words  []string
	}{
		{"not all three", 2, with(tls[:4]), []string{"-tls-ca, -tls-cert and -tls-key belong together"}},
		{"no secret", 1, tls, []string{"need a secret too", "scagent secret new"}},
		{"a certificate of another authority", 1, with(append(own.issue("e", "10.77.0.4"), "-tls-ca", l.dir+"/other.ca")), []string{"-tls-cert", "-tls-ca"}},
		{"a certificate that is none", 1, with(append(tls[:4:4], "-tls-key", l.dir+"/own.ca")), []string{"-tls-key"}},
		{"no such file", 1, with(append(tls[:4:4], "-tls-key", l.dir+"/nowhere")), []string{"-tls-key", "/nowhere"}},
	} {
		l.run(t, c.name, func(t *testing.T) {
			hosts[3].scagent(append([]string{"agent", "-log-level", "ERR"}, c.args...)...).complains(t, c.status, c.words...)
		})
	}
	l.run(t, "a key that others can read", func(t *testing.T) {
		if err := os.Chmod(tls[5], 0o644); err != nil {
			t.Fatal(err)
		}
		hosts[3].scagent(append([]string{"agent"}, with(tls)...)...).complains(t, 1, "-tls-key", "chmod 600")
	})
}
