/* base.h - words every file of myfs uses: suspend marker, cleanup attributes, checked sizes.
 *
 * Nothing here does I/O or allocates. */
#ifndef MYFS_BASE_H
#define MYFS_BASE_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

/* A function marked YIELDS may suspend the calling fiber. Calls of YIELDS functions are the only
 * suspend points: between two of them code is atomic on its loop, after one every piece of shared
 * state must be looked at again. The marker is documentation; tests/lint checks that a function that
 * calls a YIELDS function is itself marked, or is a fiber's entry. */
#define YIELDS

#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MUST_CHECK __attribute__((warn_unused_result))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_US UINT64_C(1000)
#define NS_PER_S UINT64_C(1000000000)

/* The unit of atomicity, checksum and lock: one block of one chunk (see ec/README.md). */
#define MYFS_BLOCK 4096u

static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static inline uint64_t div_up_u64(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }
static inline uint64_t round_down_u64(uint64_t a, uint64_t unit) { return a - a % unit; }
static inline uint64_t round_up_u64(uint64_t a, uint64_t unit) { return div_up_u64(a, unit) * unit; }

/* True when [off, off+len) lies inside [0, size) without wrapping. */
static inline bool range_inside(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

#endif
