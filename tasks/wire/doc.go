// Package wire carries tasks, their output and their results between nodes.
//
// Two nodes have one connection, the Link, opened by whichever needs it first
// and used by both in both directions: each can be master and worker for the
// other at once. A Hub holds the links of a node. What arrives on a link goes
// to the node's FromMaster (what masters say to it as a worker) and FromWorker
// (what workers say to it as a master); what links come and go, to its Events.
// The package knows nothing of scheduling, and of nodes no more than their ids
// and a function that dials them.
//
// # Goroutines
//
// A link has two. The reader calls Events.Up, then the handlers, in order, then
// Events.Down; handlers must not block, and may send. The writer takes all that
// is pending and writes it in one system call; what is sent meanwhile is the
// next batch, so the busier a link is, the fewer calls a frame costs. In steady
// state neither side allocates for a frame. A hub has one goroutine that
// accepts, one for each handshake and dial under way, and one that pings.
//
// # Order and bounds
//
// Control, which is every frame but output, is sent without waiting, arrives in
// the order in which it was sent, and does not wait behind output: at most one
// batch of 64 KiB of it, and what the kernel has taken (on Linux, 128 KiB
// beyond the network's own window). Output arrives in order too, and after what
// was sent as control before it. It may be overtaken by control, except by the
// result of its own attempt: a Result arrives after all Output of the attempt
// that was sent before it, for which it waits among the output if it must.
//
// SendOutput waits while 256 KiB of output are pending. Control is not bounded
// by waiting but by what masters and workers allow each other; a link with 64
// MiB pending, or whose other side takes nothing for 10 s, is closed with
// ErrSlowPeer. A link on which nothing is heard for Config.Lease is closed with
// ErrSilent. A node has at most Config.MaxLinks links.
//
// Sending says only that a frame was queued. When a link breaks, what was sent
// on it may have arrived or not; Reattach and State on the next one settle it.
//
// # Connections
//
// The dialer sends the four bytes "\x5cSCL" and a hello. The acceptor answers
// with its hello, or with a close that says why not; then both send frames. The
// handshake takes at most 5 s and its frames have bodies of at most 4 KiB.
//
// When two nodes dial each other at once, the one with the smaller id refuses
// the other's dial with code 2 if its own hello is on its way, and the refused
// one waits for that link. A link that the other side opens while there is one
// replaces it: the other side has noticed a break first. It does not if its
// hello was sent before the other side agreed to the link that is there, which
// the serials of the hellos tell; that, too, is a collision.
//
// # Frames
//
// Integers are big-endian; uvarint and varint are those of encoding/binary.
// Bytes and text are a uvarint length and the bytes. A key is the 16 bytes of
// the task's id and the attempt's number, u32.
//
//	offset  size  field
//	0       4     n, length of the body in bytes, at most MaxFrameBytes (1 MiB)
//	4       1     type
//	5       n     body
//
//	type  name        from    body
//	1     hello       both    min, max u8 (versions; now 1), serial u64, cluster, node, boot,
//	                          name text; what follows is ignored
//	2     close       both    code u8, text (the rest): refuses or ends the link
//	3     ping        both    stamp, echo, hold u64 (ns), slots, busy, queued u32, flags u8
//	                          (1: answer at once, 2: draining)
//	16    offer       master  key, run id, index, slots u32, priority i16, flags u8 (1:
//	                          at most once, 2: durable), timeout u64 (ns), spec (the rest)
//	17    grant       master  key
//	18    window      master  key, n u32
//	19    ack         master  more u8, keys
//	20    recall      master  more u8, keys
//	21    cancel      master  key, reason u8
//	22    reattach    master  more u8, key, received u64, taken u64 of each
//	32    accept      worker  key, queued u8
//	33    reject      worker  key, code u8, text (the rest)
//	34    started     worker  key
//	35    output      worker  key, stream u8 (1 stdout, 2 stderr), bytes (the rest)
//	36    result      worker  key, code, encoding u8, started, finished i64 (Unix ns, 0: never),
//	                          exit varint, user, system (ns), max RSS, stdout, stderr (bytes)
//	                          uvarint, signal, text, value, count uvarint, files,
//	                          count uvarint, steps
//	37    given back  worker  more u8, keys
//	38    state       worker  more u8, lines of key, phase u8 and offset of output u64
//
// A file is name text, mode uvarint (as io/fs.FileMode) and a content; a content
// is inline bytes, blob text and size uvarint. A step is stage and command text,
// exit varint and signal text. A list with more set goes on in the next frame,
// which is of the same type; the handler gets the whole list. Frames of unknown
// types are skipped. A body that is not what its type says closes the link.
//
// Each side pings every Config.KeepAlive, and once as the link comes up. A ping
// echoes the last stamp of the other side and says how long it was held, which
// gives both sides the round trip; nothing else answers a ping.
//
// # Specs
//
// The spec of an offer is a task: u8 version, now 1, then the fields that are
// not empty, in growing order, each as number u8, length uvarint, value. The
// numbers are in task.go. A field that a worker does not know makes the task one
// that it cannot run.
package wire
