// Package nemesis makes schedules of faults for a cluster, from a seed.
//
// A Profile is a set of sources, each of which makes one sort of fault again and again:
// it picks whom it strikes, when, and for how long. Sources know nothing of each
// other, so that the faults of a profile with several come together in all ways.
// A schedule is a pure function of profile, seed and nodes: what happens to the cluster
// does not change what is done to it, and the same seed does the same again.
package nemesis
