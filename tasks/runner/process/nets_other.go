//go:build unix && !linux

package process

import (
	"errors"
	"syscall"
	"time"
)

// What only linux has.

type cgroups struct{ dir string }

func openCgroups() (*cgroups, error) { return nil, errors.New("cgroups: only linux has them") }
func (c *cgroups) acquire() *cgroup  { return nil }
func (c *cgroups) close() error      { return nil }

type cgroup struct{}

func (g *cgroup) use(*syscall.SysProcAttr) {}
func (g *cgroup) kill()                    {}
func (g *cgroup) removed() bool            { return false }
func (g *cgroup) release()                 {}

type brands struct{}

func openBrands(string, *User) (*brands, error) {
	return nil, errors.New("brands: only linux has them")
}
func (b *brands) acquire() brand { return brand{} }
func (b *brands) release(brand)  {}

type brand struct{}

func (brand) use(*syscall.SysProcAttr) {}

// sought would say which processes are looked for, but the environment and the
// limits of another process cannot be read here.
type sought struct{}

func seek([]string, brand) sought                 { return sought{} }
func (b *Brood) seek() sought                     { return sought{} }
func (sought) kill(func(sought) []int)            {}
func everyone(sought) []int                       { return nil }
func newcomers(int, time.Time) func(sought) []int { return nil }

// Unbrand does nothing here.
func Unbrand() {}

// Kill kills the process groups of the brood: what has left them cannot be found.
func (b *Brood) Kill() { killGroups(b.Groups) }
