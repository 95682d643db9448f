// Package fabric is an Ethernet switch in user space for networks of tests, that
// does to packets what the kernel at hand cannot: it delays, reorders, duplicates
// and corrupts them, loses some, and cuts ports off from each other, in one
// direction or both.
//
// Each port is a TAP device in the network namespace of a host. The switch learns
// where hardware addresses are, as others do. For each ordered pair of ports there is
// a Policy, which can be replaced at any time, and a source of random numbers of its
// own, made from the seed of the switch and the names of the ports: whatever else
// happens, the n-th packet from one port to another has the same luck with the same
// seed and policy.
package fabric
