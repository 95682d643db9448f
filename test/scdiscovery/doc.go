// Package scdiscovery tests scagent with a client that speaks as sc-discovery,
// the discovery library of supercluster, does: client.js, for Node.js, over HTTP
// to a tracker and over UDP multicast to a beacon. It has no code for others.
//
// The client is as easily hurt as the published one: it ends when a service has
// no name or is no object. What it sees, it prints.
package scdiscovery
