package master

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/scagent/scagent/tasks/history"
)

// plan puts all that is to happen into the queue.
func (w *world) plan() {
	for i, t := range w.p.tasks {
		w.at(t.at, func() { w.submit(i) })
	}
	for _, c := range w.p.cancels {
		w.at(c.at, func() { w.cancel(c) })
	}
	for i, f := range w.p.faults {
		w.at(f.at, func() {
			over := w.begin(i, f)
			w.at(f.at+f.lasts, over)
		})
	}
}

// begin begins a fault and returns what ends it.
func (w *world) begin(i int, f fault) (over func()) {
	switch f.kind {
	case killMaster, stopMaster, diskLow, diskFull, diskFails:
		return w.beginMaster(i, f, w.masters[f.node])
	case killWorker, stopWorker, drainWorker, removeMember:
		return w.beginWorker(f, w.workers[f.node], w.masters[f.other])
	}
	return w.beginNet(i, f, w.workers[f.node], w.masters[f.other])
}

// window writes down a fault, which others than those of a kill are to be told by.
func (w *world) window(i int, f fault, peer, to string) (over func()) {
	e := history.Event{Name: history.Fault, What: history.What(fmt.Sprintf("%s %d", faultNames[f.kind], i)), Peer: peer, To: to}
	w.harness.Add(e)
	e.Name = history.FaultOver
	return func() { w.harness.Add(e) }
}

func (w *world) beginMaster(i int, f fault, s *simMaster) (over func()) {
	switch f.kind {
	case killMaster, stopMaster:
		s.holds++
		if s.m != nil && f.kind == killMaster {
			s.kill(f)
		} else if s.m != nil {
			s.stop()
		}
		return func() {
			s.holds--
			s.start()
		}
	}
	told := w.window(i, f, s.id, "")
	s.ill++
	switch f.kind {
	case diskLow:
		s.fs.SetFree(0)
	case diskFull:
		s.disk([]string{"write", "create", "rename"}, io.ErrShortWrite)
	case diskFails:
		s.disk([]string{"sync", "syncdir"}, errDisk)
	}
	return func() {
		s.ill--
		s.fs.SetFree(1 << 40)
		s.disk(nil, nil)
		if f.kind == diskFails && s.m != nil { // it takes nothing until it is started again
			s.stop()
		}
		s.start()
		told()
	}
}

func (w *world) beginWorker(f fault, s *simWorker, m *simMaster) (over func()) {
	switch f.kind {
	case killWorker, stopWorker:
		s.holds++
		if s.worker != nil && f.kind == killWorker {
			s.kill()
		} else if s.worker != nil {
			s.stop()
		}
		if f.r%2 == 0 {
			w.after(time.Duration(f.r%3000)*time.Millisecond, func() { // so long it takes to notice
				if s.worker == nil && m.m != nil {
					m.m.Remove(s.id)
				}
			})
		}
		return func() {
			s.holds--
			s.start()
		}
	case drainWorker:
		worker := s.worker
		if worker == nil {
			return func() {}
		}
		ctx, cancel := context.WithCancel(context.Background())
		s.drains = append(s.drains, cancel)
		w.clients.Go(func() { worker.Drain(ctx) })
		return func() {
			cancel()
			if s.worker == worker {
				worker.Resume()
			}
		}
	}
	if m.m != nil { // removeMember
		m.m.Remove(s.id)
	}
	return func() {
		if m.m != nil && s.worker != nil {
			m.m.Update(s.info())
		}
	}
}

func (w *world) beginNet(i int, f fault, s *simWorker, m *simMaster) (over func()) {
	told := w.window(i, f, s.id, m.id)
	switch f.kind {
	case cutLink:
		w.net.Cut(s.ip, m.ip)
	case cutFromMaster:
		w.net.CutOneWay(m.ip, s.ip)
	case cutFromWorker:
		w.net.CutOneWay(s.ip, m.ip)
	case silence:
		for _, m := range w.masters {
			w.net.Cut(s.ip, m.ip)
		}
	case resetLink:
		w.net.Reset(s.ip, m.ip)
	case slowNet:
		w.net.SetDelay(time.Duration(f.r % uint64(300*time.Millisecond)))
	}
	return func() {
		switch f.kind {
		case slowNet:
			w.net.SetDelay(w.p.delay)
		case silence:
			for _, m := range w.masters {
				w.net.Heal(s.ip, m.ip)
			}
		case resetLink:
		default:
			w.net.Heal(s.ip, m.ip)
		}
		told()
	}
}
