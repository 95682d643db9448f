// Package blob keeps contents that are too large to travel inside a task, on
// disk, by the hex SHA-256 of their bytes.
//
// A Store owns one directory. Contents come in through Put (from a reader), Fetch
// and Receive (from another node's Store, over HTTP) and appear under their hash
// only when all of them is there. Get opens one, and ServeHTTP serves it to other
// nodes. Stage takes in a file that a task made under a name that nobody can
// guess, for Receive elsewhere to give it its hash.
//
// # How a large content travels
//
// Contents from BulkBytes on have a connection of their own each (Bulk). Where
// there is no TLS, and the system can, the kernel moves the bytes from file to
// socket and from socket to file (sendfile, splice).
//
// SHA-256 is slower than that, so it is worked out once, where a content comes in
// from outside: by Put, and by Receive, beside the copying. A checksum, CRC-32C,
// is worked out with it, kept, and sent along. What is promised:
//
//   - What Put and Receive return is the hash of what is in the store.
//   - Receive compares what came with the checksum that its sender worked out of
//     its file while it sent it.
//   - Fetch of a small content compares it with its hash. Fetch of a large one
//     compares it with the checksum from when its hash was made: damage by a disk
//     or a network goes unnoticed once in four billion times, and a sender that
//     lies is not found out. So it is given like that only to who fetches it from
//     the same host. All else, that is, Fetch from another host, Get and ServeHTTP,
//     waits until it was compared with its hash. A host can thus deceive nobody but
//     those that it tells what to fetch.
//
// # How long contents stay
//
// Whoever needs a content longer than for the moment holds it (Hold, Release;
// counted). One that was put and that nobody holds is removed once it is older
// than Grace, so that what was put and then never named does not stay. What was
// staged is removed when it is released. The counts are in memory: after a restart
// whoever still needs a content must hold it again within Grace.
//
// What was fetched stays when nobody holds it, for whoever fetches it next, as long
// as all that was fetched is within a bound; what was used longest ago goes first,
// and never what is held. Held.MoveTo gives the very file that was downloaded to
// the first user, who may change it, and makes the copy that stays meanwhile. One
// that is to be copied while its user changes it does not match its hash, and is
// not kept.
//
// What a dead agent left half-written, or staged, is removed by Open; contents that
// it left whole are hashed again when they are first used, since a crash of the
// machine can have spoilt them.
//
// # On disk
//
//	DIR/HASH-N         a content; N tells apart two of one hash, of which one is being removed
//	DIR/HASH-N-cached  one that was fetched
//	DIR/staged-NAME    what was staged
//	DIR/incoming-*     one that is being written
package blob
