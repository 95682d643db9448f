package secret

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	maxFileBytes = 16 << 10
	maxLines     = 16 // secrets in one file

	// Grace is how long a secret that was replaced is still taken, so that a node
	// that slept through the change finds its pool again.
	Grace = 24 * time.Hour
)

// Entry is a line of a file.
type Entry struct {
	Secret *Secret
	Until  time.Time // when it ends; zero for the current one
}

// ended reports whether the secret is no longer taken.
func (e Entry) ended(now time.Time) bool { return !e.Until.IsZero() && now.After(e.Until) }

// Chain are the secrets of a file: the current one, and what it replaced, the
// newest first.
type Chain []Entry

// Current returns the secret that is in force.
func (c Chain) Current() *Secret { return c[0].Secret }

// Has reports whether s is in the chain, in force or not.
func (c Chain) Has(s *Secret) bool {
	for _, e := range c {
		if e.Secret.cluster == s.cluster {
			return true
		}
	}
	return false
}

// Rotate returns a chain with a new secret, to which the current one gave way at
// now; it is still taken for the time of grace, with which nodes that have only
// that one find the new one by themselves. Without grace nobody does: who has the
// old one is out until given the new file. Only who has the whole secret can make
// a new one.
func (c Chain) Rotate(now time.Time, grace time.Duration) (Chain, error) {
	if !c.Current().Full() {
		return nil, errors.New("this is a worker token; rotate where the whole secret is")
	}
	next := Chain{{Secret: New()}, {Secret: c[0].Secret, Until: now.Add(grace)}}
	for _, e := range c[1:] {
		if grace == 0 && e.Until.After(now) {
			e.Until = now
		}
		next = append(next, e)
	}
	return next[:min(len(next), maxLines)], nil
}

// Merge returns what c becomes when d is heard of, from whoever may say so: the
// newer of the two, with each that was replaced until the earlier of the times
// that it has in both. Where both have the same secret in force, what either has
// that was replaced counts. Where each was made in place of a
// common one, because two hosts made a new one at once, the one whose public id
// is smaller stays in force, the other is taken for as long as the common one is,
// and so all who hear of both come to the same. Chains without a common secret
// have nothing to do with each other: c stays as it is.
func (c Chain) Merge(d Chain) Chain {
	common := slices.IndexFunc(c, func(e Entry) bool { return d.Has(e.Secret) })
	if common < 0 {
		return c
	}
	newer, older := c, d
	same := c.Current().cluster == d.Current().cluster
	follows := c.Has(d.Current()) || d.Has(c.Current())
	if d.Has(c.Current()) && !same || !follows && bytes.Compare(d.Current().cluster[:], c.Current().cluster[:]) < 0 {
		newer, older = d, c
	}
	merged := slices.Clone(newer)
	for _, e := range older {
		i := slices.IndexFunc(merged, func(m Entry) bool { return m.Secret.cluster == e.Secret.cluster })
		switch {
		case i < 0 && (same || !follows):
			merged = append(merged, e)
		case i > 0 && !e.Until.IsZero() && e.Until.Before(merged[i].Until):
			merged[i].Until = e.Until
		}
	}
	end := merged[slices.IndexFunc(merged, func(m Entry) bool { return m.Secret.cluster == c[common].Secret.cluster })].Until
	for i := range merged[1:] {
		if e := &merged[1+i]; e.Until.IsZero() { // the other of two that were made at once
			e.Until = end
		}
	}
	slices.SortStableFunc(merged[1:], func(a, b Entry) int { return b.Until.Compare(a.Until) })
	return merged[:min(len(merged), maxLines)]
}

// Reload returns what c becomes when its file has d. It is Merge, but for that the
// file counts where it has the same secret in force: what it does not have any more
// is not taken any more.
func (c Chain) Reload(d Chain) Chain {
	merged := c.Merge(d)
	if c.Current().cluster != d.Current().cluster {
		return merged
	}
	return slices.DeleteFunc(merged, func(e Entry) bool { return !d.Has(e.Secret) })
}

// Equal reports whether two chains say the same.
func (c Chain) Equal(d Chain) bool { return bytes.Equal(c.Text(), d.Text()) }

