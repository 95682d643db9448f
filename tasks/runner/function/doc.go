// Package function runs tasks of kind function: Go functions that the program
// which embeds the agent has registered by name.
//
// A function runs in the agent's own process. A panic in it is that attempt's
// error; what the Go runtime cannot recover from (concurrent map writes, a full
// stack, no memory) ends the agent. A function is asked to stop through its
// context and cannot be made to: its slot is busy until it returns.
package function
