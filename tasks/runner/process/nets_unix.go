//go:build unix

package process

import (
	"errors"
	"log"
	"sync/atomic"
	"syscall"
)

// Nets hold the processes of an agent's tasks, each as well as this system lets
// it: in cgroups, else by brands, else by process groups and marks alone. A nil
// *Nets is the last.
type Nets struct {
	brood   Brood    // constant
	cgroups *cgroups // nil: none
	brands  *brands  // nil: none
	groups  *groups  // nil: there are cgroups

	used atomic.Bool // something was started
}

// OpenNets opens the nets of an agent, whose tasks run as u, or nil as the agent
// itself. Of the brood it needs Dir, which must exist, and Mark. Close closes them.
func OpenNets(b Brood, u *User, logger *log.Logger) (*Nets, error) {
	n := &Nets{brood: b}
	var err error
	if n.cgroups, err = openCgroups(); err == nil {
		n.brood.Cgroup = n.cgroups.dir
		return n, nil
	}
	logger.Printf("[DEBUG] process: tasks have no cgroups: err=%q", err)
	if err := n.openWithout(u, logger); err != nil {
		return nil, err
	}
	return n, nil
}

// openWithout opens the nets where there are no cgroups.
func (n *Nets) openWithout(u *User, logger *log.Logger) (err error) {
	if n.brands, err = openBrands(n.brood.Dir, u); err != nil {
		logger.Printf("[INFO] process: daemons of tasks that clear their environment are not found here: err=%q", err)
	}
	return n.openGroups()
}

func (n *Nets) openGroups() (err error) {
	if n.groups, err = openGroups(n.brood.Dir); err == nil {
		n.brood.Groups = n.groups.file
	}
	return err
}

// Brood names the processes that the nets hold.
func (n *Nets) Brood() Brood { return n.brood }

// Close kills what still runs in the nets. It is to be called when every Run has
// returned, and may be called twice.
func (n *Nets) Close() error {
	if n == nil {
		return nil
	}
	err := n.cgroups.close()
	if n.used.Load() {
		n.brood.seek().kill(everyone)
	}
	return errors.Join(err, n.groups.close())
}

// hold is what holds the processes of one program, beside its group. It belongs
// to the goroutine that called Run.
type hold struct {
	nets   *Nets   // nil: nothing but marks
	cgroup *cgroup // nil: none
	brand  brand
	group  int // place of the group among groups, from 1; 0: it is not there
}

func (n *Nets) acquire() hold {
	if n == nil {
		return hold{}
	}
	n.used.Store(true)
	return hold{nets: n, cgroup: n.cgroups.acquire(), brand: n.brands.acquire()}
}

// use makes a process start in the hold.
func (h *hold) use(attr *syscall.SysProcAttr) {
	h.cgroup.use(attr)
	h.brand.use(attr)
}

// lost reports whether there was a cgroup that someone else has removed. The hold
// does without it then.
func (h *hold) lost() bool {
	if !h.cgroup.removed() {
		return false
	}
	h.cgroup.release()
	h.cgroup = nil
	return true
}

// begun notes the group of the program that has started.
func (h *hold) begun(pid int) {
	if h.nets != nil {
		h.group = h.nets.groups.add(pid)
	}
}

// ended forgets the group. It is to be called before the number can be another's.
func (h *hold) ended() {
	if h.group != 0 {
		h.nets.groups.remove(h.group)
		h.group = 0
	}
}

// release gives the hold back. Without a cgroup nothing may run any more that was
// in it.
func (h *hold) release() {
	h.cgroup.release()
	if h.nets != nil {
		h.nets.brands.release(h.brand)
	}
}
