// Package process starts programs and ends them with everything they started.
//
// Run starts one program in a process group of its own, moves its output to
// the writers it is given, and returns when nothing of it runs any more. It
// costs no more than os/exec does: no helper program stands in between, and
// nothing polls.
//
// # What belongs to a task
//
// Nets hold the processes of a task; those of an agent are opened with OpenNets:
//
//   - The process group. It gets SIGTERM and SIGINT, and when the main process
//     has exited, whatever is left in it is killed.
//   - The marks: environment entries that only this task carries (Spec.Marks).
//     A process that left the group with setsid still has them. On linux they
//     are looked for in /proc when a task is stopped, and when something holds
//     its output open after the main process has exited.
//   - A cgroup, where the agent may make one: nothing leaves it, so that also a
//     daemon with an environment of its own, and its files closed, is killed when
//     the task ends.
//   - A brand, on linux where there are no cgroups: a number that the program is
//     given before its first instruction and that all it starts inherits. It finds
//     what a cgroup would, but for what su, sudo or a program that is out for it has
//     taken the number away from. See brand_linux.go.
//
// Elsewhere, and where the agent may neither make cgroups nor give brands, such a
// daemon survives the end of its task.
//
// What belongs to all tasks of an agent is a Brood. Another process can find it by
// that and kill it, also when the agent is dead: see package supervisor.
//
// # How a task is stopped
//
// The cause of the context says how: see tasks.StopReason. A stop asks first
// (SIGTERM to the group, for an interrupt SIGINT before that), waits for
// Spec.Grace each time, and then kills all of it. A closed Spec.Kill kills at
// once, also in the middle of a grace.
//
// # Output
//
// Output goes through pipes. A Write that waits makes the program wait on its
// full pipe, and nothing is kept in memory but one buffer a stream. A program
// that closes its output early runs on. When the main process has exited, the
// task has ended: what is still in the pipes is read; a process outside the
// group that holds them open is given Spec.Linger to finish, and is then
// killed or, if it can not be found, left without a reader.
package process
