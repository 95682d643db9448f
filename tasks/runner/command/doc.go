// Package command runs tasks of kind command: a program with its arguments, or
// a line for the shell.
//
// Each attempt has a fresh work directory, a clean environment (package
// workdir) and a process tree of its own (package process). When Run returns,
// the processes are gone, the outputs are collected and the directory is
// removed.
package command
