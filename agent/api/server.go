package api

import (
	"io"
	"log"
	"net/http"
	"time"
)

// NewServer returns an HTTP server for the local API, which gives up on
// connections that send no request. Bodies and streams may take their time.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // of clients that hang up
	}
}
