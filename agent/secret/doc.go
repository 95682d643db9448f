// Package secret holds the one secret of a cluster and what is derived from it:
// the keys of gossip and beacon, the certificates with which nodes prove who
// they are, and the signatures of HTTP requests.
//
// # Texts
//
// A secret is 32 random bytes, written as sck1- and base32 with a checksum. Who
// has it may do everything: submit tasks, run them, make tokens. A worker token,
// scw1-, is made from it: it lets a node join and run tasks, not submit any.
// Either stands alone on a line of a file of mode 0600. Further lines are
// secrets that were replaced, each with the time until which it is still taken:
//
//	sck1-…
//	sck1-… until 2026-11-25T09:00:00Z
//
// # Keys
//
// From the secret S, by HKDF with SHA-256 (RFC 5869), salt "scagent/v1":
//
//	info         bytes  is
//	cluster-id   16     names the cluster in certificates; public
//	gossip       32     seals gossip packets
//	gossip-tag    4     names that key in a packet; public
//	discovery    32     seals beacons; MAC of signed HTTP requests
//	ca/master    32     seed of the Ed25519 key that certifies who may submit
//	ca/worker    32     seed of the one that certifies workers
//
// A token has all of these but the seed ca/master, of which it has the public
// key. So whoever has a token can read and forge gossip and beacons, and can
// make up further workers; it cannot make a certificate that submits.
//
// # Certificates
//
// Each node issues its own certificate, for the key from whose hash its id is
// made, with the URI scagent://CLUSTER-ID/ROLE/NODE. A peer checks the signature,
// the URI and that the id is that of the key; see Keyring. They do not expire:
// no clock need be right, and what ends a certificate is that the secret is
// replaced. TLS is 1.3, in both directions, without tickets. With certificates
// of an own PKI (see PKI) the id is made from the certificate's key in the same
// way.
//
// # Rotation
//
// A Keyring takes the current secret and those still accepted. In TLS each side
// shows a certificate that the other knows: a server finds it by the server name
// in the greeting, which has the cluster ids of the secrets that the client takes, a
// client by the authorities that the server names. Gossip is sealed with the key that
// it was sealed with until Promote. Chain.Merge says what becomes of two secrets that
// were made at once.
//
// Whoever has the secret that is replaced can ask for the new one as long as the
// old one is taken, as a node that was away does. To shut somebody out there must be
// no such time.
package secret
