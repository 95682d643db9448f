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
// which therefore receives nothing but announcements. Interfaces are looked at
// every few seconds, and sockets follow. Where a socket cannot be bound to a
// group (windows), a beacon sends but does not hear: agents elsewhere find it.
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
// With Keys every announcement carries a MAC, and others are dropped.
package beacon
