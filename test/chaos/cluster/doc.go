// Package cluster runs agents, real processes of the program, on hosts of a lab, and
// does to them what goes wrong in practice: it kills and pauses them, cuts their
// network, has it lose packets, fills their disks, and leaves them no descriptors.
//
// # What it leaves
//
// Nothing but its directory, however it ends. Hosts, links, mounts and filters go with
// the processes that keep them, these and the agents when the program does, and what
// agents had started is in a cgroup that Close removes, or the next New, by its name. The
// directory of a run that was killed is removed by the next, unless it was marked as
// kept; a lock tells whether a run still needs its own.
//
// # Faults
//
// Packets are dropped by the receiver's kernel, before anybody there sees them, so that
// the sender learns nothing. What goes through the switch (Config.Fabric) can be
// delayed, reordered, duplicated and corrupted besides. Each fault is in the history of
// the harness, history-harness.jsonl of the directory (package history), with the ids
// of nodes: its begin before it is done, its end after that.
package cluster
