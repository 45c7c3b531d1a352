/* sandbox.c - see sandbox.h. The allocator is a bump pointer with free lists by size class; the program's writable data and this thread's variables are
 * copied at the first enter and copied back at leave. Fibers get their stacks from one region, in the place of core/loop/fiber_stack.c. */
#include "tests/sim/sandbox.h"

#include <assert.h>
#include <errno.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/loop/loop_priv.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED

bool sandbox_available(void)
{
	return false;
}

void sandbox_enter(void)
{
}

void sandbox_leave(void)
{
}

#else

#define ARENA_BYTES (UINT64_C(8) << 30) /* of addresses */
#define ARENA_KEEP MIB(384)             /* of memory, between schedules */
#define CLASSES 160u
#define SMALL 1024u
#define SMALL_STEP 32u
#define STACK_BYTES KIB(64)
#define STACK_GUARD KIB(16)
#define STACKS 8192u
#define PIECES_MAX 8u

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

/* In front of every block; back: from the block to the start of what was taken from the arena. */
struct head {
	uint32_t class;
	uint32_t back;
	uint64_t bytes;
};

struct piece {
	uint8_t *at, *copy;
	size_t bytes;
};

/* Everything that must not be put back itself lies in a mapping. */
struct sandbox {
	bool inside;
	uint8_t *arena, *next, *highest;
	void *free_list[CLASSES];
	struct piece pieces[PIECES_MAX];
	unsigned n_pieces;
	uint8_t *stacks;
	unsigned stacks_made, n_free;
	struct fiber *free_stacks[STACKS];
};

static struct sandbox *box;

bool sandbox_available(void)
{
	return true;
}

/* ---- allocator ---- */

/* Steps of 32 bytes up to 1 KiB, then four to an octave. */
static uint32_t class_of(size_t n, size_t *ret_bytes)
{
	if (n <= SMALL) {
		uint32_t c = (uint32_t)((n + SMALL_STEP - 1) / SMALL_STEP);
		*ret_bytes = (size_t)c * SMALL_STEP;
		return c;
	}
	unsigned octave = 63u - (unsigned)__builtin_clzll(n - 1); /* 2^octave < n <= 2^(octave + 1) */
	size_t step = (size_t)1 << (octave - 2), over = (n - 1 - ((size_t)1 << octave)) / step + 1;
	*ret_bytes = ((size_t)1 << octave) + over * step;
	return SMALL / SMALL_STEP + (octave - 10) * 4 + (uint32_t)over;
}

static void *arena_take(size_t n, size_t align)
{
	size_t bytes;
	uint32_t class = class_of(n + sizeof(struct head) + (align > 16 ? align : 0), &bytes);
	uint8_t *start = box->free_list[class];
	assert(class < CLASSES);
	if (start != NULL) {
		memcpy(&box->free_list[class], start, sizeof(void *));
	} else {
		start = box->next;
		box->next += bytes;
		if (box->next > box->arena + ARENA_BYTES) {
			box->next = start;
			errno = ENOMEM;
			return NULL;
		}
	}
	uintptr_t at = (uintptr_t)start + sizeof(struct head);
	at = (at + align - 1) / align * align;
	struct head *h = (struct head *)at - 1;
	*h = (struct head){class, (uint32_t)(at - (uintptr_t)start), n};
	return (void *)at;
}

static bool of_arena(const void *p)
{
	return box != NULL && (const uint8_t *)p >= box->arena && (const uint8_t *)p < box->arena + ARENA_BYTES;
}

void free(void *p)
{
	if (!of_arena(p)) {
		__libc_free(p);
		return;
	}
	const struct head *h = (const struct head *)p - 1;
	uint32_t class = h->class;
	uint8_t *start = (uint8_t *)p - h->back;
	memcpy(start, &box->free_list[class], sizeof(void *));
	box->free_list[class] = start;
}

void *malloc(size_t n)
{
	return box != NULL && box->inside ? arena_take(n, 16) : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	if (box == NULL || !box->inside)
		return __libc_calloc(n, size);
	size_t bytes;
	void *p = __builtin_mul_overflow(n, size, &bytes) ? NULL : arena_take(bytes, 16);
	return p != NULL ? memset(p, 0, bytes) : NULL;
}

void *realloc(void *p, size_t n)
{
	if (p == NULL)
		return malloc(n);
	if (!of_arena(p))
		return __libc_realloc(p, n); /* made before the sandbox was entered, or outside of it */
	uint64_t had = ((const struct head *)p - 1)->bytes;
	void *q = malloc(n);
	if (q != NULL) {
		memcpy(q, p, min_u64(had, n));
		free(p);
	}
	return q;
}

