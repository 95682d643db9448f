package api_test

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/api/apitest"
	"github.com/scagent/scagent/tasks"
)

// archive is a backend with many tasks.
type archive struct {
	*apitest.Backend
	ids   []tasks.ID
	asked int
	most  int // that were listed at once
}

func (a *archive) Tasks(after tasks.ID, states []tasks.State, limit int) (rs []tasks.Result) {
	a.asked++
	for _, id := range a.ids {
		if string(id[:]) > string(after[:]) && len(rs) < limit {
			rs = append(rs, tasks.Result{ID: id})
		}
	}
	a.most = max(a.most, len(rs))
	return rs
}

func TestTheNewestOfManyTasks(t *testing.T) {
	at := func(ago time.Duration, n uint32) tasks.ID {
		id := tasks.ID{0xff, 0, 7, 0, 1}
		for i, ms := 10, time.Now().Add(-ago).UnixMilli(); i >= 5; i, ms = i-1, ms>>8 {
			id[i] = byte(ms)
		}
		id[13], id[14], id[15] = byte(n>>16), byte(n>>8), byte(n)
		return id
	}
	b := apitest.New(t, run)
	for name, ago := range map[string]func(i int) time.Duration{
		"spread over a year":        func(i int) time.Duration { return time.Duration(20_000-i) * 30 * time.Minute },
		"an hour ago, in a second":  func(i int) time.Duration { return time.Hour + time.Duration(20_000-i)*50*time.Microsecond },
		"just now":                  func(i int) time.Duration { return time.Duration(20_000-i) * 100 * time.Microsecond },
		"by a clock that was ahead": func(i int) time.Duration { return -time.Hour - time.Duration(i)*time.Second },
	} {
		a := &archive{Backend: b}
		for i := range 20_000 {
			a.ids = append(a.ids, at(ago(i), uint32(i)))
		}
		for _, limit := range []int{1, 50, 777} {
			var list []api.TaskStatus
			after := a.ids[rand.IntN(10_000)]
			a.asked, a.most = 0, 0
			ask(t, api.NewHandler(a, api.Options{}), "GET", "/v1/tasks?newest=1&limit="+strconv.Itoa(limit)+"&after="+after.String(), "").into(&list)
			if len(list) != limit || list[0].ID != a.ids[20_000-limit] || list[limit-1].ID != a.ids[19_999] {
				t.Errorf("%s: %d tasks, want the last %d", name, len(list), limit)
			}
			if a.asked > 60 || a.most > limit+100 && name != "by a clock that was ahead" {
				t.Errorf("%s: asked %d times, and for up to %d tasks, to list %d", name, a.asked, a.most, limit)
			}
		}
	}
}
