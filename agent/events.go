package agent

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/tasks"
)

// Event is what happens in the pool, as On and Events tell it: a member or a task of
// this agent that changed, or an event that came over the bus. Its Data is decoded
// with Data.Decode.
type Event = api.Event

// Reply is what a node replied to a request, or why it did not.
type Reply struct {
	ID, Name string
	// Err is why there is no reply: among others bus.ErrNoAnswer, bus.ErrBusy,
	// bus.ErrGone, a *bus.AnswerError with what the answering function returned, or one
	// that wraps context.DeadlineExceeded.
	Err error

	data bus.Data
}

// Decode decodes a reply into v, a pointer. Its error is Err if there is no reply.
func (r *Reply) Decode(v any) error {
	if r.Err != nil {
		return r.Err
	}
	return r.data.Decode(v)
}

// SendError says which nodes may not have got an event. Each has its Err.
type SendError struct{ Failed []Reply }

func (e *SendError) Error() string {
	f := e.Failed[0]
	text := fmt.Sprintf("%s: %v", f.Name, f.Err)
	if n := len(e.Failed); n > 1 {
		text += fmt.Sprintf(" (and %d others)", n-1)
	}
	return text
}

// Unwrap returns the error of each.
func (e *SendError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i := range e.Failed {
		errs[i] = e.Failed[i].Err
	}
	return errs
}

// Send sends an event to members: tasks.All is all of them, this node included, tasks.On
// those with these names or ids, tasks.Where those that match; Except takes some out. Roles
// do not matter unless the expression asks, as in `"master" in role`. data is anything
// that go-msgpack can encode, at most bus.MaxDataBytes of it, or nil.
//
// An event to all is on its way when Send returns. For others Send waits, at most
// bus.DefaultPatience if ctx has no deadline, and returns a *SendError if not all have
// it. docs/bus.md says what is promised.
func (a *Agent) Send(ctx context.Context, to tasks.Target, event string, data any) error {
	d, err := bus.Pack(data)
	if err != nil {
		return fmt.Errorf("send %s: %w", event, err)
	}
	s, err := a.send(ctx, to, event, d)
	if err == nil && len(s.failed) > 0 {
		err = &SendError{s.failed}
	}
	if err != nil {
		return fmt.Errorf("send %s: %w", event, err)
	}
	return nil
}

// Request sends an event to members, as Send does, and yields what each of them replies
// or why it does not, as that comes. It ends when that is known of all, with ctx at
// the latest; bus.DefaultPatience if that has no deadline. Who stops ranging over it
// waits for no others. See Answer.
func (a *Agent) Request(ctx context.Context, to tasks.Target, event string, data any) (iter.Seq[Reply], error) {
	d, err := bus.Pack(data)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", event, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	results, err := a.ask(ctx, to, event, d)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("request %s: %w", event, err)
	}
	return func(yield func(Reply) bool) {
		defer cancel()
		for r := range results {
			if !yield(replyOf(r)) {
				return
			}
		}
	}, nil
}

func replyOf(r bus.Result) Reply {
	return Reply{ID: r.Peer.ID, Name: r.Peer.Name, Err: r.Err, data: r.Data}
}

// sent says how many nodes have an event, or will, and which have not.
type sent struct {
	nodes  int
	failed []Reply
}

func (a *Agent) send(ctx context.Context, to tasks.Target, event string, d bus.Data) (sent, error) {
	peers, err := a.eventPeers(to, event)
	if err != nil {
		return sent{}, err
	}
	if to.All && len(to.Except) == 0 {
		return sent{nodes: len(peers)}, a.bus.SendAll(ctx, event, d)
	}
	results, err := a.bus.SendTo(ctx, peers, event, d)
	s := sent{nodes: len(peers)}
	for _, r := range results {
		if r.Err != nil {
			s.nodes--
			s.failed = append(s.failed, replyOf(r))
		}
	}
	return s, err
}

func (a *Agent) ask(ctx context.Context, to tasks.Target, event string, d bus.Data) (<-chan bus.Result, error) {
	peers, err := a.eventPeers(to, event)
	if err != nil {
		return nil, err
	}
	return a.bus.Request(ctx, peers, event, d)
}

