/* mutate.h - rules that a test build can switch off, to see whether the tests would notice (ec/PROTOCOL.md, Holes a simpler protocol has).
 *
 * MUTATED(H4) stands beside the line that keeps the rule. In production builds it is the constant false; in builds with MYFS_MUTANTS it is true when
 * mutate_rule names that rule, which only the simulator does (myfs-sim --mutate H4), once, before anything runs. */
#ifndef MYFS_MUTATE_H
#define MYFS_MUTATE_H

#include <stdbool.h>

#define MUTATE_RULES(X)                                                                                                                            \
	X(H1, "a view that drops a brick is not written")                                                                                          \
	X(H2, "quorums of promises and views are K, not W")                                                                                        \
	X(H3, "bricks that lost memory count as firm")                                                                                             \
	X(H4, "checkpoint of whatever is committed")                                                                                               \
	X(H5, "what FOLD records say is not looked at")                                                                                            \
	X(H6, "whole-stripe and reconstruct-writes lock no rows")                                                                                  \
	X(H7, "degraded reads lock no rows")                                                                                                       \
	X(H8, "a transaction built on an aborted one is committed")                                                                                \
	X(H8B, "a reconstruct-write built on an aborted transaction is committed")                                                                 \
	X(H9, "new boot ids are recorded before the resolution")                                                                                   \
	X(H10, "a healed brick joins without a flush")                                                                                             \
	X(H11, "a rollback does not wait for missing bricks")                                                                                      \
	X(H12, "at K in sync writes are not durable")                                                                                              \
	X(H13, "reads of an owner are not confirmed by a quorum")                                                                                  \
	X(H14, "an emptied brick counts as one that knows the domain")                                                                             \
	X(H15, "a second owner may take an equal epoch")                                                                                           \
	X(H16, "missed regions are cleared when healing begins")                                                                                   \
	X(H17, "space is not looked at before a PREP is answered")                                                                                 \
	X(H18, "a failed fsync of the journal is ignored")                                                                                         \
	X(H19, "old bytes are not verified before they are used")                                                                                  \
	X(H20, "checksums are not made durable with their data")                                                                                   \
	X(H21, "sessions of a gateway's earlier connections go on")                                                                                \
	X(H22, "writes of the same blocks do not wait for each other")                                                                                    \
	X(H23, "bricks are sent more than they gave credit for")                                                                                          \
	X(H24, "which shards exist is asked of any brick")                                                                                         \
	X(H25, "a loss of what was acknowledged is not told")                                                                                             \
	X(H26, "K+R survives R, whatever the quorum")                                                                                              \
	X(H27, "a brick that does not answer is waited for")                                                                                       \
	X(H29, "acknowledgements while a view is being written")                                                                                   \
	X(H30, "a brick that starts on the same kernel boot counts as firm, whatever its journal has lost")

enum mutate_rule {
	MUTATE_NONE,
#define MUTATE_ENUM(name, text) MUTATE_##name,
	MUTATE_RULES(MUTATE_ENUM)
#undef MUTATE_ENUM
	MUTATE_N
};

#ifdef MYFS_MUTANTS
extern enum mutate_rule mutate_rule;
#define MUTATED(name) (__builtin_expect(mutate_rule == MUTATE_##name, 0))
#else
#define MUTATED(name) false
#endif

/* "H4"; NULL for none. And back: MUTATE_N when there is no such rule. */
const char *mutate_name(enum mutate_rule rule);
const char *mutate_text(enum mutate_rule rule);
enum mutate_rule mutate_find(const char *name);

#endif
