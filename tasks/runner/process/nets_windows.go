package process

import "log"

// Nets hold the processes of an agent's tasks. Here they hold none but the main
// process of each, which Run holds.
type Nets struct{ brood Brood }

// OpenNets returns nets that hold nothing.
func OpenNets(b Brood, _ *User, _ *log.Logger) (*Nets, error) { return &Nets{brood: b}, nil }

// Brood names the processes that the nets would hold.
func (n *Nets) Brood() Brood { return n.brood }

// Close does nothing.
func (n *Nets) Close() error { return nil }

// Kill does nothing.
func (b *Brood) Kill() {}
