package tracker

import (
	"encoding/json"
	"sync"
	"time"
)

// farewellFor is how long a service that has gone is listed as not available.
// Clients of sc-discovery learn only from this that it has, and ask every 3 s.
const farewellFor = 4500 * time.Millisecond

// farewells remember what was listed, to tell what has gone. The zero value
// remembers nothing.
type farewells struct {
	// mu guards the fields below.
	mu     sync.Mutex
	answer uint64 // number of the last that was begun
	listed map[string]*farewell
}

// farewell is a service that was listed, without its data.
type farewell struct {
	service service
	answer  uint64    // the last that listed it as live
	gone    time.Time // zero: not that we know
}

// begin returns the number of an answer. It is called before the answer collects
// what is live, so that of two at once the one that knows more is believed.
func (f *farewells) begin() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer++
	return f.answer
}

// to returns what has gone of all that earlier answers listed, for an answer
// that lists live.
func (f *farewells) to(live []service, answer uint64) []service {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listed == nil {
		f.listed = make(map[string]*farewell)
	}
	for i := range live {
		s := live[i]
		s.Data, s.Available = json.RawMessage("{}"), false
		l := f.listed[s.ID]
		if l == nil || l.answer < answer {
			f.listed[s.ID] = &farewell{service: s, answer: answer}
		}
	}
	var gone []service
	for id, l := range f.listed {
		switch {
		case l.answer >= answer:
		case l.gone.IsZero():
			l.gone = now
			gone = append(gone, l.service)
		case now.Sub(l.gone) < farewellFor:
			gone = append(gone, l.service)
		default:
			delete(f.listed, id)
		}
	}
	return gone
}
