package history

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func openTest(t testing.TB, path, boot string) *Log {
	t.Helper()
	l, err := Open(path, quiet(), Event{Node: "n1", Boot: boot, Slots: 2})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// readAll returns the events of a history and how many lines were torn.
func readAll(r io.Reader) (es []Event, torn int, err error) {
	h := NewReader(r)
	for {
		var e Event
		switch err := h.Next(&e); err {
		case nil:
			es = append(es, e)
		case io.EOF:
			return es, h.Torn(), nil
		default:
			return es, h.Torn(), err
		}
	}
}

func TestWhatIsAddedIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h.jsonl")
	task := tasks.ID{1, 2, 3}
	added := []Event{
		{Name: Submitted, Task: task, Run: tasks.ID{9}, Kind: tasks.Command, AtMostOnce: true, Key: "k", Hash: "h", Spec: "s", Worker: "w"},
		{Name: Offered, Task: task, N: 7, Worker: "w"},
		{Name: Recovered, Tasks: []tasks.ID{task, {4}}},
		{Name: Ended, Task: task, State: tasks.StateDone, Hash: "x", N: 7, Why: `"<&>\n` + "\n"},
		{Name: Deliver, Client: "c", Seq: 1 << 60},
	}
	l := openTest(t, path, "b1")
	for _, e := range added {
		l.Add(e)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.Add(Event{Name: Offered}) // too late, and told so by Add's comment
	if err := l.Close(); err != nil {
		t.Errorf("the second Close = %v, want nil", err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, torn, err := readAll(f)
	if err != nil || torn != 0 || len(got) != len(added)+2 {
		t.Fatalf("read %d events, %d torn, %v; want %d events", len(got), torn, err, len(added)+2)
	}
	if got[0].Name != Booted || got[0].Slots != 2 || got[0].Host != hostID() || got[len(got)-1].Name != Stopped {
		t.Errorf("the first event is %+v, the last %+v", got[0], got[len(got)-1])
	}
	for i, want := range added {
		g := got[i+1]
		if g.Mono < got[i].Mono || g.Wall == 0 || g.Node != "n1" || g.Boot != "b1" {
			t.Errorf("event %d has the stamp %d after %d, wall %d, node %q, boot %q", i, g.Mono, got[i].Mono, g.Wall, g.Node, g.Boot)
		}
		g.Mono, g.Wall, g.Node, g.Boot = 0, 0, "", ""
		if !reflect.DeepEqual(g, want) {
			t.Errorf("event %d came back as %+v, want %+v", i, g, want)
		}
	}
}

// Two processes of a host must be able to order their events.
func TestStampsOfTwoLogsOfOneHostAreOfOneClock(t *testing.T) {
	dir := t.TempDir()
	a, b := openTest(t, filepath.Join(dir, "a"), "b1"), openTest(t, filepath.Join(dir, "b"), "b2")
	for range 100 {
		a.Add(Event{Name: Offered})
		b.Add(Event{Name: Started})
	}
	a.Close()
	b.Close()
	var last int64
	ra, rb := mustRead(t, filepath.Join(dir, "a")), mustRead(t, filepath.Join(dir, "b"))
	for i := 1; i <= 100; i++ {
		// The clocks are joined to within a microsecond.
		if ra[i].Mono < last-int64(time.Microsecond) || rb[i].Mono < ra[i].Mono-int64(time.Microsecond) {
			t.Fatalf("pair %d has the stamps %d and %d after %d", i, ra[i].Mono, rb[i].Mono, last)
		}
		last = rb[i].Mono
	}
}

func mustRead(t *testing.T, path string) []Event {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	es, _, err := readAll(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return es
}

func TestTornLines(t *testing.T) {
	good := func(n Name) string { return `{"mono":1,"wall":1,"node":"n","boot":"b","ev":"` + string(n) + "\"}\n" }
	for name, c := range map[string]struct {
		in     string
		events int
		torn   int
		bad    bool
	}{
		"empty":                         {"", 0, 0, false},
		"at the end":                    {good(Booted) + `{"mono":1,"wal`, 1, 1, false},
		"whole without the line's end":  {good(Booted) + strings.TrimSpace(good(Offered)), 2, 0, false},
		"before a start":                {good(Booted) + `{"mono":1,"wal` + "\n" + good(Booted), 2, 1, false},
		"two starts cut":                {good(Booted) + "{\"m\n" + good(Booted) + "{", 2, 2, false},
		"of another kind":               {good(Booted) + "maaa 1 2 start", 1, 0, true},
		"before something else":         {good(Booted) + "{\"m\n" + good(Offered), 1, 0, true},
		"two before a start":            {good(Booted) + "{\"m\n{\"n\n" + good(Booted), 1, 0, true},
		"of an event that is not known": {good("dreamt") + good(Offered), 0, 0, true},
		"of nobody":                     {`{"ev":"offered"}` + "\n" + good(Offered), 0, 0, true},
		"too long":                      {good(Booted) + strings.Repeat("x", MaxLineBytes+1), 1, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			es, torn, err := readAll(strings.NewReader(c.in))
			if len(es) != c.events || torn != c.torn || errors.Is(err, ErrDamaged) != c.bad || (err != nil) != c.bad {
				t.Errorf("read %d events, %d torn, %v; want %d, %d, damaged %v", len(es), torn, err, c.events, c.torn, c.bad)
			}
		})
	}
}

// A kill in the middle of a write must not spoil the first line of the next start.
func TestOpenEndsALineThatWasTorn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h.jsonl")
	openTest(t, path, "b1").Close()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"mono":12`)
	f.Close()
	openTest(t, path, "b2").Close()
	b, _ := os.ReadFile(path)
	es, torn, err := readAll(bytes.NewReader(b))
	if len(es) != 4 || torn != 1 || err != nil {
		t.Errorf("read %d events, %d torn, %v; want 4 and 1", len(es), torn, err)
	}
}

// disk fails or hangs as told.
type disk struct {
	mu   sync.Mutex
	fail int           // so many writes fail, after half of it
	hold chan struct{} // nil, or what writes wait for
	got  bytes.Buffer
}

func (d *disk) Write(p []byte) (int, error) {
	if d.hold != nil {
		<-d.hold
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail > 0 {
		d.fail--
		n, _ := d.got.Write(p[:len(p)/2])
		return n, errors.New("no space left on device")
	}
	return d.got.Write(p)
}

func TestNothingIsLostWhenWritesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{fail: 5}
		l := New(d, Event{Node: "n", Boot: "b"})
		for range 100 {
			l.Add(Event{Name: Offered})
		}
		time.Sleep(time.Second)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if es, torn, err := readAll(&d.got); len(es) != 102 || torn != 0 || err != nil {
			t.Errorf("read %d events, %d torn, %v; want 102 whole ones", len(es), torn, err)
		}
	})
}

func TestCloseSaysThatEventsWereNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(&disk{fail: 1 << 30}, Event{Node: "n", Boot: "b"})
		l.Add(Event{Name: Offered})
		if err := l.Close(); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("Close = %v, want why the disk failed", err)
		}
	})
}

// A slow disk holds nobody up until MaxPending events wait, and then everybody.
func TestAddWaitsWhenTheDiskIsTooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{hold: make(chan struct{})}
		l := New(d, Event{Node: "n", Boot: "b"})
		synctest.Wait() // booted is being written
		for range MaxPending {
			l.Add(Event{Name: Offered})
		}
		added := false
		go func() { l.Add(Event{Name: Ended}); added = true }()
		synctest.Wait()
		if added {
			t.Errorf("Add returned with %d events that wait", MaxPending)
		}
		close(d.hold)
		synctest.Wait()
		if !added {
			t.Error("Add waits though there is room")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if es, _, err := readAll(&d.got); len(es) != MaxPending+3 || err != nil {
			t.Errorf("read %d events, %v; want %d", len(es), err, MaxPending+3)
		}
	})
}

func TestNilLogCostsNothing(t *testing.T) {
	var l *Log
	if n := testing.AllocsPerRun(100, func() { addOne(l) }); n != 0 {
		t.Errorf("Add to no log allocates %v times", n)
	}
	if l.On() || l.Close() != nil {
		t.Error("no log is on, or cannot be closed")
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	if l, err := Open(t.TempDir(), quiet(), Event{Node: "n", Boot: "b"}); err == nil {
		l.Close()
		t.Error("a directory was opened as a history")
	}
}

var benchTask = tasks.ID{1, 2, 3}

func addOne(l *Log) {
	l.Add(Event{Name: Offered, Task: benchTask, N: 3, Worker: "mfrggzdfmztwq2lkmfrggzdfmztwq2lkmfrggzdfmztwq2lkabcd"})
}

func BenchmarkAdd(b *testing.B) {
	b.Run("off", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			addOne(nil)
		}
	})
	b.Run("on", func(b *testing.B) {
		l := openTest(b, filepath.Join(b.TempDir(), "h"), "b")
		b.ReportAllocs()
		for b.Loop() {
			addOne(l)
		}
		b.StopTimer()
		l.Close()
	})
}

func BenchmarkRead(b *testing.B) {
	d := &disk{}
	l := New(d, Event{Node: "mfrggzdfmztwq2lkmfrggzdfmztwq2lkmfrggzdfmztwq2lkabcd", Boot: "abcdefgh"})
	const n = 10_000
	for range n {
		addOne(l)
	}
	l.Close()
	b.SetBytes(int64(d.got.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if es, _, err := readAll(bytes.NewReader(d.got.Bytes())); err != nil || len(es) != n+2 {
			b.Fatal(fmt.Sprint(len(es), err))
		}
	}
}
