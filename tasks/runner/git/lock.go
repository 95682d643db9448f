package git

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/scagent/scagent/tasks"
)

// lockPoll is how often a mirror that another agent updates is looked at: a wait
// for the lock of a file cannot be given up.
const lockPoll = 50 * time.Millisecond

// lock waits until nobody else, in this agent or another, updates the mirror.
func (j *job) lock(m *mirror) (unlock func(), err error) {
	select {
	case m.lock <- struct{}{}:
	case <-j.ctx.Done():
		return nil, context.Cause(j.ctx)
	case <-j.a.Kill:
		return nil, errKilled
	}
	defer func() {
		if err != nil {
			<-m.lock
		}
	}()
	f, err := os.OpenFile(m.lockPath, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		locked, err := tryLock(f)
		switch {
		case err != nil:
			return nil, &failure{tasks.Internal, fmt.Sprintf("lock %s: %v", m.lockPath, err)}
		case locked:
			return func() {
				unlockFile(f) // a process that is just being started may have it open too
				f.Close()
				<-m.lock
			}, nil
		}
		select {
		case <-tick.C:
		case <-j.ctx.Done():
			return nil, context.Cause(j.ctx)
		case <-j.a.Kill:
			return nil, errKilled
		}
	}
}

// errKilled ends an attempt that must end at once.
var errKilled error = &failure{tasks.Cancelled, (&tasks.StopError{Reason: tasks.StopKill}).Error()}
