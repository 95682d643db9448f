package port

import (
	"os"
	"strconv"
	"strings"
)

// Flags of linux/route.h.
const (
	routeUp     = 0x1
	routeReject = 0x200
)

// defaultRoutes returns those of the main table.
func defaultRoutes() []route {
	ipv4, _ := os.ReadFile("/proc/net/route") // a system without the family has no such file
	ipv6, _ := os.ReadFile("/proc/net/ipv6_route")
	return append(parseRoutes4(string(ipv4)), parseRoutes6(string(ipv6))...)
}

// parseRoutes4 finds the default routes in the text of /proc/net/route: a line
// of titles, then for each route
//
//	Iface Destination Gateway Flags RefCnt Use Metric Mask ...
//
// where the metric is decimal and addresses and flags are hexadecimal.
func parseRoutes4(text string) []route {
	var routes []route
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		flags, err := strconv.ParseUint(f[3], 16, 32)
		metric, err2 := strconv.ParseUint(f[6], 10, 32)
		if err == nil && err2 == nil && usable(flags) {
			routes = append(routes, route{iface: f[0], metric: metric})
		}
	}
	return routes
}

// parseRoutes6 does so for /proc/net/ipv6_route, which has no titles and all in
// hexadecimal:
//
//	destination its-prefix source its-prefix next-hop metric refcnt use flags iface
func parseRoutes6(text string) []route {
	var routes []route
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 10 || f[0] != strings.Repeat("0", 32) || f[1] != "00" {
			continue
		}
		metric, err := strconv.ParseUint(f[5], 16, 32)
		flags, err2 := strconv.ParseUint(f[8], 16, 32)
		if err == nil && err2 == nil && usable(flags) {
			routes = append(routes, route{iface: f[9], ipv6: true, metric: metric})
		}
	}
	return routes
}

func usable(flags uint64) bool { return flags&routeUp != 0 && flags&routeReject == 0 }
