/* fiber_stack.c - memory of fibers: a guard page, the stack, and the struct fiber above it, in one mapping.
 *
 *   map                bottom                                      top
 *   | guard, no access | <------------- stack, grows down -------- | struct fiber | colour |
 *
 * The colour moves the busy end of each stack by a different multiple of 512 bytes, so that many fibers parked at the same
 * depth do not all compete for the same few cache sets. Sanitizers and valgrind are told that this memory is a stack. */
#include <sys/mman.h>

#include "core/loop/loop_priv.h"

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#ifdef FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(start, end) 0
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

#ifdef FIBER_ASAN
#define STACK_BYTES KIB(256) /* instrumented frames are several times larger */
#else
#define STACK_BYTES KIB(64)
#endif
#define GUARD_BYTES KIB(16) /* wider than any frame, so that none steps over it */
#define COLOURS 8u
#define COLOUR_BYTES 512u

struct fiber *fiber_stack_new(unsigned colour)
{
	size_t len = STACK_BYTES + GUARD_BYTES;
	uint8_t *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return NULL;
	if (mprotect(map, GUARD_BYTES, PROT_NONE) < 0) {
		munmap(map, len);
		return NULL;
	}
	size_t above = round_up_u64(sizeof(struct fiber), 64) + (colour % COLOURS) * COLOUR_BYTES;
	struct fiber *f = (struct fiber *)(void *)(map + len - above);
	f->stack = (struct fiber_stack){
	    .map = map,
	    .map_len = len,
	    .bottom = map + GUARD_BYTES,
	    .size = len - GUARD_BYTES - above,
	    .valgrind_id = (unsigned)VALGRIND_STACK_REGISTER(map + GUARD_BYTES, map + len - above),
	};
#ifdef FIBER_ASAN
	/* Pointers that only a parked fiber holds are not leaks. */
	__lsan_register_root_region(f->stack.bottom, len - GUARD_BYTES);
#endif
	return f;
}

void fiber_stack_free(struct fiber *f)
{
	struct fiber_stack s = f->stack;
	VALGRIND_STACK_DEREGISTER(s.valgrind_id);
#ifdef FIBER_ASAN
	__lsan_unregister_root_region(s.bottom, s.map_len - GUARD_BYTES);
	__asan_unpoison_memory_region(s.bottom, s.size);
#endif
	munmap(s.map, s.map_len);
}

void fiber_stack_reuse(struct fiber *f)
{
#ifdef FIBER_ASAN
	__asan_unpoison_memory_region(f->stack.bottom, f->stack.size);
#else
	(void)f;
#endif
}
