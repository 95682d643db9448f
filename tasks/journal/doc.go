// Package journal keeps small records by kind and tasks.ID on disk: what a
// master must not lose. It knows nothing of tasks.
package journal
