package git

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// DefaultBase is where USER/REPO is.
const DefaultBase = "https://github.com/"

const (
	maxURLBytes = 2048
	schemeFile  = "file"
)

var (
	userRepo  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+$`)
	scpLike   = regexp.MustCompile(`^(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?([A-Za-z0-9][A-Za-z0-9._-]+):([^:].*)$`)
	userName  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
	refName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$`)
	abbrevID  = regexp.MustCompile(`^[0-9a-f]{4,64}$`)
	notInName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)
)

// URL returns the URL to clone for what a user may write: USER/REPO, which lies
// below base (empty: DefaultBase); a URL of scheme https, http, ssh, git or file;
// HOST:PATH as for scp; an absolute path. Nothing that it returns is an option
// or a helper program to git. Passwords are refused: they would be seen by
// everyone who sees the task.
func URL(s, base string) (string, error) {
	if userRepo.MatchString(s) && !strings.HasSuffix(s, "/.") && !strings.HasSuffix(s, "/..") {
		if base == "" {
			base = DefaultBase
		}
		if !strings.HasSuffix(base, ":") {
			base = strings.TrimSuffix(base, "/") + "/"
		}
		s = base + s
	}
	if _, err := scheme(s); err != nil {
		return "", fmt.Errorf("repository %.200q: %w", s, err)
	}
	return s, nil
}

// scheme checks a URL and returns the protocol that git uses for it.
func scheme(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("is missing; want a URL, or USER/REPO")
	case len(s) > maxURLBytes:
		return "", fmt.Errorf("has %d bytes, at most %d", len(s), maxURLBytes)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Zl, r) }):
		return "", errors.New("has control characters or is not UTF-8")
	case s[0] == '-':
		return "", errors.New("begins with -, as options do")
	case filepath.IsAbs(s):
		return schemeFile, nil
	case strings.Contains(s, "://"):
		return checkURL(s)
	}
	if m := scpLike.FindStringSubmatch(s); m != nil && m[2][0] != '-' {
		return "ssh", nil
	}
	return "", errors.New("is not understood; want USER/REPO, a URL with https, http, ssh, git or file, HOST:PATH, or an absolute path")
}

// hostOf returns the host of a URL that scheme has found good; none of a file's.
func hostOf(s string) string {
	if m := scpLike.FindStringSubmatch(s); m != nil && !strings.Contains(s, "://") {
		return m[1]
	}
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func checkURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", errors.Unwrap(err)
	}
	if !strings.HasPrefix(s, u.Scheme+":") {
		return "", errors.New("has a scheme in capitals, which git does not know")
	}
	host := u.Hostname()
	switch u.Scheme {
	case "https", "http", "ssh", "git":
		switch {
		case host == "":
			return "", errors.New("has no host")
		case host[0] == '-' || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`"'\`+"`$;&|<>", r) }):
			return "", errors.New("has a host that is none")
		}
	case schemeFile:
		if host != "" || !path.IsAbs(u.Path) {
			return "", errors.New("names no file; want file:// and an absolute path")
		}
	default:
		return "", fmt.Errorf("has the scheme %.20q; want https, http, ssh, git or file", u.Scheme)
	}
	if u.User != nil {
		if _, has := u.User.Password(); has || u.Scheme != "ssh" {
			return "", errors.New("has credentials, which everyone who sees the task would see; use ssh with a key of the worker's")
		}
		if !userName.MatchString(u.User.Username()) {
			return "", errors.New("has a user name that is none")
		}
	}
	if strings.Trim(u.Path, "/") == "" {
		return "", errors.New("has no path to a repository")
	}
	return u.Scheme, nil
}

// checkRef reports why ref can be no branch, tag or commit. Empty is the remote's HEAD.
func checkRef(ref string) error {
	if ref == "" {
		return nil
	}
	if !refName.MatchString(ref) || strings.Contains(ref, "..") || strings.Contains(ref, "//") || strings.HasSuffix(ref, ".lock") || strings.HasSuffix(ref, "/") {
		return fmt.Errorf("ref %.200q: want a branch, a tag or a commit: letters, digits and . _ / -", ref)
	}
	return nil
}

// fullID reports whether ref is a commit id that is not abbreviated.
func fullID(ref string) bool {
	return (len(ref) == 40 || len(ref) == 64) && abbrevID.MatchString(ref)
}

// repoName returns a name for a directory with the repository in it.
func repoName(s string) string {
	s = strings.TrimSuffix(strings.TrimRight(filepath.ToSlash(s), "/"), ".git")
	s = s[strings.LastIndexAny(s, "/:")+1:]
	s = strings.Trim(notInName.ReplaceAllString(s, "-"), ".-")
	if s == "" || len(s) > 100 {
		return "repo"
	}
	return s
}
