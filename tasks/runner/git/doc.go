// Package git runs tasks of kind git: a command inside a repository that is
// checked out for it.
//
// # Mirrors
//
// A worker keeps a bare mirror of each repository that a task named:
//
//	MIRRORROOT/gitconfig          the only configuration that our git reads
//	MIRRORROOT/HASH.lock          held while the mirror is made or updated
//	MIRRORROOT/own/HASH.git/      the mirror; HASH is of the URL
//	MIRRORROOT/uid-N/HASH.git/    with Config.User: theirs, in a directory of theirs
//
// The first attempt clones it, later ones fetch what is new, and of attempts
// that come while that goes on, those that a fetch can serve share it. A ref that
// is a full commit id and is there already needs no fetch at all. A tag that is
// there is used, and standard error says so, when the repository cannot be
// reached. Branches and tags are mirrored, and of other commits those that were
// asked for by their full id. A mirror only grows: remove its directory, while no
// task uses it, to have the room back.
//
// # The work tree
//
// Each attempt has a fresh clone that borrows the mirror's objects, with its
// origin set to the real URL and the commit checked out, detached. It is a
// directory, named for the repository, in the attempt's directory; it is the
// attempt's work directory, where inputs are put, the commands run, and outputs
// are looked for. HOME and TMPDIR lie outside of it.
//
// With Task.Dir the clone is a fresh directory in that one, and the commands run
// there; inputs and outputs then stay with the attempt's own directory. Either is
// removed when the attempt is over.
//
// # Commands
//
// The pre commands run in order; one that fails ends the attempt. Then the
// command, with the task's standard input, then the post commands, all of them,
// also when the command has failed. The attempt ends as the command did or, when
// that was well, as the first post command that failed. Outcome.Steps has them all.
//
// # What git may do
//
// Our git never prompts, runs no hooks, knows no credentials but the keys that
// ssh finds by itself, does not follow a repository to another protocol than its
// URL's, leaves submodules and large files (LFS) alone, and is stopped with the
// attempt. It reads no configuration of the machine's; proxies and certificates
// come from the agent's environment (https_proxy, SSL_CERT_FILE, …). The task's
// commands may run git as they like.
package git
