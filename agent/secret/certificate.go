package secret

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Roles in a certificate.
const (
	roleMaster = "master" // may submit
	roleWorker = "worker" // may not
)

// Nothing here ends by the clock: see the package comment.
var (
	notBefore = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC)
)

// NodeID returns the id of the node that holds the private half of pub: the
// first 26 characters of the base32 of its SHA-256, of an Ed25519 key's 32
// bytes, or of any other's PKIX encoding.
func NodeID(pub crypto.PublicKey) (string, error) {
	b, ok := pub.(ed25519.PublicKey)
	if !ok {
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			return "", fmt.Errorf("node id: %w", err)
		}
		b = der
	}
	sum := sha256.Sum256(b)
	return text32.EncodeToString(sum[:])[:26], nil
}

// Peer is who a certificate says the other side is.
type Peer struct {
	Node   string // id
	Submit bool   // whether it may submit tasks, and read the secret
}

// authority is a key that certifies nodes in one role.
type authority struct {
	role string
	cert *x509.Certificate // of which only what checking needs is set; see Root for a whole one
}

// authorities of a secret, as its nodes' certificates name them.
func (s *Secret) authorities() [2]authority {
	of := func(role string, pub ed25519.PublicKey) authority {
		subject := s.subject(role)
		raw, err := asn1Name(subject)
		if err != nil {
			panic(err) // only for text that is not ASCII
		}
		return authority{role, &x509.Certificate{
			Raw:     append([]byte(role), pub...), // what pools tell certificates apart by
			Version: 3, Subject: subject, RawSubject: raw,
			PublicKey: pub, PublicKeyAlgorithm: x509.Ed25519,
			BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
		}}
	}
	return [2]authority{of(roleMaster, s.masterPub), of(roleWorker, s.workerKey.Public().(ed25519.PublicKey))}
}

func (s *Secret) subject(role string) pkix.Name {
	return pkix.Name{CommonName: "scagent " + role + " " + s.Cluster()}
}

// Root returns the certificate, DER, with which programs that know nothing of
// scagent, such as curl, check the certificates of nodes that may submit. It is
// the same at each call.
func (s *Secret) Root() ([]byte, error) {
	if !s.Full() {
		return nil, errors.New("a worker token cannot make the root certificate; take it from where the whole secret is")
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: s.subject(roleMaster), NotBefore: notBefore, NotAfter: notAfter,
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return x509.CreateCertificate(rand.Reader, t, t, s.masterPub, s.masterKey)
}

// certificate issues the certificate of the node with the key. hosts are the
// names and addresses under which programs like curl may know it.
func (s *Secret) certificate(key ed25519.PrivateKey, hosts []string) (*tls.Certificate, error) {
	role, issuer := roleWorker, s.workerKey
	if s.Full() {
		role, issuer = roleMaster, s.masterKey
	}
	pub := key.Public().(ed25519.PublicKey)
	node, err := NodeID(pub)
	if err != nil {
		return nil, err
	}
	serial := sha256.Sum256(append(pub, s.cluster[:]...))
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:16]),
		Subject:      pkix.Name{CommonName: "scagent node " + node},
		NotBefore:    notBefore, NotAfter: notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{nodeURI(s.Cluster(), role, node)},
	}
	for _, h := range hosts {
		if a, err := netip.ParseAddr(h); err == nil {
			t.IPAddresses = append(t.IPAddresses, net.IP(a.AsSlice()))
		} else if isDNSName(h) {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	parent := &x509.Certificate{Subject: s.subject(role), BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign, PublicKey: issuer.Public()}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, issuer)
	if err != nil {
		return nil, fmt.Errorf("issue the node's certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// nodeURI is what a certificate says of its node.
func nodeURI(cluster, role, node string) *url.URL {
	return &url.URL{Scheme: "scagent", Host: cluster, Path: "/" + role + "/" + node}
}

// isDNSName leaves out what x509 would refuse or mangle in a certificate.
func isDNSName(s string) bool {
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.')
	})
}

var errStranger = errors.New("its certificate is of another secret")

// verify returns who leaf says the node is, if one of the secret's authorities
// issued it.
func (s *Secret) verify(leaf *x509.Certificate) (Peer, error) {
	node, err := NodeID(leaf.PublicKey)
	if err != nil {
		return Peer{}, err
	}
	for _, a := range s.authorities() {
		if leaf.CheckSignatureFrom(a.cert) != nil {
			continue
		}
		want := nodeURI(s.Cluster(), a.role, node).String()
		if len(leaf.URIs) != 1 || leaf.URIs[0].String() != want || leaf.IsCA {
			return Peer{}, errors.New("its certificate does not name the node that it is for")
		}
		return Peer{Node: node, Submit: a.role == roleMaster}, nil
	}
	return Peer{}, errStranger
}
