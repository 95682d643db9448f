//go:build linux

package main

import (
	"fmt"
	"io"
	"log"
	"os"
)

// logger writes lines, each with the time, to a file and to somebody who watches.
type logger struct {
	*log.Logger
	file *os.File
}

func newLogger(path string, too io.Writer) (*logger, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("log of the run: %w", err)
	}
	return &logger{log.New(io.MultiWriter(f, too), "", log.Ltime|log.Lmicroseconds), f}, nil
}

func (l *logger) Close() error { return l.file.Close() }
