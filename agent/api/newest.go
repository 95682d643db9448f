package api

import (
	"math"
	"time"

	"github.com/scagent/scagent/tasks"
)

// newest lists the last tasks, at most limit of them. A backend lists from the
// oldest on, and may have far more of them on disk than fit into memory. Ids begin
// with the time, so it is looked for the moment since which there are just enough.
func newest(b Backend, after tasks.ID, states []tasks.State, limit int) []tasks.Result {
	first := b.Tasks(after, states, limit)
	if len(first) < limit {
		return first
	}
	now := time.Now().UnixMilli()
	since := func(ago int64) tasks.ID {
		id := tasks.ID{}
		copy(id[:5], first[0].ID[:5]) // the node
		for i, ms := 10, max(0, now-ago); i >= 5; i, ms = i-1, ms>>8 {
			id[i] = byte(ms)
		}
		if string(id[:]) < string(after[:]) {
			return after
		}
		return id
	}
	enough := func(ago int64) bool { return len(b.Tasks(since(ago), states, limit)) == limit }
	few, many := int64(0), int64(1) // milliseconds ago
	for many < now && !enough(many) {
		few, many = many, 8*many
	}
	for many-few > 1 {
		if mid := few + (many-few)/2; enough(mid) {
			many = mid
		} else {
			few = mid
		}
	}
	rs := b.Tasks(since(many), states, math.MaxInt) // enough, and at most those of a millisecond more
	return rs[max(0, len(rs)-limit):]
}