// SendEvent is Send for the API.
func (a *Agent) SendEvent(ctx context.Context, r api.SendRequest) (api.Sent, error) {
	s, err := a.send(ctx, targetOf(&r), r.Event, r.Data)
	if err != nil {
		return api.Sent{}, err
	}
	answer := api.Sent{Sent: s.nodes}
	for i := range s.failed {
		answer.Failed = append(answer.Failed, apiReply(&s.failed[i]))
	}
	return answer, nil
}

// RequestEvent is Request for the API.
func (a *Agent) RequestEvent(ctx context.Context, r api.SendRequest, reply func(api.Reply) error) error {
	patience := time.Duration(r.TimeoutSeconds * float64(time.Second))
	if patience <= 0 {
		patience = bus.DefaultPatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	results, err := a.ask(ctx, targetOf(&r), r.Event, r.Data)
	if err != nil {
		return err
	}
	for result := range results {
		rep := replyOf(result)
		if err := reply(apiReply(&rep)); err != nil {
			return err
		}
	}
	return nil
}

func targetOf(r *api.SendRequest) tasks.Target {
	if r.Target == nil {
		return tasks.All()
	}
	return *r.Target
}

func apiReply(r *Reply) api.Reply {
	ar := api.Reply{ID: r.ID, Name: r.Name, Data: r.data}
	if r.Err != nil {
		ar.Error = r.Err.Error()
	}
	return ar
}

// Events yields events whose names match one of the patterns, see bus.Pattern, as they
// happen from now on, until ctx ends or the agent is closed; without patterns all. Who is
// slow loses the oldest and is told how many, by an event with Missed set.
func (a *Agent) Events(ctx context.Context, patterns ...string) (iter.Seq[Event], error) {
	sub, err := a.subscribe(patterns)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, sub.Close) // also of who never ranges over it
	return func(yield func(Event) bool) {
		defer stop()
		defer sub.Close()
		for {
			e, err := sub.Next(ctx)
			if err != nil || !yield(e) {
				return
			}
		}
	}, nil
}

// On calls f with each event whose name matches the pattern, one after the other, until
// stop is called or the agent is closed. Neither waits for f, which may call both. What a
// slow f misses is as with Events. It may be called before Start.
func (a *Agent) On(pattern string, f func(Event)) (stop func(), err error) {
	sub, err := a.subscribe([]string{pattern})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(a.ctx)
	go func() { // which Close does not wait for: f may have called it
		defer sub.Close()
		for {
			e, err := sub.Next(ctx)
			if err != nil || ctx.Err() != nil {
				return
			}
			f(e)
		}
	}()
	return cancel, nil
}

func (a *Agent) subscribe(patterns []string) (*api.Subscription, error) {
	ps := make([]bus.Pattern, len(patterns))
	for i, s := range patterns {
		var err error
		if ps[i], err = bus.ParsePattern(s); err != nil {
			return nil, err
		}
	}
	return a.feed.Subscribe(a.feed.Last(), ps...), nil
}

// answerer answers the requests that match its pattern.
type answerer struct {
	pattern bus.Pattern
	answer  func(context.Context, Event) (any, error)
}

// Answer has f answer the requests whose names match the pattern, until stop is called.
// Its value is the reply, as with Send; its error, or its panic, is told instead. ctx ends when
// nobody waits any more. Several calls go on at once. Of several answers that match
// one request the first that was set is asked. It may be called before Start.
func (a *Agent) Answer(pattern string, f func(context.Context, Event) (any, error)) (stop func(), err error) {
	p, err := bus.ParsePattern(pattern)
	if err != nil {
		return nil, err
	}
	an := &answerer{p, f}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answerers = append(a.answerers, an)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.answerers = slices.DeleteFunc(slices.Clone(a.answerers), func(x *answerer) bool { return x == an })
	}, nil
}

func (a *Agent) answererOf(event string) func(context.Context, Event) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, an := range a.answerers {
		if an.pattern.Match(event) {
			return an.answer
		}
	}
	return nil
}

// call calls an answering function.
func (a *Agent) call(ctx context.Context, f func(context.Context, Event) (any, error), e Event) (d bus.Data, err error) {
	defer func() {
		if r := recover(); r != nil {
			a.cfg.Logger.Printf("[ERR] agent: an answering function panicked: event=%s panic=%q stack=%q", e.Event, fmt.Sprint(r), debug.Stack())
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	v, err := f(ctx, e)
	if err != nil {
		return bus.Data{}, err
	}
	return bus.Pack(v)
}

// errNobody is the error of a target that is empty.
var errNobody = errors.New("nobody is named; want tasks.All, On or Where")
