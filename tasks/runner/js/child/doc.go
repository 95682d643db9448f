// Package child evaluates scripts in child processes, which can be killed.
//
// An engine inside a process can take all its memory, fill its stack or never
// return, and the process with it. Here that is a child of the agent: the program
// itself, started once more (see package helper). The package knows nothing of the
// engine; Serve, the main of a child, is given what evaluates.
//
// # The life of a child
//
// The first call starts a child, which takes some 10 ms. From then on one more
// than are in use is there, so that a call finds one that waits, also after a
// child was killed. Calls come one at a time, and first to the child that was used
// last: it has most of its programs compiled. Nothing bounds the number of children
// but that of the calls, which are as many as the worker has slots. A child that
// nobody has needed for a minute ends, but for one. It is replaced after 10,000
// calls, and when a script has ended and it holds 64 MiB more than at its start, or
// half of what a script is given.
//
// A child has no environment, no network and no file but three pipes: it closes
// what the agent had inherited, and can open nothing. It runs in a process group
// of its own, in /, as Config.User. A script is given Setup.MemoryBytes on top of
// what the process takes itself (RLIMIT_DATA), and the stack of the engine 64 MiB.
// Where memory runs out all the same, the kernel is told to end a child first. All
// of that is so on linux; elsewhere a child has nothing but its own process, its
// user and an end. It reads the end of its standard input when the agent dies, and
// exits, whatever its script does.
//
// # How a call ends
//
// When the context of a call ends, the script is interrupted; a child that has not
// answered a second later is killed. It is killed at once for a tasks.StopKill,
// when Attempt.Kill closes, and by Close. The outcome is then that of the stop.
//
// A child that dies by itself is told from what the Go runtime wrote last. Out of
// memory, or with a full stack, the script has Failed. Killed by a signal that did
// not come from here, it is Signalled. Anything else is a Panic, with what the
// runtime wrote on the attempt's standard error. None of these is a loss of the
// worker: a master does not try the script elsewhere, where it would do the same.
//
// # Output
//
// Output comes as it is written. A Write that waits for its reader lets the pipe
// run full, and then the script waits. As elsewhere, Call returns only when such a
// Write has returned, but the child is killed before.
//
// # Frames
//
// What goes through the pipes is frames. Integers are big-endian. Both ends are the
// same program, so that there is no version.
//
//	offset  size  field
//	0       1     type
//	1       4     n, length of the body in bytes
//	5       n     body
//
//	type          from   body
//	1 setup       agent  memory in bytes u64, programs kept u32, bytes of source kept u64; first, and once
//	2 call        agent  number u32, seed 2 u64, source, count of arguments u32, arguments; at most 1.5 MiB
//	3 interrupt   agent  number u32 of the call, which may have ended
//	4 ready       child  nothing; once, when it can be called
//	5 stdout      child  output, at most 32 KiB
//	6 stderr      child  output, at most 32 KiB
//	7 result      child  code u8, bytes held u64, length of the text u16, text, value in JSON
//
// The source and each argument are a length u32 and so many bytes.
//
// # Trust
//
// A script that breaks out of the engine owns its child, and sees what scripts
// after it are given. It cannot fool the agent: lengths are checked before anything
// is allocated, a code must be one that a script can have, a text one line of at
// most 8 KiB, and a value JSON of at most tasks.MaxValueBytes. A child that answers
// otherwise is killed.
package child
