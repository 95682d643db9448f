package js

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func mustGet(t *testing.T, c *cache, source string) *Program {
	t.Helper()
	p, err := c.get(source)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProgramIsCompiledOnce(t *testing.T) {
	c := newCache(10, 1000)
	var mu sync.Mutex
	seen := make(map[*Program]bool)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			p, err := c.get("1+1")
			mu.Lock()
			defer mu.Unlock()
			if seen[p] = true; err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(seen) != 1 {
		t.Errorf("%d programs of one source", len(seen))
	}
	_, first := c.get("1+")
	if _, again := c.get("1+"); first == nil || first != again {
		t.Errorf("compiled twice: %v, %v", first, again)
	}
}

func TestCacheKeepsWhatWasUsedLast(t *testing.T) {
	c := newCache(2, 1000)
	a, b := mustGet(t, c, "1"), mustGet(t, c, "2")
	if mustGet(t, c, "1") != a {
		t.Error("1 was compiled again")
	}
	mustGet(t, c, "3") // for 2, which was used before 1
	if mustGet(t, c, "1") != a || mustGet(t, c, "2") == b {
		t.Error("what was used last is gone, or what was used first is there")
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(5, 100)
	for i := range 50 {
		mustGet(t, c, fmt.Sprint(i))
		mustGet(t, c, fmt.Sprint(i)+strings.Repeat(" ", i))
	}
	sum := 0
	for e := c.recent.Front(); e != nil; e = e.Next() {
		sum += len(e.Value.(*cached).source)
	}
	if c.recent.Len() > 5 || c.recent.Len() != len(c.bySource) || sum > 100 || sum != c.bytes {
		t.Errorf("%d programs, %d by source, %d bytes, counted as %d", c.recent.Len(), len(c.bySource), sum, c.bytes)
	}
	if mustGet(t, c, "0"+strings.Repeat(" ", 1000)); c.bytes != 0 || len(c.bySource) != 0 {
		t.Errorf("a source larger than the cache left %d bytes of others", c.bytes)
	}
}
