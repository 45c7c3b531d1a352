/* crc32c.h - CRC32C (Castagnoli, RFC 3720 appendix B.4) through isa-l; initial value and final xor ~0. */
#ifndef MYFS_CRC32C_H
#define MYFS_CRC32C_H

#include "core/base/base.h"

uint32_t crc32c(const void *data, size_t len);
/* Continues: crc32c_more(crc32c(a), b) == crc32c(a || b). */
uint32_t crc32c_more(uint32_t crc, const void *data, size_t len);
#define CRC32C_ZERO_BLOCK UINT32_C(0x98F94189) /* crc32c of MYFS_BLOCK zero bytes; a unit test checks it */
/* True when all len bytes are zero; len a multiple of 64. */
bool mem_is_zero(const void *data, size_t len);

#endif
