package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxConfigBytes bounds a configuration file.
const maxConfigBytes = 1 << 20

// setting is a key of a configuration file.
type setting struct {
	where string // file and line
	value json.RawMessage
}

// names returns the names of all flags.
func (f *flagSet) names() []string {
	var names []string
	f.fs.VisitAll(func(fl *flag.Flag) { names = append(names, fl.Name) })
	return names
}

// setFromFiles sets the flags that were not given and are in one of the files, or
// in one of the *.json of what is a directory. A later file beats an earlier one.
func (f *flagSet) setFromFiles(paths []string) error {
	settings := map[string]setting{}
	for _, p := range paths {
		files, err := configFiles(p)
		if err != nil {
			return fmt.Errorf("-config: %w", err)
		}
		for _, file := range files {
			b, err := readLimited(file, maxConfigBytes)
			if err == nil {
				err = readConfig(file, b, f.names(), settings)
			}
			if err != nil {
				return fmt.Errorf("-config: %w", err)
			}
		}
	}
	for _, name := range f.names() {
		s, ok := settings[name]
		if !ok || f.isSet(name) {
			continue
		}
		if err := f.setJSON(name, s); err != nil {
			return err
		}
	}
	return nil
}

func configFiles(path string) ([]string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && filepath.Ext(e.Name()) == ".json" {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	return files, nil
}

// readConfig adds the keys of one file to settings. A key is the name of a flag;
// _ is as good as -.
func readConfig(file string, b []byte, names []string, settings map[string]setting) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	at := func() string {
		return fmt.Sprintf("%s:%d", file, 1+bytes.Count(b[:dec.InputOffset()], []byte("\n")))
	}
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("%s: want a JSON object", at())
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return fmt.Errorf("%s: %w", at(), err)
		}
		key := t.(string) // the decoder lets nothing else be a key
		where, name := at(), strings.ReplaceAll(key, "_", "-")
		switch {
		case name == "config" || !slices.Contains(names, name):
			if near := nearest(name, names); near != "" && near != "config" {
				return fmt.Errorf("%s: unknown key %q; did you mean %q?", where, shorten(key, 40), near)
			}
			return fmt.Errorf("%s: unknown key %q", where, shorten(key, 40))
		case seen[name]:
			return fmt.Errorf("%s: the key %q is there twice", where, key)
		}
		seen[name] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return fmt.Errorf("%s: %s: %w", where, key, err)
		}
		settings[name] = setting{where + ": " + key, value}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("%s: %w", at(), err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: there is something after the object", at())
	}
	return nil
}

// setJSON sets a flag to a JSON value: a string as on the command line, a number,
// true or false, or for flags that can be repeated a list of those.
func (f *flagSet) setJSON(name string, s setting) error {
	var list []json.RawMessage
	fl := f.fs.Lookup(name)
	_, isData := fl.Value.(*dataValue)
	_, isList := fl.Value.(*listValue)
	switch {
	case isData && s.value[0] != '"':
		return f.set(s.where, name, string(s.value))
	case isList && json.Unmarshal(s.value, &list) == nil:
		for _, v := range list {
			if err := f.setJSON(name, setting{s.where, v}); err != nil {
				return err
			}
		}
		return nil
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(s.value))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return fmt.Errorf("%s: %w", s.where, err)
	}
	switch v := v.(type) {
	case string:
		return f.set(s.where, name, v)
	case json.Number, bool:
		return f.set(s.where, name, fmt.Sprint(v))
	}
	return fmt.Errorf("%s is %s; want one value", s.where, shorten(string(s.value), 80))
}
