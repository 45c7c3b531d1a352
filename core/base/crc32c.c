/* crc32c.c - CRC32C and zero detection through isa-l, which picks the widest instructions the processor has. */
#include "core/base/crc32c.h"

#include <isa-l/crc.h>
#include <isa-l/mem_routines.h>

#define PIECE_MAX ((size_t)1 << 30) /* isa-l takes lengths as int */

uint32_t crc32c_more(uint32_t crc, const void *data, size_t len)
{
	unsigned char *p = (unsigned char *)(uintptr_t)data; /* isa-l's prototype lacks the const */
	uint32_t state = ~crc;

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
