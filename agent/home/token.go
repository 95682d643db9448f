package home

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

// tokenName is the file in the state directory with the token of the API over
// TCP. It is kept when the agent ends, so that scripts which read it go on.
const tokenName = "api-token"

// tokenText is what a token looks like: 256 bits in hexadecimal.
var tokenText = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Token returns the token of the API over TCP and the file that it is in, which
// is made if need be. Only the agent's user can read it.
func (h *Home) Token() (token, path string, err error) {
	path = h.Path(tokenName)
	token, err = ReadToken(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return token, path, err
	}
	b := make([]byte, 32)
	rand.Read(b) // never fails
	token = hex.EncodeToString(b)
	if err := WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		return "", "", fmt.Errorf("make the token of the API: %w", err)
	}
	return token, path, nil
}

// ReadToken reads a token from a file, which nobody but its owner may be able to
// read.
func ReadToken(path string) (string, error) {
	// Opened without waiting, so that a FIFO without a writer is no trap.
	f, err := os.OpenFile(path, os.O_RDONLY|nonBlock, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file; want one with a token", path)
	}
	if _, owned := ownerOf(st); owned && st.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("others can get at the token in %s (mode %04o): remove the file and restart the agent, which makes another, or if nobody has read it run: chmod 600 %s",
			path, st.Mode().Perm(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if !tokenText.MatchString(token) {
		return "", fmt.Errorf("there is no token in %s; want 64 hexadecimal digits: remove the file and restart the agent, which makes another", path)
	}
	return token, nil
}
