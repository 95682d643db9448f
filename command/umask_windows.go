package command

// keepOwn does nothing: there is no umask.
func keepOwn() {}
