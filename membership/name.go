package membership

import (
	"cmp"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	idChars      = 26
	maxBootChars = 10
	maxNameBytes = 64 // of the name for people

	// maxGossipNameBytes is the longest name that memberlist gets to see.
	maxGossipNameBytes = idChars + 1 + maxBootChars
)

// A name in gossip is "<id>.<boot>". Because every start of a node has a name of
// its own, memberlist never sees a restart, a copied disk or two hosts of one
// name as a conflict, and an old farewell that is replayed hurts nobody.

func gossipName(id, boot string) string { return id + "." + boot }

// splitGossipName returns the parts of a name in gossip, or false when name is
// not one.
func splitGossipName(name string) (id, boot string, ok bool) {
	if len(name) <= idChars || name[idChars] != '.' {
		return "", "", false
	}
	id, boot = name[:idChars], name[idChars+1:]
	return id, boot, validID(id) && validBoot(boot)
}

func validGossipName(name []byte) bool {
	if len(name) > maxGossipNameBytes {
		return false
	}
	_, _, ok := splitGossipName(string(name))
	return ok
}

func validID(s string) bool {
	if len(s) != idChars {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

func validBoot(s string) bool {
	if len(s) == 0 || len(s) > maxBootChars {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// compareBoots compares boots as the base-36 numbers that they are.
func compareBoots(a, b string) int {
	na, nb := strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(na), len(nb)), strings.Compare(na, nb), strings.Compare(a, b))
}

// checkText says what is wrong with a short text that people will see.
func checkText(field, s string, maxBytes int) error {
	switch {
	case len(s) > maxBytes:
		return fmt.Errorf("%s is %d bytes; want at most %d", field, len(s), maxBytes)
	case !utf8.ValidString(s):
		return fmt.Errorf("%s is %q; want UTF-8", field, s)
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%s is %q; want printable characters only", field, s)
	}
	return nil
}
