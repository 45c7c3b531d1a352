/* sandbox.h - memory of one schedule: what it allocates, its static data and its fibers' stacks, all put back at its end, however much killed fibers
 * left behind. So one process runs schedule after schedule, each from the same memory, without the page faults of a new one.
 *
 *   sandbox_enter()   malloc and friends serve from an arena from here on      sandbox_leave()   as if nothing since enter had ever happened
 *
 * Only what lies outside survives: the caller's stack, mappings, what was allocated before. Not under sanitizers, which want malloc for themselves. */
#ifndef MYFS_SIM_SANDBOX_H
#define MYFS_SIM_SANDBOX_H

#include <stdbool.h>

bool sandbox_available(void);
void sandbox_enter(void);
void sandbox_leave(void);

#endif
