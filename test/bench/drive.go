package main

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// inFlight makes o.N calls from o.InFlight goroutines.
func inFlight(o order, call func() error) (figures, error) {
	var left atomic.Int64
	left.Store(int64(o.N))
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	start := time.Now()
	for range o.InFlight {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return figures{}, *err
	}
	return figures{PerSecond: float64(o.N) / time.Since(start).Seconds()}, nil
}

// latency makes o.N calls, one after the other, after some to warm up.
func latency(o order, call func() error) (figures, error) {
	took := make([]time.Duration, o.N)
	for i := range o.N + o.N/10 {
		start := time.Now()
		if err := call(); err != nil {
			return figures{}, err
		}
		if i >= o.N/10 {
			took[i-o.N/10] = time.Since(start)
		}
	}
	slices.Sort(took)
	us := func(d time.Duration) float64 { return float64(d) / 1e3 }
	return figures{P50: us(took[o.N/2]), P99: us(took[o.N*99/100])}, nil
}
