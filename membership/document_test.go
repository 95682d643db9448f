package membership

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/scagent/scagent/test/bounds"
)

// incompressible returns a JSON string of about n bytes.
func incompressible(n int, seed uint64) json.RawMessage {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n/2)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return json.RawMessage(`"` + hex.EncodeToString(b) + `"`)
}

func TestDataSetWhileRunning(t *testing.T) {
	for _, c := range []struct {
		name string
		data json.RawMessage
	}{
		{"small, inside the metadata", json.RawMessage(`{"gpu":true}`)},
		{"null", json.RawMessage(`null`)},
		{"large, fetched from its owner", incompressible(100<<10, 1)},
		{"as large as allowed", incompressible(MaxDocumentBytes-100, 2)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				nodes := l.pool(8, nil)
				if err := nodes[3].SetDocument(Document{Data: c.data, Functions: []string{"f"}}); err != nil {
					t.Fatalf("SetDocument: %v", err)
				}
				took := within(t, 3*time.Second, "all have it", func() bool {
					return !slices.ContainsFunc(nodes, func(n *node) bool {
						m, _ := n.Member(testID(3))
						return !m.DocumentKnown || !bytes.Equal(m.Document.Data, c.data) || !slices.Equal(m.Document.Functions, []string{"f"})
					})
				})
				t.Logf("took %v", took)
			})
		})
	}
}

func TestManyLargeDocuments(t *testing.T) {
	const count = 16
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := make([]*node, count)
		for i := range nodes {
			nodes[i] = l.prepare(i, func(c *Config) {
				if i > 0 {
					c.Seeds = []string{testIP(0)}
				}
				// Half of them have equal documents, which are fetched once.
				c.Document.Data = incompressible(100<<10, uint64(i%8))
			})
		}
		for _, n := range nodes {
			n.start(t)
		}
		within(t, 3*time.Second, "all see all", func() bool { return allSee(nodes, count) })
		took := within(t, 2*time.Second, "all documents are known", func() bool {
			for _, n := range nodes {
				for _, m := range n.view.all() {
					if !m.DocumentKnown {
						return false
					}
				}
			}
			return true
		})
		t.Logf("documents complete %v after the members", took)
		if got := nodes[5].Stats().DocumentsFetched; got > 10 {
			t.Errorf("%d fetches for 8 different documents", got)
		}
	})
}

func TestDocumentTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		n := l.start(0, nil)
		err := n.SetDocument(Document{Data: incompressible(MaxDocumentBytes+10, 1)})
		if !errors.Is(err, ErrDocumentTooLarge) || !strings.Contains(err.Error(), "at most 262144") {
			t.Errorf("SetDocument = %v, want ErrDocumentTooLarge with the limit", err)
		}
		if err := n.SetDocument(Document{Facts: []byte("nope")}); err == nil {
			t.Error("SetDocument of what is no JSON = nil")
		}
		if d := n.Self().Document; d.Data != nil || d.Facts != nil {
			t.Errorf("document after a refused one = %v, want the old one", d)
		}
	})
}

// A document is unknown while its owner answers nonsense, and known soon after.
func TestUnknownDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		var (
			nodes []*node
			bad   atomic.Bool
			calls atomic.Int32
		)
		// Everybody fetches from here instead.
		web, packets, err := l.net.Host("10.0.200.1").Listen(t.Context(), "10.0.200.1:80")
		if err != nil {
			t.Fatal(err)
		}
		packets.Close()
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			if bad.Load() {
				w.Write(bytes.Repeat([]byte("x"), 2*MaxDocumentBytes))
				return
			}
			nodes[0].DocumentHandler().ServeHTTP(w, r)
		})}
		go server.Serve(web)
		t.Cleanup(func() { server.Close() })
		nodes = l.pool(3, func(i int, c *Config) {
			dial := c.Dial
			c.DialHTTP = func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, "", "10.0.200.1:80") }
		})

		bad.Store(true)
		want := incompressible(5000, 9)
		if err := nodes[0].SetDocument(Document{Data: want}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		m, _ := nodes[1].Member(testID(0))
		if m.DocumentKnown || m.Document.Data != nil {
			t.Errorf("a document that could not be fetched is known: %v", m.DocumentKnown)
		}
		if n := nodes[1].Stats().DocumentFetchErrors; n < 3 || n > 15 {
			t.Errorf("%d attempts in 10s, want a few, with back-off", n)
		}
		bad.Store(false)
		within(t, 31*time.Second, "it is fetched", func() bool {
			m, _ := nodes[1].Member(testID(0))
			return m.DocumentKnown && bytes.Equal(m.Document.Data, want)
		})

		bad.Store(true)
		if err := nodes[0].SetDocument(Document{Data: incompressible(5000, 10)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if err := nodes[0].Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		nodes[0].Close()
		time.Sleep(40 * time.Second)
		calls.Store(0)
		time.Sleep(5 * time.Minute)
		if n := calls.Load(); n != 0 {
			t.Errorf("%d questions long after the owner left", n)
		}
	})
}

func TestDocumentHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		n := l.prepare(0, func(c *Config) { c.Document.Data = []byte(`[1,"<&>"]`) })
		const encoded = `{"data":[1,"<&>"]}`
		path := documentPath + digestOf([]byte(encoded)).String()
		for _, c := range []struct {
			method, path string
			status       int
			body         string
		}{
			{"GET", path, 200, encoded},
			{"HEAD", path, 200, encoded},
			{"GET", path + "0", 404, ""},
			{"GET", documentPath, 404, ""},
			{"GET", "/", 404, ""},
			{"POST", path, 405, ""},
		} {
			w := httptest.NewRecorder()
			n.DocumentHandler().ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
			if w.Code != c.status || c.body != "" && w.Body.String() != c.body {
				t.Errorf("%s %s = %d %q, want %d %q", c.method, c.path, w.Code, w.Body, c.status, c.body)
			}
		}
	})
}

func TestBombInMetadata(t *testing.T) {
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, flate.BestCompression)
	w.Write(make([]byte, 300<<10))
	w.Close()
	if packed.Len() > memberlist.MetaMaxSize {
		t.Fatalf("the bomb is %d bytes, too large to send", packed.Len())
	}
	if _, err := inflate(packed.Bytes()); !errors.Is(err, ErrDocumentTooLarge) {
		t.Errorf("inflate = %v, want ErrDocumentTooLarge", err)
	}
}

func goldenMetas() map[string]*meta {
	doc := []byte(`{"data":{"gpu":true},"facts":{"os":"linux","cpus":8}}`)
	return map[string]*meta{
		"inside.hex": {available: true, roles: 0b011, slots: 8, busy: 3, name: "büro-7", version: "v0.1.0",
			inside: deflate(doc), digest: digestOf(doc)},
		"digest.hex": {roles: 0b110, slots: 300, busy: 0, name: "t", version: "",
			digest: digestOf(doc)},
	}
}

// The bytes of metadata must stay readable by those who run another version.
func TestMetadataGolden(t *testing.T) {
	for file, m := range goldenMetas() {
		name := "testdata/meta/" + file
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		golden, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeMeta(golden)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.available != m.available || got.roles != m.roles || got.slots != m.slots || got.busy != m.busy ||
			got.name != m.name || got.version != m.version || (got.inside == nil) != (m.inside == nil) {
			t.Errorf("%s: decoded %+v, want %+v", name, got, m)
		}
		if m.inside != nil {
			if doc, err := inflate(got.inside); err != nil || digestOf(doc) != m.digest {
				t.Errorf("%s: document %q, %v", name, doc, err)
			}
			m.inside = got.inside // another deflate may pack otherwise
		}
		if b := m.encode(); !bytes.Equal(b, golden) {
			t.Errorf("%s: encoded %x, want %x", name, b, golden)
		}
		later := append(slices.Clone(golden), "what a later version adds"...)
		if _, err := decodeMeta(later); err != nil {
			t.Errorf("%s with later fields: %v", name, err)
		}
		for n := range golden {
			if _, err := decodeMeta(golden[:n]); err == nil {
				t.Errorf("%s cut after %d bytes decodes", name, n)
			}
		}
	}
}

func TestMetadataAlwaysFits(t *testing.T) {
	doc, err := Document{Data: incompressible(400, 1)}.encode()
	if err != nil {
		t.Fatal(err)
	}
	m := &meta{available: true, roles: 7, slots: maxSlots, busy: maxSlots,
		name: strings.Repeat("n", maxNameBytes), version: strings.Repeat("v", maxVersionBytes)}
	for n := range 600 {
		m.inside = make([]byte, n+1)
		m.digest = digestOf(doc)
		b := m.encode()
		if len(b) > memberlist.MetaMaxSize {
			t.Fatalf("metadata with a document of %d bytes has %d", n, len(b))
		}
		got, err := decodeMeta(b)
		if err != nil {
			t.Fatal(err)
		}
		if got.inside == nil && got.digest != m.digest {
			t.Fatalf("document of %d bytes: neither inside nor by digest", n)
		}
	}
}

func TestBadMetadata(t *testing.T) {
	good := goldenMetas()["digest.hex"].encode()
	change := func(i int, b byte) []byte {
		c := slices.Clone(good)
		c[i] = b
		return c
	}
	for name, b := range map[string][]byte{
		"empty":             {},
		"other format":      change(0, 2),
		"no role":           change(2, 0),
		"unknown role only": change(2, 8),
		"slots above limit": append(slices.Clone(good[:3]), append([]byte{0xff, 0xff, 0xff, 0x7f}, good[5:]...)...),
		"name too long":     change(6, 200),
		"control character": change(7, 7),
		"how it travels":    change(9, 9),
		"too long":          make([]byte, 513),
	} {
		if m, err := decodeMeta(b); !errors.Is(err, errBadMeta) {
			t.Errorf("%s: decodeMeta = %+v, %v; want errBadMeta", name, m, err)
		}
	}
}

func FuzzMeta(f *testing.F) {
	for _, m := range goldenMetas() {
		f.Add(m.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := decodeMeta(m.encode())
		if err != nil {
			t.Fatalf("%+v does not decode once encoded: %v", m, err)
		}
		if fmt.Sprintf("%+v", m) != fmt.Sprintf("%+v", again) {
			t.Fatalf("%+v became %+v", m, again)
		}
		if m.inside != nil {
			if doc, err := inflate(m.inside); err == nil && len(doc) > MaxDocumentBytes {
				t.Fatalf("inflated to %d bytes", len(doc))
			}
		}
	})
}
