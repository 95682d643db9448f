// Package blob keeps contents that are too large to travel inside a task, on
// disk, by the hex SHA-256 of their bytes.
//
// A Store owns one directory. Contents come in through Put (from a reader),
// Adopt (a file that a task made) and Fetch (from another node's Store, over
// HTTP); each is hashed while it is copied and appears under its hash only when
// all of it is there. Get opens one, and ServeHTTP serves it to other nodes in a
// way that lets the kernel send the file and lets them resume.
//
// # How long contents stay
//
// Whoever needs a content longer than for the moment holds it (Hold, Release;
// counted). One that nobody holds is removed once it is older than Grace, so
// that what was put and then never named does not stay. The counts are in memory: after
// a restart whoever still needs a content must hold it again within Grace.
// What a dead agent left half-written is removed by Open; contents that it left
// whole are hashed again when they are first used, since a crash of the machine
// can have spoilt them.
//
// # On disk
//
//	DIR/HASH-N      a content; N tells apart two of one hash, of which one is being removed
//	DIR/incoming-*  one that is being written
package blob
