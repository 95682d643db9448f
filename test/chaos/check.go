//go:build linux

package main

import (
	"io"
	"os"
	"path/filepath"

	"github.com/scagent/scagent/test/check/verify"
)

// check holds the histories in the directory of a run that is over, and its truth,
// against the invariants. All tasks must have ended by now.
func check(dir string) (*verify.Report, error) {
	histories, err := filepath.Glob(filepath.Join(dir, "history-*.jsonl"))
	if err != nil {
		return nil, err
	}
	cfg := verify.DefaultConfig()
	cfg.Settle = 0
	return verify.Check(cfg, sources(histories...), sources(filepath.Join(dir, "truth")))
}

func sources(paths ...string) (list []verify.Source) {
	for _, path := range paths {
		list = append(list, verify.Source{Name: path, Open: func() (io.ReadCloser, error) { return os.Open(path) }})
	}
	return list
}
