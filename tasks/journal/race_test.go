//go:build race

package journal

// stride is how much coarser tests that try everything are: the race detector
// makes them some ten times slower, and they have one goroutine.
const stride = 5
