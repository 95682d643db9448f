package membership

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Role is what a node does in the pool. A node has at least one.
type Role string

// The roles. Their order here is the order in Member.Roles.
const (
	RoleWorker  Role = "worker"  // runs tasks
	RoleMaster  Role = "master"  // submits them
	RoleTracker Role = "tracker" // a well-known address to join at
)

// roles lists every role; its index is the role's bit in metadata.
var roles = [...]Role{RoleWorker, RoleMaster, RoleTracker}

// Status is how a member is doing, as far as this node knows.
type Status string

const (
	Alive   Status = "alive"
	Suspect Status = "suspect" // did not answer a probe; still counts as present
	Failed  Status = "failed"  // gone without a word; tried again for Config.FailedTTL
	Left    Status = "left"    // said goodbye, or was declared gone by ForceLeave

	// External is for hosts that a tracker heard of over HTTP only. A Pool
	// never gives it to a member of its own.
	External Status = "external"
)

// Present reports whether the member takes part in the pool right now.
func (s Status) Present() bool { return s == Alive || s == Suspect }

// Member is a node as the pool sees it. It is a plain copy: changing it changes
// nothing, except that its slices are shared between copies and must only be
// read.
type Member struct {
	ID   string // node id, 26 characters, constant through restarts
	Boot string // changes at each start; a later start has a larger one
	Name string // for people, at most 64 bytes; not always unique

	AddrPort netip.AddrPort // the node's one port, TCP and UDP
	Roles    []Role         // in the order worker, master, tracker
	Status   Status
	Since    time.Time // when Status last changed between present, failed and left

	Available bool // false when the node wants no new tasks
	Slots     int
	Busy      int    // slots in use, at most about a second old
	Version   string // of scagent, at most 32 bytes

	Document      Document // empty while DocumentKnown is false
	DocumentKnown bool     // false until the document was fetched from its owner

	Self bool // this node

	digest digest // of the document
}

// Has reports whether the member has role r.
func (m Member) Has(r Role) bool { return slices.Contains(m.Roles, r) }

// offers reports whether the member can be counted on in role r now.
func (m *Member) offers(r Role) bool {
	return m.Status.Present() && m.Has(r) && (r != RoleWorker || m.Available)
}

// compareMembers orders members by name, then id.
func compareMembers(a, b *Member) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
}