void *aligned_alloc(size_t align, size_t n)
{
	return box != NULL && box->inside ? arena_take(n, align) : __libc_memalign(align, n);
}

void *memalign(size_t align, size_t n);
void *memalign(size_t align, size_t n)
{
	return aligned_alloc(align, n);
}

int posix_memalign(void **ret, size_t align, size_t n)
{
	void *p = aligned_alloc(align, n);
	if (p == NULL)
		return ENOMEM;
	*ret = p;
	return 0;
}

/* ---- stacks ---- */

static void *reserve(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert(p != MAP_FAILED);
	return p;
}

static void box_make(void)
{
	if (box != NULL)
		return;
	struct sandbox *b = reserve(sizeof(*b));
	b->arena = b->next = b->highest = reserve(ARENA_BYTES);
	b->stacks = reserve((size_t)STACKS * (STACK_BYTES + STACK_GUARD));
	box = b;
}

struct fiber *fiber_stack_new(unsigned colour)
{
	(void)colour; /* each keeps the one it was made with */
	box_make();
	if (box->n_free > 0)
		return box->free_stacks[--box->n_free];
	if (box->stacks_made == STACKS)
		return NULL;
	size_t len = STACK_BYTES + STACK_GUARD, above = (sizeof(struct fiber) + 63) / 64 * 64 + (box->stacks_made % 8) * 512;
	uint8_t *map = box->stacks + (size_t)box->stacks_made++ * len;
	if (mprotect(map, STACK_GUARD, PROT_NONE) < 0)
		return NULL;
	struct fiber *f = (struct fiber *)(void *)(map + len - above);
	f->stack = (struct fiber_stack){.map = map, .map_len = len, .bottom = map + STACK_GUARD, .size = len - STACK_GUARD - above};
	return f;
}

void fiber_stack_free(struct fiber *f)
{
	box->free_stacks[box->n_free++] = f;
}

void fiber_stack_reuse(struct fiber *f)
{
	(void)f;
}

static void stacks_reset(void)
{
	size_t len = STACK_BYTES + STACK_GUARD, head = (sizeof(struct fiber) + 63) / 64 * 64;
	box->n_free = 0;
	for (unsigned i = box->stacks_made; i-- > 0;)
		box->free_stacks[box->n_free++] = (struct fiber *)(void *)(box->stacks + (size_t)(i + 1) * len - head - (i % 8) * 512);
}

/* ---- static data ---- */

static void piece_add(uintptr_t from, uintptr_t to)
{
	if (from >= to)
		return;
	assert(box->n_pieces < PIECES_MAX);
	struct piece *p = &box->pieces[box->n_pieces++];
	*p = (struct piece){(uint8_t *)from, reserve(to - from), to - from};
	memcpy(p->copy, p->at, p->bytes);
}

/* The program's own segments; libraries have nothing that a schedule changes. */
static int find_pieces(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t ro_from = 0, ro_to = 0;
	(void)size, (void)arg;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		if (h->p_type == PT_GNU_RELRO) {
			ro_from = info->dlpi_addr + h->p_vaddr;
			ro_to = (ro_from + h->p_memsz + 4095) / 4096 * 4096;
		}
	}
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		uintptr_t from = info->dlpi_addr + h->p_vaddr, to = from + h->p_memsz;
		if (h->p_type == PT_TLS && info->dlpi_tls_data != NULL) {
			piece_add((uintptr_t)info->dlpi_tls_data, (uintptr_t)info->dlpi_tls_data + h->p_memsz);
		} else if (h->p_type == PT_LOAD && (h->p_flags & PF_W)) {
			piece_add(from, min_u64(to, ro_from > from ? ro_from : from));
			piece_add(ro_to > from ? ro_to : from, to);
		}
	}
	return 1;
}

void sandbox_enter(void)
{
	box_make();
	assert(!box->inside);
	if (box->n_pieces == 0)
		dl_iterate_phdr(find_pieces, NULL);
	stacks_reset();
	box->inside = true;
}

void sandbox_leave(void)
{
	box->inside = false;
	for (unsigned i = 0; i < box->n_pieces; i++)
		memcpy(box->pieces[i].at, box->pieces[i].copy, box->pieces[i].bytes);
	box->highest = box->next > box->highest ? box->next : box->highest;
	if (box->highest > box->arena + ARENA_KEEP) {
		madvise(box->arena + ARENA_KEEP, (size_t)(box->highest - box->arena - (ptrdiff_t)ARENA_KEEP), MADV_DONTNEED);
		box->highest = box->arena + ARENA_KEEP;
	}
	box->next = box->arena;
	memset(box->free_list, 0, sizeof(box->free_list));
}

#endif
