// Package hosts makes hosts for tests on one machine with Linux: network
// namespaces, each with a /run and a /var/lib of its own, joined to networks by
// bridges.
//
// Namespaces have no names: each lives as long as a process of the lab that keeps
// it, and that ends when its standard input does, so at the latest when the program
// that made the lab ends, however it ends. Links, mounts and rules go with them.
// Nothing of the machine is changed, so that labs exist beside each other.
//
// Processes that are started on hosts can be put in a Cgroup, which ends them and
// what they started; it has a name, as cgroups outlive whoever made them.
//
// It needs root, and ip, unshare, nsenter and mount.
package hosts
