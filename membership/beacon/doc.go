// Package beacon lets agents on one network find each other without being told
// where the others are.
//
// A Beacon sends announcements to a multicast group and hears those of others.
// What it hears of a node of the same cluster that is not in the pool yet, it
// hands to OnStranger; joining is the caller's business.
//
// # Network
//
// Announcements go to 224.0.0.234 and ff02::5ca6, UDP port 44201, on every
// interface that is up and can multicast, and over IPv4 on the loopback
// interface, so that agents on a host without any network find each other.
// There is one socket per interface and family, bound to the group's address,
// which therefore receives nothing but what is sent to the group. Interfaces are
// looked at every few seconds, and sockets follow. Where a socket cannot be bound
// to a group (windows), a beacon sends but does not hear: agents elsewhere find
// it.
//
// Any other socket of the host on UDP port 44201 that is bound to the wildcard
// address must have SO_REUSEADDR set, or the kernel refuses one of the two; and
// IP_MULTICAST_ALL=0, or it gets the announcements as well.
//
// # When it announces
//
// At the start, after 0.25 s and after 1 s; from then on about every Interval
// for the pool, not for each node: whoever hears another node of its own pool
// starts its random wait anew, and so stays silent as long as others speak. This
// is the idea of Trickle (RFC 6206): traffic on a network does not grow with
// the number of nodes.
//
// A node that has just started, or is alone, says so in its announcements. If
// those who hear it hold it for a member, as happens when a node starts again
// before the pool has noticed that it was gone, one of them answers within half
// a second, and the node learns of its pool.
//
// # Other hosts
//
// sc-discovery, the library of supercluster, announces on the same group and
// port, with JSON: a map from id to {id, name, data, available}, sent by each
// host for itself every 3 s, and valid for 7.5 s. A beacon without Keys reads
// these maps, and Externals lists what they say. That is all it leads to: such
// a host is no stranger, and nobody joins it. An id belongs to the address that
// it was first heard from, until it is silent. At most 1,000 services are kept,
// and 1,000 maps a second read.
//
// The other way round, a node sends such a map of its Services, one for each
// role, with the id ROLE:NODE and the key scagent, by which other nodes know to
// ignore it. It does so in the first 10 s after its start, and for a minute
// after it heard the map of such a host, an empty one included, which is what a
// host sends that only listens. So a network without such hosts stays quiet; one
// with them carries a small datagram of each node every 3 s. A map is at most
// 1,400 bytes, and goes without data where that does not fit. Where a beacon
// cannot hear, others see its services for its first 17 s.
//
// On one host with an agent, such a program must set SO_REUSEADDR as said above:
// reuseAddr in Node.js.
//
// # Strangers
//
// All members of a pool hear a newcomer at the same time. So that they do not
// all join it at once, each waits a random time that grows with the size of its
// pool and asks Known again: by then gossip has usually brought the newcomer.
//
// A node is reported at most once a second, and at most 20 strangers a second
// in all. What has a sequence number that was heard already, or comes from an
// older boot of its node, is dropped; an older boot is listened to again when the
// newer one has been silent for a minute, so that a clock set back does not
// silence a node for ever.
//
// # Trust
//
// Without Keys anyone on the link can announce anything. An announcement leads
// at most to a call of OnStranger with an address on the link: one that was sent
// with a TTL other than 255 has passed a router and is dropped (RFC 5082), and
// so is one that names an address which is neither on the link nor its sender's.
// With Keys every announcement is sealed, and others are dropped; who has no key
// learns from one that there is a pool, and a hash of its cluster's name.
//
// Maps of services come with any TTL, because sc-discovery sends them with 1;
// they must come from an address on the link. Whoever is there can list what it
// likes and make all nodes send maps for a minute.
package beacon
