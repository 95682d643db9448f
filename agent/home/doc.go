// Package home says where an agent lives on its host, and finds it there.
//
// Several agents can run on a host, also under one user and in several network
// namespaces. Each takes a number: the first from 1 that no other agent of its
// user has. The number names
//
//	N        the state directory: the node's key, blobs, work directories
//	N.sock   the socket of the local API
//	N.json   who listens there, see Announcement
//	N.lock   a file that the agent holds a lock on while it lives
//
// Root's state directories are below /var/lib/scagent, and the other three files
// in /run/scagent. Other users have $XDG_STATE_HOME/scagent (~/.local/state/scagent)
// and $XDG_RUNTIME_DIR/scagent or, where that is not set or not theirs,
// /tmp/scagent-UID, which must be theirs alone. On Windows both are below %LOCALAPPDATA%\scagent.
//
// The kernel drops the locks of a process that dies, however it dies, so its
// number is free at once. Whoever gets the lock removes what the dead one left.
// The state directory has a lock of its own, as it can be given by name.
//
// # Agents
//
// Claim takes a number; Home.Listen makes the socket, Home.Announce tells clients
// that the agent is up, Home.Release gives everything back. Temporary is a home
// without number and socket, for masters that live as long as one command.
//
// # Clients
//
// Find returns the lowest agent of the same user and network namespace, else
// root's if its socket may be opened. When there is an agent but none for this
// client, the error says so (OthersError, NoAccessError); a client starts a
// master of its own only when there is none at all (ErrNoAgent).
//
// # Trust
//
// A client hands its tasks to whoever owns the socket, so both sides use a
// directory only if it belongs to the user and nobody else can write to it.
package home
