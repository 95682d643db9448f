package secret

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"os"
	"slices"
)

// WorkerUnit is the organizational unit (OU) of a certificate that may not
// submit tasks.
const WorkerUnit = "scagent-worker"

// PKI are certificates of an own authority, in place of those that the secret
// gives. The secret is still needed, for gossip and beacon. A certificate must be
// good for client and server authentication (where it restricts its use at all); the node's id is made from its key,
// and with WorkerUnit among its organizational units it may not submit.
type PKI struct {
	roots *x509.CertPool
	cert  tls.Certificate
	node  string
}

// LoadPKI reads PEM files: the authorities that are trusted, this node's
// certificate with what leads from it to one of them, and its key.
func LoadPKI(ca, cert, key string) (*PKI, error) {
	if ca == "" || cert == "" || key == "" {
		return nil, errors.New("-tls-ca, -tls-cert and -tls-key belong together; give all three or none")
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("-tls-ca: %w", err)
	}
	p := &PKI{roots: x509.NewCertPool()}
	if !p.roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("-tls-ca: %s has no certificate in PEM", ca)
	}
	st, err := os.Stat(key)
	if err != nil {
		return nil, fmt.Errorf("-tls-key: %w", err)
	}
	if err := checkMode(key, st); err != nil {
		return nil, fmt.Errorf("-tls-key: %w", err)
	}
	if p.cert, err = tls.LoadX509KeyPair(cert, key); err != nil {
		return nil, fmt.Errorf("-tls-cert, -tls-key: %w", err)
	}
	peer, err := p.verify([]*x509.Certificate{p.cert.Leaf}, p.intermediates()...)
	if err != nil {
		return nil, fmt.Errorf("-tls-cert: %s is not good under -tls-ca: %w", cert, err)
	}
	p.node = peer.Node
	return p, nil
}

// Node returns the id of the node that has the certificate.
func (p *PKI) Node() string { return p.node }

func (p *PKI) intermediates() []*x509.Certificate {
	var list []*x509.Certificate
	for _, der := range p.cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			list = append(list, c)
		}
	}
	return list
}

// verify checks a chain, its leaf first.
func (p *PKI) verify(chain []*x509.Certificate, more ...*x509.Certificate) (Peer, error) {
	leaf, between := chain[0], x509.NewCertPool()
	for _, c := range slices.Concat(chain[1:], more) {
		between.AddCert(c)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: p.roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			return Peer{}, err
		}
	}
	node, err := NodeID(leaf.PublicKey)
	return Peer{Node: node, Submit: !slices.Contains(leaf.Subject.OrganizationalUnit, WorkerUnit)}, err
}

// asn1Name is a name as certificates carry it.
func asn1Name(n pkix.Name) ([]byte, error) { return asn1.Marshal(n.ToRDNSequence()) }

// sameName reports whether an authority that a server accepts is a.
func (a authority) isNamed(raw []byte) bool { return bytes.Equal(a.cert.RawSubject, raw) }
