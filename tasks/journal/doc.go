// Package journal keeps records on disk that must not be lost, by kind and
// tasks.ID. It knows nothing else of tasks: what a record says, when it is
// deleted, is its user's affair.
//
// # How it works
//
// A Journal is a log in segments, with an index in memory that says where the
// last record of each ID is (Bitcask: Sheehy and Smith, A Log-Structured Hash
// Table for Fast Key/Value Data, 2010; but the index is a tree, so that Scan
// goes in the order of IDs, that is, of time). One goroutine writes: it takes all
// that waits, appends it as one group and syncs once. Values above
// Config.FileBytes go into files named by their hash, synced before the record
// that names them, shared, and removed when no record names them any more.
//
//	about            whose journal it is
//	00000007.log     a segment, see format.go
//	00000008.log
//	values/<sha256>  a value
//	damaged-<time>/  what Salvage found
//
// Each segment ends with the name of the next, and begins with that of the one
// before, so that one that is missing, exchanged or of another time is noticed.
// When the log is longer than 1.5 times what is in it and 2 segments, live
// records of its oldest segment are copied to its end, a record says that the
// segment no longer counts, and it is removed. The log takes at most twice what
// is in it and 4 segments. The index takes some 60 bytes a record, a segment one
// descriptor.
//
// # What is promised
//
// When done was called with nil, the records of that call are on disk, and are
// there after any crash that leaves the disk as it was. Get, Scan and Len tell of
// what is on disk only.
//
// The records of one call are stored all or none. What Try was refused is never
// seen.
//
// There may be no room: then Try is refused with ErrFull, what Write has waits in
// memory, and all goes on by itself when there is room. Config.MinFree bytes are
// left to Write and to compaction. After a failed sync nothing is known of what
// is on disk: all is refused with ErrFailed until the next Open, which reads what
// is there. It can be that the disk then has a record that was refused.
//
// Open verifies every byte, the files of values too. It cuts off a write that was
// not finished and refuses anything else with ErrDamaged; it never takes a
// damaged journal for an empty one, and never changes one. These can be told
// apart as far as disks write sectors of 512 bytes whole or not at all, and what
// was not written reads as zeros:
//
//   - A bad group with a later one behind it, or in a segment that is not the
//     last, is damage: the later one was written when the earlier one was safe.
//   - At the very end, a group of which the file has not all bytes, or whose bad
//     record or header has a whole sector of zeros (or what of it is the
//     group's), was not finished. So a flipped bit in the last group is damage,
//     unless it is in a record that has such zeros of its own.
//   - Nobody can tell a journal whose last segment was cut at the end of a group,
//     or that was restored from an old copy, from one to which nothing more was
//     written.
//
// Salvage keeps what is intact of a damaged journal, and all files as they were.
//
// One process may have a journal open. The lock of the state directory sees to
// that, not this package.
//
// # Why not bbolt
//
// A commit of bbolt is two writes and two fdatasyncs. On the machine of the
// targets (2 cores, ext4, Go 1.26, five runs interleaved with the bare call, one
// record of 300 bytes) its median is 1.24 to 1.46 times that of 4 KiB appended to
// a file and synced; a durable submit may take 1.3 times as long. Here it is
// 0.8 to 1.1 times, goroutines included. In bulk bbolt, in transactions of 1,000,
// writes 200,000 to 460,000 records/s, and this package 410,000 to 820,000
// (BenchmarkWrite). A file of bbolt that is damaged makes it panic, grows but
// never shrinks, and a full disk below its map is a signal; here each of these is
// an error with a remedy. Segments are not allocated ahead: 4 KiB written into
// zeros are synced in 0.6 times what 4 KiB appended take, but a few hundred bytes
// appended, the usual, in 0.7 times already; and the end of a file would no longer
// tell where the last write ended.
package journal
