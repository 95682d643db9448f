// Package membership knows who is in the pool.
//
// A Pool is one node's membership. It gossips with the other nodes by way of
// hashicorp/memberlist, which nothing else in this repository imports, and shows
// the result as plain Member values:
//
//	p, err := membership.New(config) // checks, opens nothing
//	err = p.Start(ctx)               // joins in the background
//	for _, m := range p.Members() { ... }
//	err = p.Leave(ctx)               // says goodbye
//	err = p.Close()
//
// It needs a listener for streams, a socket for packets and a function that
// dials; package agent/port has real ones, its memnet ones for tests.
//
// # Members
//
// A member is a node, by its id, which outlives restarts. In gossip each start
// of a node is a process of its own, "<id>.<boot>", so that restarts never
// conflict; of several processes of one id the newest boot is shown. Names are
// for people and may be given twice.
//
// A member is Alive, Suspect (it did not answer, and has some seconds to deny
// it), Failed, or Left. The first two count as present. memberlist tells neither
// suspicion nor farewell: the one is read off the packets that pass, the other is
// a message of our own. Who left is listed for a minute; who failed is listed,
// and looked for, for 72 hours.
//
// # What a node says about itself
//
// Metadata of at most 512 bytes rides with gossip: see meta.go for its bytes. It
// changes at most once a second. The Document (the user's data, facts, and what
// the node can run) rides along, deflated, when it fits. Otherwise metadata has
// its digest, and who sees a new digest fetches the document over HTTP from its
// owner (Pool.DocumentHandler), a few at a time and spread a little. Until it is
// there the document counts as unknown, Member.DocumentKnown.
//
// # Finding each other, and again
//
// Seeds are tried until they answer, for ever, and again when a node is alone.
// Beyond that every node looks for members that are absent, with back-off for
// each, but for some absent one every ten seconds in any case: two halves of a
// pool that were cut apart are one again half a minute after the cut is over at
// the latest. Known members are kept in Config.PeersFile over restarts. And while
// a pool grows fast, nodes exchange all they know more often (sync.go), because
// gossip alone carries only some dozens of news a second.
//
// # Trust
//
// Whoever can send packets to a node can speak for any member, unless what lies
// below this package prevents it. What this package does prevent is that a few
// bytes do great harm. Everything that arrives, in packets and in streams, both
// asked for and not, is parsed first by a guard that lets through only what
// memberlist itself would have sent, within bounds: nothing compressed, encrypted
// or nested, no numbers that overflow, no lengths that promise gigabytes, no
// answers to third parties. A forged death is denied by its victim within a
// second, and nobody can say for another that it left. What was refused is
// counted by reason, see Stats. The tests in attack_test.go list the attacks.
//
// # Goroutines
//
// Each is started by Start and ended by Close, which waits for it. memberlist's
// own cannot be waited for; the last of them ends some seconds after Close.
//
//	keep           changes the view when the roster has changed; each second, what time causes
//	announcer.run  calls OnEvent
//	mail.deliver   calls OnMessage
//	announceLoop   gossips changed metadata
//	seedLoop       tries seeds
//	rejoinLoop     looks for absent members; saves the peers file
//	syncLoop       exchanges the whole state while the pool grows
//	transport      reads packets; accepts streams
//	documents      one for each document being fetched
//
// memberlist calls delegate.go, mostly under its lock; from there only the roster
// changes, under Pool.mu. Readers see the view, which has a lock of its own, so
// that no reader delays gossip.
package membership
