package membership

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// MaxDocumentBytes is how large a node's document may be as JSON.
const MaxDocumentBytes = 256 << 10

// documentPath is where a node serves its document, followed by the digest.
const documentPath = "/scagent/v1/document/"

// ErrDocumentTooLarge is returned for a document above MaxDocumentBytes.
var ErrDocumentTooLarge = errors.New("document too large")

// Document is what a node tells the pool about itself beyond its metadata.
//
// A small one travels inside the metadata. Of a larger one only a digest does,
// and who wants it fetches it from its owner.
type Document struct {
	Data         json.RawMessage `json:"data,omitempty"`  // the user's; any JSON value
	Facts        json.RawMessage `json:"facts,omitempty"` // the agent's own findings
	Kinds        []string        `json:"kinds,omitempty"` // of tasks that the node runs
	Functions    []string        `json:"functions,omitempty"`
	Interpreters []string        `json:"interpreters,omitempty"`
}

// digest identifies the encoded form of a document: a truncated SHA-256.
type digest [16]byte

func digestOf(encoded []byte) digest {
	sum := sha256.Sum256(encoded)
	return digest(sum[:len(digest{})])
}

func (d digest) String() string { return hex.EncodeToString(d[:]) }

// encode returns the JSON form of d, checked and compact, or
// ErrDocumentTooLarge.
func (d Document) encode() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d); err != nil {
		return nil, fmt.Errorf("encode document: data and facts must be JSON: %w", err)
	}
	b := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	if len(b) > MaxDocumentBytes {
		return nil, fmt.Errorf("%w: %d bytes as JSON, at most %d; shorten the node's data",
			ErrDocumentTooLarge, len(b), MaxDocumentBytes)
	}
	return b, nil
}

// decodeDocument reads what encode wrote.
func decodeDocument(encoded []byte) (*Document, error) {
	d := &Document{}
	if err := json.Unmarshal(encoded, d); err != nil {
		return nil, fmt.Errorf("decode document: %w", err)
	}
	return d, nil
}

// deflaters are kept because a flate.Writer is several hundred kilobytes.
var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestCompression)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

func deflate(b []byte) []byte {
	var out bytes.Buffer
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(&out)
	// Writes to a bytes.Buffer do not fail.
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// inflate is the reverse of deflate. It stops at MaxDocumentBytes, whatever the
// sender packed.
func inflate(b []byte) ([]byte, error) {
	r := flate.NewReader(bytes.NewReader(b))
	defer r.Close()
	out, err := io.ReadAll(io.LimitReader(r, MaxDocumentBytes+1))
	if err != nil {
		return nil, fmt.Errorf("inflate document: %w", err)
	}
	if len(out) > MaxDocumentBytes {
		return nil, fmt.Errorf("inflate document: %w: more than %d bytes", ErrDocumentTooLarge, MaxDocumentBytes)
	}
	return out, nil
}

// DocumentHandler serves this node's own document under
// /scagent/v1/document/{digest}. The caller mounts it on the node's port. It
// may be called at any time after New.
func (p *Pool) DocumentHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET", http.StatusMethodNotAllowed)
			return
		}
		encoded := p.local.encodedDocument()
		if r.URL.Path != documentPath+digestOf(encoded).String() {
			http.Error(w, "no such document here; it may have changed", http.StatusNotFound)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(encoded)))
		h.Set("X-Content-Type-Options", "nosniff")
		w.Write(encoded) // the client's trouble is the client's to notice
	})
}
