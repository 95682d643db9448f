//go:build !linux

package process

import "errors"

// Cgroups is a pool of cgroups for processes to run in. There are none here.
type Cgroups struct{}

// OpenCgroups returns an error: cgroups are linux's.
func OpenCgroups() (*Cgroups, error) { return nil, errors.New("cgroups: only linux has them") }

// Dir returns an empty string.
func (c *Cgroups) Dir() string { return "" }

// Close does nothing.
func (c *Cgroups) Close() error { return nil }
