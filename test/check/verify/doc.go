// Package verify checks histories (tasks/history) against the invariants I1 to I20.
//
// Each history is read by itself, in its own order, and what its node alone can
// break is checked on the way. What nodes say of each other is compared when all was
// read, by their stamps if they are of one host; across hosts no order is claimed, and
// Report.Hosts says so. Everything about a task is in one record of some hundred bytes,
// so that the order of the files does not matter, but that of one node's starts does:
// they are in one file.
//
// An agent that was killed may have lost its last events. An event that should be there
// and could be such a one is not held against it: the report counts these cases as
// Excused. Patience is the grace, and once more the grace after each fault, or restart, of the
// nodes that take part.
//
//	     uses                                        what is checked
//	I1   submitted, journaled, recovered, journal_on, the id is given out after the task is on disk; at every later
//	     forgotten                                   journal_on of its owner the task was recovered, unless forgotten
//	I2   submitted, ended, recovered                 it has ended when the histories do, if that is Settle after it was
//	                                                 submitted and after the last fault or restart; ephemeral tasks go with their owner
//	I3   ended, recovered, answered                  all of them name one state, and all ended one hash, over all starts;
//	                                                 what had ended is not recovered as not ended
//	I4   ended, offered, started, lease_lost         the owner offers nothing after the end; nothing starts after it and
//	                                                 patience, but attempts that the owner had given up
//	I5   journaled, offered, started                 numbers grow, over all starts; an attempt is on disk before it is
//	                                                 offered, and offered to whom starts it, before
//	I6   ended, result_received, started, finished   done: its owner had received that hash before, a worker has finished
//	                                                 with it; what finishes has started there; what was received was finished
//	I7   started, finished, granted, ended, truth    at most once: one start at most, by history and truth; none without
//	                                                 a grant before; lost only if granted, or never reached
//	I8   ended, truth                                done, and of kind command, file or git: one run of the truth has start and end
//	I9   started, result_received, truth             starts beyond the first that follow no failure are counted; with no
//	                                                 fault, restart or lost lease in all the histories there are none
//	I10  truth, fault, booted                        two runs of a task overlap only if a fault or restart of its owner or the
//	                                                 first's worker falls between their starts. There are no exclusive
//	                                                 tasks yet, so that this is checked of all
//	I11  revoked, finished, killed, started, truth   after it was told to stop, the worker does not start it, says within
//	                                                 patience that it ended, and the truth does not go on longer
//	I12  journaled, result_acked, answered           nothing is acknowledged, and no end is told, before it is on disk
//	I13  booted, started, finished, killed           the slots of what runs are no more than the worker's
//	I14  targets, submitted, offered, rejected,      a run has a task for each target and no other; a task of one worker is
//	     started, booted                             offered to no other; nothing runs where this start has refused it, or of
//	                                                 a kind that is not allowed. Queries of tasks for any worker are not
//	                                                 checked: what a worker's document was at that moment is in no history
//	I15  cancelled_told, ended, truth                of a cancelled task the truth has nothing later than the answer and patience
//	I16  submit, submitted, refused                  a key of an owner has one run and one hash of a body
//	I17  submitted, started, finished,               the spec that starts is the one submitted; the result received is one that was
//	     result_received, ended, answered            finished; the result that a client got is the one that it ended with
//	I18  started, stopped, leftover, swept           a harness has found nothing, and no worker stops while something runs. Without
//	                                                 a swept the report says that nobody has looked
//	I19  member_down, booted, fault                  failed only if either end was down, or had a fault, within Steady. Those with
//	                                                 nothing but loss of packets are counted apart, as a rate is promised for these
//	I20  deliver                                     the numbers that a client gets follow on each other, but where it is told
//	                                                 that some are missing
package verify
