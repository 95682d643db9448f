// Package facts finds out what kind of machine this is.
//
// Collect returns what every node tells the pool about its machine, so that
// tasks can be aimed with a query such as facts.os == "linux" and facts.cpus >= 8.
// Interpreters says which programs that run scripts are installed, so that a
// file task never goes to a worker that cannot run it.
//
// Facts ride in gossip where they fit, so they stay few and short: below 300
// bytes of JSON on an ordinary machine. A fact that cannot be found out is left
// out; the query language treats a missing field as unknown.
package facts
