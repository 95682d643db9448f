package verify

import (
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

func (w *world) fault(t int64, what history.What, peer, to string) {
	w.at(t, harness, history.Event{Name: history.Fault, What: what, Peer: peer, To: to})
}

func (w *world) over(t int64, what history.What, peer, to string) {
	w.at(t, harness, history.Event{Name: history.FaultOver, What: what, Peer: peer, To: to})
}

// idle makes all slots free at t.
func (w *world) idle(t int64) {
	for n := range w.free {
		for s := range w.free[n] {
			w.free[n][s] = t
		}
	}
}

// workerKilled: w2 dies a second later, with one task that runs again, and one that
// is lost.
func (w *world) workerKilled(t int64) {
	w.idle(t)
	again, once := w.flow(m1, t), w.flow(m2, t)
	once.once = true
	for _, f := range []*flow{again, once} {
		f.submit()
		f.offer(w2)
		f.begin()
	}
	w.fault(t+second, history.Kill, w2, "")
	w.torn = append(w.torn, w2)
	for _, f := range []*flow{again, once} {
		f.t = t + second
		f.says(history.LeaseLost, history.Event{What: history.ByOwner})
	}
	again.whole(w1, tasks.StateDone, "")
	once.end(tasks.StateLost, "none", "lost")
	w.at(t+second+300*ms, m1, history.Event{Name: history.MemberDown, Peer: w2, What: history.MemberFailed})
	w.start(t+2*second, w2)
}

// masterKilled: m1 dies a second later and is back after another. One task that runs
// goes on, one whose result it did not get is told again, one goes with it.
func (w *world) masterKilled(t int64) {
	w.idle(t)
	runs, ends, goes := w.flow(m1, t), w.flow(m1, t), w.flow(m1, t)
	goes.eph = true
	runs.submit()
	runs.offer(w1)
	runs.begin()
	ends.submit()
	ends.offer(w2)
	ends.begin()
	goes.submit()
	goes.offer(w3)
	goes.begin()
	w.fault(t+second, history.Kill, m1, "")
	ends.t = t + second + 200*ms
	ends.finish(ends.hash())
	w.start(t+2*second, m1)
	for _, f := range []*flow{runs, ends} {
		f.t = t + 2*second + 50*ms
		f.says(history.Reattached, history.Event{})
	}
	ends.result(ends.hash(), "")
	ends.end(tasks.StateDone, ends.hash(), "")
	ends.ack()
	runs.pass(second)
	runs.finish(runs.hash())
	runs.result(runs.hash(), "")
	runs.end(tasks.StateDone, runs.hash(), "")
	runs.ack()
	goes.t = t + 2*second + 50*ms
	goes.says(history.Revoked, history.Event{Why: "superfluous"})
	goes.finish(goes.hash())
}

// cutOff: m1 and w3 are cut apart for nine seconds. One task runs twice, and its first
// result comes late; of another the late result is the one that counts.
func (w *world) cutOff(t int64) {
	w.idle(t)
	twice, late := w.flow(m1, t), w.flow(m1, t)
	for _, f := range []*flow{twice, late} {
		f.submit()
		f.offer(w3)
		f.begin()
	}
	first, good := *twice, *late // as w3 sees them
	w.fault(t+second, history.Cut, m1, w3)
	for _, f := range []*flow{twice, late} {
		f.t = t + 4*second
		f.says(history.LeaseLost, history.Event{What: history.ByOwner})
	}
	twice.whole(w1, tasks.StateDone, "")
	good.t = t + 5*second
	good.finish(good.hash())
	first.t = t + 8*second
	first.finish(first.hash())
	late.t = t + 9*second
	late.offer(w2)
	late.begin()
	w.over(t+10*second, history.Cut, m1, w3)
	first.t = t + 10*second + 50*ms
	first.result(first.hash(), "")
	first.ack()
	good.t = t + 10*second + 50*ms
	good.result(good.hash(), "")
	good.end(tasks.StateDone, good.hash(), "")
	good.ack()
	late.t = good.t
	late.says(history.Revoked, history.Event{Why: "superfluous"})
	late.finish(late.hash())
	late.result(late.hash(), "cancelled")
	late.ack()
}

// paused: w1 stands still for four seconds, and is reported as failed.
func (w *world) paused(t int64) {
	w.fault(t, history.Pause, w1, "")
	w.at(t+3*second, m1, history.Event{Name: history.MemberDown, Peer: w1, What: history.MemberFailed})
	w.over(t+4*second, history.Pause, w1, "")
	w.at(t+4*second+200*ms, m1, history.Event{Name: history.MemberUp, Peer: w1})
}

// feed is a client that reads, comes back, and once comes back too late.
func (w *world) feed() {
	t := 70 * second
	for _, e := range []struct {
		seq uint64
		why string
	}{{7, ""}, {8, ""}, {9, ""}, {10, ""}, {400, history.WhyMissed}, {401, ""}} {
		t += 10 * ms
		w.at(t, m1, history.Event{Name: history.Deliver, Client: "c1", Seq: e.seq, Why: e.why})
		w.at(t, m1, history.Event{Name: history.Deliver, Client: "c2", Seq: e.seq * 3, Why: history.WhyMissed})
	}
	w.at(95*second+ms, m2, history.Event{Name: history.MemberDown, Peer: w2, What: history.MemberLeft})
}
