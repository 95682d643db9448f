// Package workdir gives each attempt a directory of its own.
//
// The directory is fresh, of mode 0700, and removed when the attempt is over:
//
//	ROOT/TASK-ATTEMPT/        the work directory; also $HOME
//	ROOT/TASK-ATTEMPT/.tmp/   $TMPDIR
//	ROOT/TASK-ATTEMPT.out/    files on their way out, only while they are collected
//
// Attempts without inputs may be lent a directory from Spares instead, ROOT/spare-N/,
// in which nothing was ever changed.
//
// HOME is the work directory itself and TMPDIR a hidden directory in it, so
// that a plain ls shows the task's own files and nothing else. Programs hide
// what they keep in HOME behind a dot, and output patterns, as those of a
// shell, match such names only when they begin with a dot themselves.
//
// The steps, in order: Create; Place puts the inputs in; Give hands all of it to
// the user that the task runs as; Env is the environment for it; Collect brings
// the outputs back once nothing of the task runs any more; Remove. Run takes all
// of them around whatever runs the task. Sub makes a directory inside, such as a
// clone, the work directory: HOME and TMPDIR are outside of it then.
//
// Inputs and outputs are files, directories and symbolic links; what came out,
// put in again, is the same tree. Contents are copied or moved, and never read
// into memory but by Attempt.Keep.
//
// Names and links come from whoever submitted the task, and the contents of the
// directory from the task: none of them leads outside of the directory. Inputs
// are placed through an os.Root. A link to somewhere else is refused among the
// inputs and left out, with a note, of the outputs.
package workdir
