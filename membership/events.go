package membership

import "sync"

// EventType says what happened to a member.
type EventType string

const (
	WorkerAvailable    EventType = "workerAvailable"
	WorkerUnavailable  EventType = "workerUnavailable"
	MasterAvailable    EventType = "masterAvailable"
	MasterUnavailable  EventType = "masterUnavailable"
	TrackerAvailable   EventType = "trackerAvailable"
	TrackerUnavailable EventType = "trackerUnavailable"
	MemberUpdate       EventType = "update" // anything else that Member shows
)

// roleEvents has, for each role in the order of the variable roles, the event of
// its coming and that of its going.
var roleEvents = [...][2]EventType{
	{WorkerAvailable, WorkerUnavailable},
	{MasterAvailable, MasterUnavailable},
	{TrackerAvailable, TrackerUnavailable},
}

// Event is something that happened to a member. Member is its state afterwards.
type Event struct {
	Type   EventType
	Member Member
}

// announcer tells one consumer about members. Nobody who has news waits for the
// consumer: the announcer notes only whose news there is, and compares the
// member as it is now with the member as the consumer last saw it when the
// consumer has time. What waits is therefore bounded by the number of members.
type announcer struct {
	view    *view
	consume func(Event)
	wake    chan struct{} // cap 1

	mu      sync.Mutex
	waiting []string            // ids with news, oldest first, each once
	queued  map[string]struct{} // the same as a set

	told map[string]*Member // as the consumer saw it; owned by run
}

func newAnnouncer(v *view, consume func(Event)) *announcer {
	return &announcer{
		view: v, consume: consume, wake: make(chan struct{}, 1),
		queued: make(map[string]struct{}), told: make(map[string]*Member),
	}
}

// news notes that the member with the given id changed.
func (a *announcer) news(id string) {
	a.mu.Lock()
	_, known := a.queued[id]
	if !known {
		a.queued[id] = struct{}{}
		a.waiting = append(a.waiting, id)
	}
	a.mu.Unlock()
	signal(a.wake)
}

func (a *announcer) next() (id string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 {
		a.waiting = nil
		return "", false
	}
	id, a.waiting = a.waiting[0], a.waiting[1:]
	delete(a.queued, id)
	return id, true
}

// run calls the consumer until done is closed.
func (a *announcer) run(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-a.wake:
		}
		for id, ok := a.next(); ok; id, ok = a.next() {
			for _, e := range a.compare(id) {
				select {
				case <-done:
					return
				default:
					a.consume(e)
				}
			}
		}
	}
}

// compare returns the events between what the consumer was told and what is.
func (a *announcer) compare(id string) []Event {
	was, now := a.told[id], a.view.get(id)
	if now == nil {
		if was == nil {
			return nil
		}
		gone := *was
		if gone.Status.Present() {
			gone.Status = Failed
		}
		delete(a.told, id)
		return roleChanges(was, &gone)
	}
	a.told[id] = now
	if was == nil {
		if events := roleChanges(&Member{}, now); len(events) > 0 {
			return events
		}
		return []Event{{MemberUpdate, *now}}
	}
	if was.Boot != now.Boot {
		// Another process: what the old one offered is gone.
		gone := *was
		gone.Status = Failed
		return append(roleChanges(was, &gone), roleChanges(&gone, now)...)
	}
	events := roleChanges(was, now)
	if len(events) == 0 && was != now {
		events = append(events, Event{MemberUpdate, *now})
	}
	return events
}

func roleChanges(was, now *Member) []Event {
	var events []Event
	for i, r := range roles {
		switch before, after := was.offers(r), now.offers(r); {
		case !before && after:
			events = append(events, Event{roleEvents[i][0], *now})
		case before && !after:
			events = append(events, Event{roleEvents[i][1], *now})
		}
	}
	return events
}

// signal wakes who waits on a channel of capacity 1.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
