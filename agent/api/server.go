package api

import (
	"io"
	"log"
	"net/http"
	"time"
)

// headerTimeout bounds how long a client may take for the head of a request, and
// one without the token for anything.
const headerTimeout = 5 * time.Second

// NewServer returns an HTTP server for the local API, which gives up on
// connections that send no request. Bodies and streams may take their time.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // of clients that hang up
		// "OPTIONS *" would be answered without asking the handler.
		DisableGeneralOptionsHandler: true,
	}
}
