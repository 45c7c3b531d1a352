/* crc32c.c - CRC32C and zero detection through isa-l, which picks the widest instructions the processor has. Heads of frames and records are too
 * short for these to pay: they take the processor's own crc32, eight bytes at a time. */
#include "core/base/crc32c.h"

#include <isa-l/crc.h>
#include <isa-l/mem_routines.h>

#define PIECE_MAX ((size_t)1 << 30) /* isa-l takes lengths as int */

#define SHORT_MAX 128u

#ifdef __x86_64__
static bool short_available(void)
{
	return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) static uint32_t short_crc(uint32_t state, const uint8_t *p, size_t len)
{
	uint64_t s = state, v;

	for (; len >= sizeof(v); p += sizeof(v), len -= sizeof(v)) {
		memcpy(&v, p, sizeof(v));
		s = __builtin_ia32_crc32di(s, v);
	}
	for (; len > 0; len--)
		s = __builtin_ia32_crc32qi((uint32_t)s, *p++);
	return (uint32_t)s;
}
#else
static bool short_available(void)
{
	return false;
}

static uint32_t short_crc(uint32_t state, const uint8_t *p, size_t len)
{
	(void)p;
	(void)len;
	return state;
}
#endif

uint32_t crc32c_more(uint32_t crc, const void *data, size_t len)
{
	unsigned char *p = (unsigned char *)(uintptr_t)data; /* isa-l's prototype lacks the const */
	uint32_t state = ~crc;

	if (len <= SHORT_MAX && short_available())
		return ~short_crc(state, p, len);
	while (len > 0) {
		size_t piece = min_u64(len, PIECE_MAX);
		state = crc32_iscsi(p, (int)piece, state);
		p += piece;
		len -= piece;
	}
	return ~state;
}

uint32_t crc32c(const void *data, size_t len) { return crc32c_more(0, data, len); }

bool mem_is_zero(const void *data, size_t len)
{
	return isal_zero_detect((void *)(uintptr_t)data, len) == 0;
}
