//go:build !linux

package port

// defaultRoutes knows of none: AdvertiseAddr goes on to private addresses.
func defaultRoutes() []route { return nil }
