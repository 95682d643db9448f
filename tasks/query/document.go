package query

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"unique"
)

// Decode decodes a document for Node.Data or Node.Facts; nil if it is not JSON.
//
// What a query over many nodes waits for is memory. So the fields of an object
// stand next to each other here, keys and short texts, which nodes have in common,
// are shared, and numbers are read once.
func Decode(document []byte) any {
	if len(document) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber() // a float64 has not every integer
	var x any
	if d.Decode(&x) != nil {
		return nil
	}
	return pack(x)
}

// maxSharedBytes is up to how long a text is likely to be had by several nodes.
const maxSharedBytes = 64

func pack(x any) any {
	switch y := x.(type) {
	case map[string]any:
		fs := make(fields, 0, len(y))
		for k, v := range y {
			fs = append(fs, entry{unique.Make(k).Value(), pack(v)})
		}
		slices.SortFunc(fs, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
		return fs
	case []any:
		for i := range y {
			y[i] = pack(y[i])
		}
	case json.Number:
		if v, ok := fromJSON(y); ok {
			return v.json()
		}
	case string:
		if len(y) <= maxSharedBytes {
			return unique.Make(x).Value()
		}
	}
	return x
}

// fields are an object as Decode packs it, ordered by key.
type fields []entry

type entry struct {
	key   string
	value any
}

// fewFields are looked through faster than they are searched.
const fewFields = 12

func (f fields) get(key string) (any, bool) {
	if len(f) > fewFields {
		i, ok := slices.BinarySearchFunc(f, key, func(e entry, key string) int { return strings.Compare(e.key, key) })
		if !ok {
			return nil, false
		}
		return f[i].value, true
	}
	for i := range f {
		if f[i].key == key {
			return f[i].value, true
		}
	}
	return nil, false
}

// get returns a field of an object of either form; false if x has no such field.
func get(x any, key string) (any, bool) {
	switch x := x.(type) {
	case fields:
		return x.get(key)
	case map[string]any:
		v, ok := x[key]
		return v, ok
	}
	return nil, false
}

// count returns how many fields an object has.
func count(x any) int {
	if f, ok := x.(fields); ok {
		return len(f)
	}
	return len(x.(map[string]any))
}

// each calls visit with the fields of an object until it returns false, and reports
// whether it never did.
func each(x any, visit func(key string, v any) bool) bool {
	switch x := x.(type) {
	case fields:
		for i := range x {
			if !visit(x[i].key, x[i].value) {
				return false
			}
		}
	case map[string]any:
		for k, v := range x {
			if !visit(k, v) {
				return false
			}
		}
	}
	return true
}
