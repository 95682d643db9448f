// Package workdir gives each attempt a directory of its own.
//
// The directory is fresh, of mode 0700, and removed when the attempt is over:
//
//	ROOT/TASK-ATTEMPT/        the work directory; also $HOME
//	ROOT/TASK-ATTEMPT/.tmp/   $TMPDIR
//	ROOT/TASK-ATTEMPT.out/    files on their way out, only while they are collected
//
// HOME is the work directory itself and TMPDIR a hidden directory in it, so
// that a plain ls shows the task's own files and nothing else. Programs hide
// what they keep in HOME behind a dot, and output patterns, as those of a
// shell, match such names only when they begin with a dot themselves.
//
// The steps, in order: Create; Place puts the inputs in; Give hands all of it to
// the user that the task runs as; Env is the environment for it; Collect brings
// the outputs back once nothing of the task runs any more; Remove.
//
// Names come from whoever submitted the task, and the contents of the directory
// from the task: neither leads outside of the directory. Inputs are placed
// through an os.Root. Outputs are regular files only; a symbolic link is
// followed to a file inside the directory and left out, with a note, otherwise.
package workdir
