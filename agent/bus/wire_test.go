package bus

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/test/bounds"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func exampleHead() head {
	return head{boot: "b7", last: 300, lamport: 1000, quiet: 2 * time.Second, items: []item{
		{seq: 299, lamport: 998, at: at.Add(-150 * time.Millisecond), name: "build.done", data: Data{JSON, []byte(`{"ok":true}`)}},
		{seq: 300, lamport: 1000, at: at, name: "tick"},
	}}
}

func exampleLetter() letter {
	return letter{request: true, from: "abcd", boot: "b7", number: 9, after: 300, patience: 10 * time.Second,
		item: item{lamport: 1001, at: at, name: "sum", data: Data{Msgpack, []byte{0x92, 2, 3}}}}
}

// The bytes that other versions of this program read and write.
func TestGoldenBytes(t *testing.T) {
	h, l := exampleHead(), exampleLetter()
	var b strings.Builder
	for _, msg := range [][]byte{h.append(nil, at), l.encode(at), Data{JSON, []byte("42")}.append(nil)} {
		b.WriteString(hex.EncodeToString(msg) + "\n")
	}
	want, err := os.ReadFile("testdata/messages.hex")
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("a head, a letter and a reply are\n%swant\n%s", b.String(), want)
	}
}

func TestMessagesComeBack(t *testing.T) {
	h := exampleHead()
	got, err := decodeHead(h.append(nil, at))
	if err != nil || len(got.items) != 2 || got.ages[0] != 150*time.Millisecond || got.ages[1] != 0 {
		t.Fatalf("decodeHead = %+v, %v", got, err)
	}
	got.ages = nil
	for i := range got.items {
		got.items[i].at = h.items[i].at
	}
	if !reflect.DeepEqual(got, h) {
		t.Errorf("decodeHead = %+v, want %+v", got, h)
	}
	l := exampleLetter()
	back, err := decodeLetter(l.encode(at))
	back.item.at = l.item.at
	if err != nil || !reflect.DeepEqual(back, l) {
		t.Errorf("decodeLetter = %+v, %v, want %+v", back, err, l)
	}
}

// A clock that is behind the newest event does not make all events before it old.
func TestAHeadIsNotQuietForEver(t *testing.T) {
	h := exampleHead()
	h.quiet = -5 * time.Millisecond
	if got, err := decodeHead(h.append(nil, at.Add(-time.Second))); err != nil || got.quiet != 0 || got.ages[1] != 0 {
		t.Errorf("decodeHead = quiet %v, ages %v, %v; want 0", got.quiet, got.ages, err)
	}
}

func TestMessagesThatAreNone(t *testing.T) {
	h, l := exampleHead(), exampleLetter()
	hb, lb := h.append(nil, at), l.encode(at)
	for n := range hb {
		if _, err := decodeHead(hb[:n]); !errors.Is(err, errForm) {
			t.Errorf("a head of %d bytes of %d = %v, want errForm", n, len(hb), err)
		}
	}
	for n := range lb {
		if _, err := decodeLetter(lb[:n]); !errors.Is(err, errForm) {
			t.Errorf("a letter of %d bytes of %d = %v, want errForm", n, len(lb), err)
		}
	}
	for name, change := range map[string]func(*head, *letter){
		"a head whose events do not end with its last": func(h *head, _ *letter) { h.last++ },
		"a head of no event":                           func(h *head, _ *letter) { h.last, h.items = 0, nil },
		"an event with a bad name":                     func(h *head, _ *letter) { h.items[0].name = "a b" },
		"an encoding that there is not":                func(h *head, _ *letter) { h.items[0].data.encoding = 3 },
		"bytes of no encoding":                         func(h *head, _ *letter) { h.items[0].data.encoding = None },
		"JSON that is none":                            func(h *head, _ *letter) { h.items[0].data.bytes = []byte("{\n") },
		"a letter that is one to all":                  func(_ *head, l *letter) { l.item.seq = 1 },
		"a letter without a number":                    func(_ *head, l *letter) { l.number = 0 },
		"too much data":                                func(_ *head, l *letter) { l.item.data.bytes = make([]byte, MaxDataBytes+1) },
	} {
		h, l := exampleHead(), exampleLetter()
		change(&h, &l)
		_, err1 := decodeHead(h.append(nil, at))
		_, err2 := decodeLetter(l.encode(at))
		if err1 == nil && err2 == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := decodeHead(append(hb, 0)); err == nil {
		t.Error("a head with a byte too many is taken")
	}
}

// FuzzMessages reads what other nodes send: no panic, no more memory than a multiple
// of what came, and what is taken is written as it was read.
func FuzzMessages(f *testing.F) {
	h, l := exampleHead(), exampleLetter()
	f.Add(h.append(nil, at))
	f.Add(l.encode(at))
	f.Add(append([]byte{4, 5}, h.append(nil, at)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		if h, err := decodeHead(b); err == nil {
			for i := range h.items {
				h.items[i].at = at.Add(-h.ages[i])
			}
			if again, err := decodeHead(h.append(nil, at)); err != nil || again.last != h.last || len(again.items) != len(h.items) {
				t.Errorf("%x is %+v, which comes back as %+v, %v", b, h, again, err)
			}
		}
		if l, err := decodeLetter(b); err == nil {
			l.item.at = at
			if again, err := decodeLetter(l.encode(at)); err != nil || again.number != l.number || !bytes.Equal(again.item.data.bytes, l.item.data.bytes) {
				t.Errorf("%x is %+v, which comes back as %+v, %v", b, l, again, err)
			}
		}
		newTestBus(t, "me").take(&stream{}, 0, 0, b)
	})
}

func TestTheWindowKnowsEachLetterOnce(t *testing.T) {
	var w window
	const size = 64 * windowWords
	for _, c := range []struct {
		n          uint64
		old, first bool
	}{
		{1, false, true}, {1, false, false}, {3, false, true}, {2, false, true}, {2, false, false},
		{size, false, true}, {64, false, true}, {63, true, false}, {3, true, false},
		{3 * size, false, true}, {3*size - 1, false, true}, {size, true, false},
		{2*size + 64, false, true}, {2*size + 64, false, false}, {3 * size, false, false},
		{1 << 60, false, true}, {3*size + 1, true, false}, {1<<60 - 1, false, true}, {1<<60 + 1, false, true},
	} {
		if got := w.old(c.n); got != c.old {
			t.Fatalf("old(%d) = %v with %d the highest, want %v", c.n, got, w.highest, c.old)
		}
		if c.old {
			continue
		}
		if got := w.first(c.n); got != c.first {
			t.Fatalf("first(%d) = %v with %d the highest, want %v", c.n, got, w.highest, c.first)
		}
	}
}
