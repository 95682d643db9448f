package journal

import (
	"errors"

	"golang.org/x/sys/windows"
)

// SyncDir does nothing: directories cannot be synced there, and NTFS journals
// names itself.
func (osFS) SyncDir(string) error { return nil }

// noRoom reports whether something has run out that may come back.
func noRoom(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) || noDescriptor(err)
}

// noDescriptor reports whether nothing can be opened at the moment.
func noDescriptor(err error) bool { return errors.Is(err, windows.ERROR_TOO_MANY_OPEN_FILES) }
