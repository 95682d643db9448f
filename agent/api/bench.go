package api

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/scagent/scagent/tasks/query"
)

// The groups of figures that a bench measures, in this order.
const (
	BenchLatency    = "latency"    // noop_latency_p50 and noop_latency_p99
	BenchThroughput = "throughput" // noop_throughput
	BenchCommand    = "command"    // command_throughput
	BenchPayload    = "payload"    // payload_in and payload_out
	BenchFanout     = "fanout"     // fanout_p50
)

// BenchGroups are all groups.
var BenchGroups = []string{BenchLatency, BenchThroughput, BenchCommand, BenchPayload, BenchFanout}

// Bounds and defaults of a BenchRequest.
const (
	MaxBenchN             = 1_000_000
	MaxBenchInflight      = 100_000
	MaxBenchSize          = 16 << 30
	DefaultBenchInflight  = 1000
	DefaultBenchSizeBytes = 64 << 20
)

// BenchRequest is the body of POST /v1/bench. What is absent or 0 has its default.
type BenchRequest struct {
	Only []string `json:"only,omitempty"` // groups; none: all
	// N is the tasks a figure of functions and commands is taken from, and the runs
	// of a fan-out. Default: as many as fit into a second or two.
	N        int    `json:"n,omitempty"`
	Inflight int    `json:"inflight,omitempty"` // tasks under way at once for a throughput; default: 1000
	Size     int64  `json:"size,omitempty"`     // bytes of a payload; default: 64 MiB
	Where    string `json:"where,omitempty"`    // only workers that match, see package query; default: all
}

// Figure is what a bench measured.
type Figure struct {
	Metric string  `json:"metric"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"` // us, ms, tasks/s or MB/s, which are 1,000,000 bytes
	N      int     `json:"n"`    // tasks, transfers or runs that it was taken from
}

// BenchLine is a line of what answers POST /v1/bench: a figure or, as the last line,
// why there are no more.
type BenchLine struct {
	*Figure
	Error *Error `json:"error,omitempty"`
}

// Check reports what of the request cannot be measured.
func (r *BenchRequest) Check() error {
	for _, o := range r.Only {
		if !slices.Contains(BenchGroups, o) {
			return badRequest("only has %.80q; want some of %s", o, strings.Join(BenchGroups, ", "))
		}
	}
	switch {
	case r.N < 0 || r.N > MaxBenchN:
		return badRequest("n is %d; want 1 to %d, or 0 for as many as fit into a second or two", r.N, MaxBenchN)
	case r.Inflight < 0 || r.Inflight > MaxBenchInflight:
		return badRequest("inflight is %d; want 1 to %d, or 0 for %d", r.Inflight, MaxBenchInflight, DefaultBenchInflight)
	case r.Size < 0 || r.Size > MaxBenchSize:
		return badRequest("size is %d; want 1 to %d bytes, or 0 for %d", r.Size, int64(MaxBenchSize), DefaultBenchSizeBytes)
	}
	if r.Where != "" {
		if _, err := query.Compile(r.Where); err != nil {
			return badRequest("where: %v", err)
		}
	}
	return nil
}

// bench answers with figures as they are measured. It ends when the client is gone.
func (h *handler) bench(w http.ResponseWriter, r *http.Request) error {
	var req BenchRequest
	if err := h.decode(w, r, maxSmallBody, &req); err != nil {
		return err
	}
	rc, e, begun := http.NewResponseController(w), encoder(w), false
	rc.SetWriteDeadline(time.Time{}) // where there is one: a figure takes its time
	err := h.b.Bench(r.Context(), req, func(f Figure) error {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		if err := e.Encode(BenchLine{Figure: &f}); err != nil {
			return err
		}
		return rc.Flush()
	})
	if err == nil || !begun {
		return err
	}
	if r.Context().Err() == nil {
		e.Encode(BenchLine{Error: ErrorOf(err)}) // an error is that the client is gone
	}
	return nil
}
