// Package bus carries events between the nodes of a pool.
package bus
