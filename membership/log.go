package membership

import (
	"log"
	"strings"
	"time"
	"unicode"
)

// Lines per second of memberlist's own that are logged, and how many at once.
const (
	gossipLogRate  = 20
	gossipLogBurst = 100
)

// gossipLog takes memberlist's log. Its lines quote what strangers send, so
// whatever is not printable is escaped, and a flood of them is cut short.
type gossipLog struct {
	to *log.Logger

	// memberlist's log.Logger serializes calls of Write, which owns these.
	limit  bucket
	missed int
}

func newGossipLog(to *log.Logger) *log.Logger { return log.New(&gossipLog{to: to}, "", 0) }

// Write logs one line of memberlist's, such as "[WARN] memberlist: text".
func (g *gossipLog) Write(line []byte) (int, error) {
	level, text := "[INFO]", strings.TrimSpace(string(line))
	for _, l := range []string{"[DEBUG]", "[INFO]", "[WARN]", "[ERR]", "[ERROR]"} {
		if rest, ok := strings.CutPrefix(text, l); ok {
			level, text = l, strings.TrimSpace(rest)
			break
		}
	}
	if level == "[ERR]" || level == "[ERROR]" {
		level = "[WARN]" // about one peer or packet, never something for a person to repair
	}
	if !g.limit.take(time.Now(), gossipLogRate, gossipLogBurst) {
		g.missed++
		return len(line), nil
	}
	if g.missed > 0 {
		g.to.Printf("[WARN] membership: gossip log cut short: lines=%d", g.missed)
		g.missed = 0
	}
	g.to.Printf("%s membership: gossip: text=%s", level, quote(strings.TrimPrefix(text, "memberlist: ")))
	return len(line), nil
}

// quote returns s in quotes, with everything escaped that could disturb a
// terminal or fake a line, and cut at 500 bytes.
func quote(s string) string {
	const limit = 500
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r) && r != unicode.ReplacementChar:
			b.WriteRune(r)
		default:
			const hex = "0123456789abcdef"
			b.WriteString(`\u`)
			for shift := 12; shift >= 0; shift -= 4 {
				b.WriteByte(hex[r>>shift&15])
			}
		}
	}
	b.WriteByte('"')
	return b.String()
}
