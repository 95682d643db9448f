package tasks

import "encoding/json"

// Worker is what a master knows of a node that runs tasks, by way of whoever
// keeps the list of members.
type Worker struct {
	ID   string // node id, constant through restarts
	Boot string // changes at each start
	Name string // for people; not always unique

	Roles     []string
	Slots     int
	Busy      int // as last heard by gossip
	Available bool
	Data      json.RawMessage // the user's
	Facts     json.RawMessage // the agent's

	// Known is false while the document (Data, Facts, Kinds, Functions,
	// Interpreters) has not been fetched yet.
	Known        bool
	Kinds        []Kind
	Functions    []string
	Interpreters []string
}
