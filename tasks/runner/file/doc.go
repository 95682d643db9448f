// Package file runs tasks of kind file: a script or program of the submitter's.
//
// The file is put into the attempt's work directory under its base name, with
// mode 0700, next to the task's inputs, and is run there or in Task.Dir. What
// runs it is the first of these that there is:
//
//   - Task.Interpreter, the name or path of one program. It is not split into
//     words: one that needs options goes into a #! line.
//   - the #! line. It is read here and not by the kernel, so that files run on
//     file systems mounted noexec and a line may end as on windows. As the kernel
//     does it, all that follows the interpreter is one argument; only after env
//     each word is one, with or without -S.
//   - the file itself, if it is a program and no script.
//   - the interpreter that goes with its extension: node for .js, python3 for
//     .py, sh for .sh, and so on.
//
// A worker without that interpreter ends the attempt with the code NotFound.
// Interpreter tells a submitter which one a worker must have, so that the task
// is not sent to others.
package file