// Tokens returns the chain of the worker tokens.
func (c Chain) Tokens() Chain {
	t := make(Chain, len(c))
	for i, e := range c {
		t[i] = Entry{e.Secret.Token(), e.Until}
	}
	return t
}

// Text returns the contents of a file.
func (c Chain) Text() []byte {
	var b bytes.Buffer
	for _, e := range c {
		b.WriteString(e.Secret.Text())
		if !e.Until.IsZero() {
			b.WriteString(" until " + e.Until.UTC().Format(time.RFC3339))
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// ParseChain reads the contents of a file. Empty lines, and those that begin
// with #, do not count.
func ParseChain(b []byte) (Chain, error) {
	if len(b) > maxFileBytes {
		return nil, fmt.Errorf("this is no secret: %d bytes, want at most %d", len(b), maxFileBytes)
	}
	var c Chain
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxFileBytes+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		text, until, replaced := strings.Cut(line, " until ")
		s, err := Parse(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		e := Entry{Secret: s}
		switch {
		case replaced && len(c) == 0:
			return nil, fmt.Errorf("line %d: the first secret is the one in force and has no end; take away what follows it", n)
		case replaced:
			if e.Until, err = time.Parse(time.RFC3339, strings.TrimSpace(until)); err != nil {
				return nil, fmt.Errorf("line %d: the time behind until is not RFC 3339, as in 2026-11-25T09:00:00Z", n)
			}
		case len(c) > 0:
			return nil, fmt.Errorf("line %d: a second secret needs the time until which it is taken, as in: sck1-… until 2026-11-25T09:00:00Z", n)
		}
		if len(c) == maxLines {
			return nil, fmt.Errorf("line %d: more than %d secrets", n, maxLines)
		}
		c = append(c, e)
	}
	if len(c) == 0 {
		_, err := Parse("")
		return nil, err
	}
	return c, nil
}

// Load reads a file, which nobody but its owner may be able to read.
func Load(path string) (Chain, error) {
	// Opened without waiting, so that a FIFO without a writer is no trap.
	f, err := os.OpenFile(path, os.O_RDONLY|nonBlock, 0)
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, fmt.Errorf("secret file %s: %w", path, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("secret file %s: %w", path, err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("secret file %s is not a regular file", path)
	}
	if err := checkMode(path, st); err != nil {
		return nil, fmt.Errorf("secret file %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("secret file %s: %w", path, err)
	}
	c, err := ParseChain(b)
	if err != nil {
		return nil, fmt.Errorf("secret file %s: %w", path, err)
	}
	return c, nil
}

// Save replaces a file in one step; nobody but its owner can read it. A missing
// directory is made.
func (c Chain) Save(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("secret file: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".secret-*") // of mode 0600
	if err != nil {
		return fmt.Errorf("secret file: %w", err)
	}
	_, err = f.Write(c.Text())
	err = errors.Join(err, keepOwner(path, f), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("secret file: %w", err)
	}
	return nil
}

// Find returns the path of the secret: that of the flag -secret-file, that of
// $SCAGENT_SECRET_FILE, or DefaultPath if there is such a file. Empty: there is
// no secret. A file that was named must exist, and whether there is one at
// DefaultPath must be known: Load says so, rather than that an agent runs without.
func Find(flag string, getenv func(string) string) string {
	if flag != "" {
		return flag
	}
	if path := getenv("SCAGENT_SECRET_FILE"); path != "" {
		return path
	}
	path := DefaultPath(getenv)
	if _, err := os.Lstat(path); path == "" || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return ""
	}
	return path
}

// DefaultPath is where a secret is looked for when nothing names one:
// /etc/scagent/secret for root, $XDG_CONFIG_HOME/scagent/secret or
// ~/.config/scagent/secret for others. Empty: there is no such place.
func DefaultPath(getenv func(string) string) string {
	if os.Geteuid() == 0 {
		return "/etc/scagent/secret"
	}
	base := getenv("XDG_CONFIG_HOME")
	if base == "" && getenv("HOME") != "" {
		base = filepath.Join(getenv("HOME"), ".config")
	}
	if base == "" {
		return ""
	}
	return filepath.Join(base, "scagent", "secret")
}
