package beacon_test

import (
	"log"
	"strings"
	"sync"
)

// testLog keeps what is logged.
type testLog struct {
	*log.Logger
	mu   sync.Mutex
	text strings.Builder
}

func newLog() *testLog {
	l := &testLog{}
	l.Logger = log.New(l, "", 0)
	return l
}

func (l *testLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
