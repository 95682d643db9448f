// Chaos submits many small tasks to a cluster of real agents on this machine while a
// nemesis does to the agents what goes wrong in practice, and counts what became
// of each task that was acknowledged:
//
//	go run ./test/chaos -tasks 100000 -workers 4 -masters 1 -profile kills -seed 1
//
// It exits with 1 if one is missing, has not ended two minutes after all faults have, has
// ended twice differently or not well, or was started twice as one attempt, and if one of
// the invariants of docs/checking.md does not hold: the agents write histories, which are
// checked in the end with that of the harness (history-harness.jsonl: the faults, and what
// was left when the agents had stopped) and what the tasks themselves wrote (truth: a line
// when they start and one when they end). Then its directory is kept, with all of that and
// what the agents logged. The same seed does the same faults at the same times.
//
// A task may fail as poison that was started three times or more: workers were killed
// each time, as far as the agent can tell by it.
//
// It needs Linux, root, and ip, nft, unshare, nsenter and mount. See the packages below:
// cluster for the agents and the faults, nemesis for when they strike, fabric for the
// switch, task for what runs.
package main
