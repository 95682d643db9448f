//go:build linux

package process

import (
	"errors"
	"io"
	"log"
)

// Ways are the nets that tests choose between. Programs run as the test itself,
// but in "groups".
var Ways = []string{"brands", "groups", "cgroups"}

// OpenWay opens one of Ways for programs that run as u, or says why it cannot be
// had.
func OpenWay(way, dir string, u *User) (*Nets, error) {
	n := &Nets{brood: Brood{Dir: dir}}
	var err error
	switch way {
	case "cgroups":
		if n.cgroups, err = openCgroups(); err == nil {
			n.brood.Cgroup = n.cgroups.dir
		}
		return n, err
	case "groups":
		if u == nil {
			return nil, errors.New("groups are for other users")
		}
		n.brands, err = openGroupBrands(dir, u)
	case "brands":
		if err = mayLimit(u); err == nil {
			n.brands, err = openBrands(dir, u)
		}
	}
	if err == nil {
		err = n.openGroups()
	}
	return n, err
}

// OpenAny opens the nets that agents have where there are no cgroups.
func OpenAny(b Brood, u *User) (*Nets, error) {
	n := &Nets{brood: b}
	return n, n.openWithout(u, log.New(io.Discard, "", 0))
}

// OpenProc opens what is kept open once all processes have been looked at.
func OpenProc() { procDir() }
