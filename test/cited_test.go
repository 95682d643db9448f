package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// cite is a comment of a test that says which sentence of a document it proves.
var cite = regexp.MustCompile(`(docs/[a-z-]+\.md): ((?:"[^"]*"(?:, (?:and )?)?)+)`)

// TestCitedSentencesAreThere keeps the documents and the tests that cite them together.
func TestCitedSentencesAreThere(t *testing.T) {
	docs, cited := map[string]string{}, 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := plain(strings.ReplaceAll(string(b), "\n//", "\n"))
		for _, m := range cite.FindAllStringSubmatch(text, -1) {
			if docs[m[1]] == "" {
				b, err := os.ReadFile("../" + m[1])
				if err != nil {
					t.Errorf("%s cites a document that is not there: %v", path, err)
					continue
				}
				docs[m[1]] = plain(string(b))
			}
			for _, s := range regexp.MustCompile(`"[^"]*"`).FindAllString(m[2], -1) {
				cited++
				if s = strings.Trim(s, `".`); !strings.Contains(docs[m[1]], s) {
					t.Errorf("%s cites %q, which %s does not say", path, s, m[1])
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if cited < 10 {
		t.Errorf("%d sentences are cited; want those of docs/bus.md at least", cited)
	}
}

// plain has one space between words.
func plain(s string) string { return strings.Join(strings.Fields(s), " ") }
