// Package bus carries events between the nodes of a pool.
//
// An event has a name (see CheckName), the id of its sender, Lamport time, and up to
// 1 MiB of Data. It goes to all members, or to some; and it can be a request, to
// which each of them replies. What of that is promised is in docs/bus.md. The package
// knows nodes by their ids, and how they are reached from its Config.
//
// # To all
//
// Each node numbers its events to all and keeps the last of them in a log. Gossip
// carries the head of the log: how far it goes, and its newest events if they are
// small (head.go). Of a node's heads gossip has only the newest to carry, so however
// many events there are, it is not in the way of the news about members. A receiver
// knows from the numbers what it lacks, asks the sender for that over HTTP (stream.go),
// and delivers in order. A head is lost on the way to some node now and then, and is
// therefore sent again for half a minute, and whenever somebody comes to the pool: as
// anti-entropy does (Demers et al., "Epidemic Algorithms for Replicated Database
// Maintenance", 1987).
//
// A node gets the events that were sent while it was in the pool. It tells that by
// time, since neither side knows when the other began to see it: events that are
// older than it knows the sender, by more than ten seconds, are not for it.
//
// # To some
//
// An event to named nodes is one POST to each (direct.go, serve.go). It says how far
// the log of the sender goes, and is delivered after what is in there. The answer says
// that it has been delivered or, to a request, has the reply. HTTP connections beside
// the link, and not the link, carry events, so that no event delays a task.
//
// # Bounds
//
// A log has at most 16,384 events, 16 MiB and ten minutes; who asks later is told how
// many it missed. What a node sends is bounded to 32 MB a second, counted once for each
// receiver: a sender waits. Config.Deliver must not block, so that the bus has no queue:
// those are in the feed that it delivers to.
package bus
