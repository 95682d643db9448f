package tracker

import (
	"testing"
	"time"
	"unsafe"
)

// setBack returns t as it is read of a host whose clock was set back by d: the
// monotonic clock, which t has too, goes on.
func setBack(t time.Time, d time.Duration) time.Time {
	fields := (*struct { // of time.Time
		wall uint64 // seconds since 1885 from bit 30 on
		ext  int64  // monotonic
		loc  *time.Location
	})(unsafe.Pointer(&t))
	fields.wall -= uint64(d/time.Second) << 30
	return t
}

func TestHostsExpireAlthoughTheClockIsSetBack(t *testing.T) {
	var hosts table
	if _, err := hosts.add(hostEntry(Host{Addr: "10.0.0.1", Port: 1, Roles: []string{Worker}})); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	now := setBack(before.Add(TTL), time.Hour)
	if now.Sub(before) != TTL || now.Round(0).Sub(before.Round(0)) != TTL-time.Hour {
		t.Fatalf("the clock was not set back: %v, then %v", before, now)
	}
	hosts.expireLocked(now)
	if n := len(hosts.byKey); n != 0 {
		t.Errorf("%d hosts are listed after %v, want none", n, TTL)
	}
}
