package bus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/scagent/scagent/tasks"
)

// Data is what an event or a reply carries, as it travels: JSON when it comes from
// a command line or the HTTP API, msgpack when it comes from Go. The zero Data is
// that of an event that carries nothing. It is not changed once made.
type Data struct {
	encoding Encoding
	bytes    []byte
}

// Encoding is how Data is written. The numbers are those on the wire.
type Encoding uint8

const (
	None    Encoding = 0
	JSON    Encoding = 1
	Msgpack Encoding = 2
)

// ErrNoData is what decoding the zero Data into something gives.
var ErrNoData = errors.New("the event carries no data")

// Pack makes Data of any value that go-msgpack can encode; nil makes the zero Data,
// json.RawMessage is taken as it is, and Data too.
func Pack(v any) (Data, error) {
	switch v := v.(type) {
	case nil:
		return Data{}, nil
	case Data:
		return v, nil
	case json.RawMessage:
		return FromJSON(v)
	}
	b, err := tasks.Pack(v)
	return Data{Msgpack, b}, err
}

// FromJSON makes Data of JSON; nothing makes the zero Data.
func FromJSON(b []byte) (Data, error) {
	if len(b) == 0 {
		return Data{}, nil
	}
	var buf bytes.Buffer
	if err := json.Compact(&buf, b); err != nil {
		return Data{}, fmt.Errorf("the data is not JSON: %w", err)
	}
	return Data{JSON, buf.Bytes()}, nil
}

// Len is the size in bytes.
func (d Data) Len() int { return len(d.bytes) }

// Decode decodes d into v, a pointer, as encoding/json or go-msgpack do.
func (d Data) Decode(v any) error {
	switch d.encoding {
	case JSON:
		return json.Unmarshal(d.bytes, v)
	case Msgpack:
		return tasks.Unpack(d.bytes, v)
	}
	return ErrNoData
}

// MarshalJSON writes d as JSON. What JSON cannot say, such as a NaN, is an error.
func (d Data) MarshalJSON() ([]byte, error) {
	switch d.encoding {
	case JSON:
		return d.bytes, nil
	case Msgpack:
		var v any
		if err := tasks.Unpack(d.bytes, &v); err != nil {
			return nil, fmt.Errorf("the data of an event: %w", err)
		}
		var buf bytes.Buffer
		e := json.NewEncoder(&buf)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return nil, err
		}
		return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
	}
	return []byte("null"), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (d *Data) UnmarshalJSON(b []byte) (err error) {
	if string(b) == "null" {
		*d = Data{}
		return nil
	}
	*d, err = FromJSON(b)
	return err
}
