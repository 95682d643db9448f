// Package process starts programs and ends them with everything they started.
//
// Run starts one program in a process group of its own, moves its output to
// the writers it is given, and returns when nothing of it runs any more. It
// costs no more than os/exec does: no helper program stands in between, and
// nothing polls.
//
// # What belongs to a task
//
// Run is not done before all that the program started has ended, whatever it did
// to get away: sessions and parents of its own, closed files, a cleared
// environment. Nets hold the processes, from the cheapest to the surest:
//
//   - The process group. It gets SIGTERM and SIGINT, and when the main process
//     has exited, whatever is left in it is killed.
//   - The marks: environment entries that only this task carries (Spec.Marks).
//     What a process sets itself does not count, but one that is executed with
//     another environment has lost them.
//   - A cgroup, where the agent may make one (OpenNets): nothing leaves it.
//   - A brand, where it may not: a number that processes inherit and that all can
//     see, see brand. It is on a program before its first instruction.
//
// Without a cgroup processes are looked for in /proc when the task is stopped, when
// something holds its output open after the main process has exited, and at the
// end. After a short run that is a look at a handful of numbers; a look at all
// processes is shared by those that look at the same time.
//
// # What is promised
//
// Of a task that ended, was stopped or was killed, and of all tasks when their
// agent has died and somebody kills its Brood, this is ended:
//
//	                      cgroup   brand      marks alone   group alone
//	in its group          yes      yes        yes           yes
//	left the group        yes      yes        yes           no
//	own environment too   yes      yes (1)    no            no
//	forks and exits       yes      mostly (2) no            no
//
// (1) But not what su, sudo or a login have started, which set limits and groups
// anew; they leave the marks if they leave the environment.
//
// (2) One that forks and exits all the time, so that none of its processes lives
// long enough to be looked at, gets away now and then.
//
// Linux has cgroups where version 2 is mounted and the agent may write to its own:
// as root, or as a service of systemd that says Delegate=yes. Else it has brands, in
// containers too, but for an agent in a sandbox that forbids ptrace(2), which has
// marks alone. Where the agent is root and tasks run as another user whose limits
// it may not set (CAP_SYS_RESOURCE), a brand is a group more than that user has:
// id(1) shows it. Marks of another user's processes can be read only with
// CAP_SYS_PTRACE. Other systems have process groups alone. On windows only the main
// process is ended. What asks another to start something, such as a service
// manager, cron or a container engine, has not started it.
//
// # How a task is stopped
//
// The cause of the context says how: see tasks.StopReason. A stop asks first
// (SIGTERM to the group, for an interrupt SIGINT before that), waits for
// Spec.Grace each time, and then kills all of it. A closed Spec.Kill kills at
// once, also in the middle of a grace.
//
// # Limits
//
// Limits are set while the program, traced, has stopped before its first
// instruction; so is a brand that is a limit. A program that has rights of its own
// (set-user-ID, file capabilities) would lose them when it is traced, so a shell is
// started that becomes it.
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
