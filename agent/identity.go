package agent

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/scagent/scagent/agent/home"
)

// identity is who a node is: its id is the hash of a key that stays in the
// state directory, its boot is larger at each start.
type identity struct {
	key  ed25519.PrivateKey
	id   string // 26 characters of base32
	boot string // base 36
}

var idText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// loadIdentity reads the node's key, or makes it at the first start, and opens a
// new boot.
func loadIdentity(dir string) (identity, error) {
	key, err := loadKey(filepath.Join(dir, "node.key"))
	if err != nil {
		return identity{}, err
	}
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey))
	boot, err := nextBoot(filepath.Join(dir, "boot"))
	if err != nil {
		return identity{}, err
	}
	return identity{key: key, id: idText.EncodeToString(sum[:])[:26], boot: boot}, nil
}

func loadKey(path string) (ed25519.PrivateKey, error) {
	seed, err := os.ReadFile(path)
	if err == nil {
		if len(seed) != ed25519.SeedSize {
			return nil, fmt.Errorf("node key %s has %d bytes, want %d; move it away, and the node gets a new id", path, len(seed), ed25519.SeedSize)
		}
		return ed25519.NewKeyFromSeed(seed), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("node key: %w", err)
	}
	seed = make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	if err := home.WriteFile(path, seed, 0o600); err != nil {
		return nil, fmt.Errorf("node key: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// nextBoot returns the time in milliseconds, or one more than the last boot if
// the clock was set back.
func nextBoot(path string) (string, error) {
	now := time.Now().UnixMilli()
	if b, err := os.ReadFile(path); err == nil {
		if last, err := strconv.ParseInt(strings.TrimSpace(string(b)), 36, 64); err == nil && last >= now && last < 1<<50 {
			now = last + 1
		}
	}
	boot := strconv.FormatInt(now, 36)
	if err := home.WriteFile(path, []byte(boot+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("boot: %w", err)
	}
	return boot, nil
}
