// Package memnet is a network within a process, to test on what package port
// finds on a real one.
//
// A Network has machines, each with one IP address. A Host is a process on a
// machine; it listens and dials, and so is a port.Network. Connections are
// buffered, have deadlines and close one direction at a time, and packets get
// lost when their receiver is slow, all as with TCP and UDP. Addresses are
// *net.TCPAddr and *net.UDPAddr.
//
//	n := memnet.New()
//	a, err := port.Open(ctx, port.Config{Bind: "10.0.0.1", Network: n.Host("10.0.0.1")})
//	b, err := port.Open(ctx, port.Config{Bind: "10.0.0.2", Network: n.Host("10.0.0.2")})
//	n.Cut("10.0.0.1", "10.0.0.2") // pull the cable
//
// Bind an agent to its host's address, since 0.0.0.0 would make it announce one
// of the real machine's.
//
// # Harm
//
//	Cut, CutOneWay   as a pulled cable: silence, no errors; Heal undoes it
//	Reset            breaks connections; both ends live
//	SetDelay         one-way latency
//	SetLoss          loses some packets
//	Host.Kill        as kill -9: connections break, dials are refused
//	Host.Vanish      as power loss: silence
//
// Streams lose nothing to a cut: what was written waits for its end, until the
// writer's buffer is full and Write waits. Packets sent meanwhile are lost.
// Within a machine nothing is ever cut, delayed or lost.
//
// # Time
//
// Everything here may be used in a bubble of testing/synctest: whoever waits,
// waits in a way that lets the bubble's clock go on. A Network keeps no
// goroutines of its own, only timers of what is on its way. A Network must be
// made in the bubble that uses it. The clock stops when the bubble's function
// returns: with a delay, what was sent last, the end of a stream included, then
// no longer arrives.
//
// # Locks
//
// Network.mu comes before those of connections and packet sockets; neither is
// held while anything waits.
package memnet
