package membership

import (
	"fmt"
	"maps"
	"sync/atomic"
)

// reason says why something that arrived was refused.
type reason int

const (
	reasonSize reason = iota
	reasonUnsealed
	reasonUnknownKey
	reasonForged
	reasonReplayed
	reasonLabel
	reasonRate
	reasonTotalRate
	reasonType
	reasonForm
	reasonChecksum
	reasonIncarnation
	reasonName
	reasonMeta
	reasonVersion
	reasonAddress
	reasonSource
	reasonTarget
	reasonFull
	reasonStreams
	reasonStreamForm
	reasonStreamLimits
	reasonStreamSlow
	reasonMessage
	reasonConflict
	reasonMessageQueue
	numReasons
)

// RefusedUnknownKey is the reason, in Stats.Refused, of packets that were sealed
// with a key that this node has not: another pool's, or a newer one.
const RefusedUnknownKey = "packet_unknown_key"

var reasonNames = [numReasons]string{
	"packet_size", "packet_unsealed", RefusedUnknownKey, "packet_forged", "packet_replayed", "packet_label", "packet_rate", "packet_total_rate", "packet_type", "packet_form",
	"packet_checksum", "incarnation", "name", "metadata", "protocol_version", "address", "ping_source",
	"ping_target", "too_many_members", "too_many_streams", "stream_form", "stream_limits", "stream_slow",
	"message_form", "address_conflict", "message_queue_full",
}

func (r reason) String() string {
	if r < 0 || r >= numReasons {
		return fmt.Sprintf("reason %d", int(r))
	}
	return reasonNames[r]
}

// refusal is a reason as an error.
type refusal reason

func (r refusal) Error() string { return "refused: " + reason(r).String() }

// counters count what was refused, by reason. Safe for concurrent use.
type counters [numReasons]atomic.Uint64

func (c *counters) add(r reason) { c[r].Add(1) }

// Stats are figures about a Pool since its start.
type Stats struct {
	Members map[Status]int // by status, this node included

	// HealthScore is memberlist's opinion of this node itself: 0 is well; from
	// about 3 on it should not trust its own word that others failed.
	HealthScore int

	// Refused counts what arrived and was not let through, or was dropped, by
	// reason.
	Refused map[string]uint64

	PacketsIn, PacketsOut uint64
	Streams               int // open now, of others

	DocumentsFetched    uint64
	DocumentFetchErrors uint64

	Joins      uint64 // addresses that answered a join, seeds and old members alike
	JoinErrors uint64

	// Twin is true when another process runs with this node's id: a copied state
	// directory.
	Twin bool
}

// Stats returns current figures.
func (p *Pool) Stats() Stats {
	s := Stats{
		Members:             make(map[Status]int),
		Refused:             make(map[string]uint64),
		PacketsIn:           p.transport.packetsIn.Load(),
		PacketsOut:          p.transport.packetsOut.Load(),
		Streams:             p.transport.streams.open(),
		DocumentsFetched:    p.docs.fetched.Load(),
		DocumentFetchErrors: p.docs.errors.Load(),
		Joins:               p.joins.Load(),
		JoinErrors:          p.joinErrors.Load(),
		Twin:                p.twin.Load(),
	}
	for _, m := range p.view.all() {
		s.Members[m.Status]++
	}
	for r := range p.counters {
		if n := p.counters[r].Load(); n > 0 {
			s.Refused[reason(r).String()] = n
		}
	}
	maps.DeleteFunc(s.Members, func(st Status, _ int) bool { return st == "" })
	if ml := p.running(); ml != nil {
		s.HealthScore = ml.GetHealthScore()
	}
	return s
}
