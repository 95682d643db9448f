package js

import (
	"container/list"
	"sync"
)

// cache keeps what Compile made of the sources used last. What does not compile
// is kept too: it costs as much to find out.
type cache struct {
	maxPrograms, maxBytes int // constant

	mu       sync.Mutex // guards the fields below; not held while compiling
	bySource map[string]*list.Element
	recent   list.List // of *cached, the one used last in front
	bytes    int       // of all sources in recent
}

type cached struct {
	source  string
	compile func() (*Program, error) // compiles once, whoever asks
}

func newCache(maxPrograms, maxBytes int) *cache {
	return &cache{maxPrograms: maxPrograms, maxBytes: maxBytes, bySource: make(map[string]*list.Element)}
}

// get compiles the source, unless that was done before. Of several callers at
// once one compiles and the others wait.
func (c *cache) get(source string) (*Program, error) { return c.entry(source).compile() }

func (c *cache) entry(source string) *cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.bySource[source]; e != nil {
		c.recent.MoveToFront(e)
		return e.Value.(*cached)
	}
	p := &cached{source: source, compile: sync.OnceValues(func() (*Program, error) { return Compile(source) })}
	c.bySource[source] = c.recent.PushFront(p)
	c.bytes += len(source)
	for c.recent.Len() > c.maxPrograms || c.bytes > c.maxBytes {
		last := c.recent.Remove(c.recent.Back()).(*cached)
		delete(c.bySource, last.source)
		c.bytes -= len(last.source)
	}
	return p
}
