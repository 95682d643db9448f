// Bench measures scagent beside what its users would pick instead and beside
// what the machine can do at all, in one run, and prints the ratios.
//
//	go run . [-rows noop,latency,…] [-runs 5] [-v]
//
// It is a module of its own, so that the peers are no dependencies of scagent.
// Every party is a process of its own: this program starts itself as the worker,
// the master, the server and the client that a row needs. The parties of a row
// are measured in turn, run after run, since the speed of a shared machine moves
// by itself; what is printed is the median over the runs, the spread, and the
// ratio of the medians.
//
// All runs are on loopback. Nothing outside of temporary directories is touched, but
// that root's agents have their sockets in /run/scagent.
package main
