package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Most bytes of a body, by what it is.
const (
	maxTaskBody  = 16 << 20
	maxEventBody = 2 << 20
	maxDataBody  = 1 << 20
	maxSmallBody = 256 << 10
)

// decode reads a JSON body into v, strictly: it must be one value in UTF-8, all
// of whose fields are known, spelled exactly, and there once. free lists the
// paths below which objects may have any fields.
func (h *handler) decode(w http.ResponseWriter, r *http.Request, limit int64, v any, free ...string) error {
	body, err := h.readJSON(w, r, limit)
	if err != nil {
		return err
	}
	return unmarshalBody(body, v, free...)
}

// unmarshalBody is decode for a body that has been read.
func unmarshalBody(body []byte, v any, free ...string) error {
	if len(body) == 0 {
		return badRequest("the body is empty; want JSON")
	}
	return unmarshal(body, v, free...)
}

// readJSON reads a body that should be JSON.
func (h *handler) readJSON(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if err := h.checkType(r, "application/json"); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	if err != nil && !errors.As(err, &large) {
		err = badRequest("the body did not arrive whole: %v", err)
	}
	return b, err
}

// checkType refuses bodies that are something else than what is wanted, a form of JSON. Over a unix socket
// what curl says unless it is told is taken too, but not where browsers come: forms
// can be sent by other sites.
func (h *handler) checkType(r *http.Request, want string) error {
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return &Error{CodeBadType, fmt.Sprintf("Content-Encoding is %q; send the body as it is", e), http.StatusUnsupportedMediaType}
	}
	t := r.Header.Get("Content-Type")
	curl := len(h.o.Hosts) == 0
	kind, _, err := mime.ParseMediaType(t)
	switch {
	case err == nil && kind == want:
		return nil
	case t == "" && (curl || r.ContentLength == 0):
		return nil
	case err == nil && kind == "application/x-www-form-urlencoded" && curl:
		return nil
	}
	return &Error{CodeBadType, fmt.Sprintf("Content-Type is %q; want %s", t, want), http.StatusUnsupportedMediaType}
}

func unmarshal(body []byte, v any, free ...string) error {
	if !utf8.Valid(body) {
		return badRequest("the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return explain(err, body)
	}
	if _, err := d.Token(); err != io.EOF {
		return badRequest("the body goes on after its JSON value; want one value")
	}
	w := walker{d: json.NewDecoder(bytes.NewReader(body)), free: free}
	w.d.UseNumber()
	return w.walk()
}

// explain says in one line why JSON was not taken.
func explain(err error, body []byte) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var corrupt base64.CorruptInputError
	switch {
	case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
		return badRequest("the body is not JSON: it ends too early")
	case errors.As(err, &syntax):
		return badRequest("the body is not JSON: %v, at byte %d", syntax, syntax.Offset)
	case errors.As(err, &kind):
		field := kind.Field
		if field == "" {
			field = "the body"
		}
		return badRequest("%s is %s; want %s", field, found(kind.Value), wanted(kind.Type))
	case errors.As(err, &corrupt):
		w := walker{d: json.NewDecoder(bytes.NewReader(body)), base64: true}
		w.d.UseNumber()
		if err := w.walk(); err != nil {
			return err
		}
	}
	return badRequest("%s", strings.TrimPrefix(err.Error(), "json: "))
}

// found says what encoding/json found, in the words of wanted.
func found(value string) string {
	switch value {
	case "array":
		return "a list"
	case "object":
		return "an object"
	}
	return "a " + value
}

// wanted says what JSON a Go type is read from.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "a number"
	case reflect.Int, reflect.Uint32:
		return "a whole number in range"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "a string in base64"
		}
		return "a list"
	case reflect.Pointer:
		return wanted(t.Elem())
	}
	return "an object"
}

// walker goes through JSON that was decoded already, so it is well-formed and not
// nested more than encoding/json allows (10,000 deep).
type walker struct {
	d      *json.Decoder
	free   []string // paths below which objects may have any fields
	base64 bool     // look for strings that are not base64, instead of for fields
}

// place is where a value is. It is spelled only where that is needed: what is
// nested deeply has a long path.
type place struct {
	in    *place // nil: the value is the body
	key   string // of the object that it is in
	index int    // in the list that it is in; -1: it is in an object
	free  bool   // below one of walker.free
}

// String returns the path, as in task.inputs[1].name.
func (p *place) String() string {
	switch {
	case p.in == nil:
		return ""
	case p.index >= 0:
		return fmt.Sprintf("%s[%d]", p.in, p.index)
	case p.in.in == nil:
		return p.key
	}
	return p.in.String() + "." + p.key
}

var fieldName = regexp.MustCompile(`^[a-z0-9_]+$`)

func (w *walker) walk() error { return w.value(&place{}) }

func (w *walker) value(at *place) error {
	tok, err := w.d.Token()
	if err != nil {
		return badRequest("the body is not JSON: %v", err)
	}
	switch tok := tok.(type) {
	case json.Delim:
		at.free = at.free || w.isFree(at)
		if tok == '{' {
			err = w.object(at)
		} else {
			for i := 0; err == nil && w.d.More(); i++ {
				err = w.value(&place{in: at, index: i, free: at.free})
			}
		}
		if err == nil {
			_, err = w.d.Token() // the end of it
		}
	case string:
		if w.base64 && at.index < 0 && strings.HasSuffix(at.key, "_base64") {
			if _, bad := base64.StdEncoding.DecodeString(tok); bad != nil {
				err = badRequest("%s is not base64: %v", at, bad)
			}
		}
	}
	return err
}

func (w *walker) object(in *place) error {
	seen := map[string]bool{}
	for w.d.More() {
		tok, err := w.d.Token()
		if err != nil {
			return badRequest("the body is not JSON: %v", err)
		}
		key, _ := tok.(string) // keys are nothing else
		at := &place{in: in, key: key, index: -1, free: in.free}
		if seen[key] {
			return badRequest("the field %.200q is there twice", at)
		}
		seen[key] = true
		// encoding/json takes fields in any case.
		if !w.base64 && !at.free && !fieldName.MatchString(key) {
			return badRequest("unknown field %.200q; fields are in lower case", at)
		}
		if err := w.value(at); err != nil {
			return err
		}
	}
	return nil
}

// isFree looks at the path of a value. Outside of what is free, values are nested
// no deeper than the fields that there are.
func (w *walker) isFree(at *place) bool {
	if w.base64 || len(w.free) == 0 {
		return w.base64
	}
	path := at.String()
	return slices.ContainsFunc(w.free, func(f string) bool { return strings.HasPrefix(path, f) })
}
