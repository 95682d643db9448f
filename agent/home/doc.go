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
// and in the state directory api-token, the token of the API over TCP if there is one.
//
// Root's state directories are below /var/lib/scagent, and the other three files
// in /run/scagent. Other users have $XDG_STATE_HOME/scagent (~/.local/state/scagent)
// and $XDG_RUNTIME_DIR/scagent or, where that is not set or not theirs,
// /tmp/scagent-UID, which must be theirs alone. On Windows both are below %LOCALAPPDATA%\scagent.
//
// The kernel drops the locks of a process that dies, however it dies, so its
// number is free at once, or after some milliseconds if a child that it had just
// started has its files still, for which the next agent waits. Whoever gets the lock removes what the dead one left.
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
// master of its own only when there is none at all (ErrNoAgent). FindHTTP returns
// the one that serves its API at a URL.
//
// # Trust
//
// A client hands its tasks to whoever owns the socket, so both sides use a
// directory only if it belongs to the user and nobody else can write to it.
//
// The socket is made with mode 0600, or with Options.Group 0660 and that group;
// it has them before it has its name. Listener also asks the kernel who connects
// (SO_PEERCRED and SO_PEERGROUPS on Linux, LOCAL_PEERCRED on macOS and FreeBSD, which
// tells 16 groups) and hangs up on all but the agent's user, root, and members of
// the group. On other systems the mode must do.
//
// /run/scagent has mode 0755, so that others can see that there is an agent and
// for whom, and a group can pass through. A user's own directory has mode 0700.
// Where that user's agent has a group, whose members could not pass through
// $XDG_RUNTIME_DIR, its files are in /tmp/scagent-UID with mode 0711: others can
// pass, but not look around. Members name that socket with -addr, as clients look
// for the agents of their own user and of root only.
package home
