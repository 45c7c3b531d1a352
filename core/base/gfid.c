/* gfid.c - making, naming and parsing the 16-byte identity of files, through libuuid. */
#include "core/base/gfid.h"

#include <stdio.h>
#include <uuid/uuid.h>

const struct gfid GFID_NULL = {{0}};
const struct gfid GFID_ROOT = {{[15] = 1}};
const struct gfid GFID_SHARD_DIR = {
    {0xbe, 0x31, 0x86, 0x38, 0xe8, 0xa0, 0x4c, 0x6d, 0x97, 0x7d, 0x7a, 0x93, 0x7a, 0xa8, 0x48, 0x06}};
const struct gfid GFID_BLOCK_DIR = {
    {0x6d, 0x79, 0x66, 0x73, 0x00, 0x00, 0x40, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01}};

struct gfid gfid_from_random(const uint8_t random[16])
{
	struct gfid g;

	memcpy(g.b, random, sizeof(g.b));
	g.b[6] = (uint8_t)((g.b[6] & 0x0f) | 0x40); /* RFC 4122 version 4 */
	g.b[8] = (uint8_t)((g.b[8] & 0x3f) | 0x80); /* RFC 4122 variant */
	return g;
}

struct gfid gfid_of_shard(const struct gfid *base, uint32_t index)
{
	if (index == 0)
		return *base;

	char name[GFID_TEXT + 12];
	char text[GFID_TEXT];
	int len = snprintf(name, sizeof(name), "%s.%u", gfid_text(base, text), index);
	struct gfid g;
	uuid_generate_sha1(g.b, GFID_SHARD_DIR.b, name, (size_t)len);
	return g;
}

char *gfid_text(const struct gfid *g, char out[GFID_TEXT])
{
	uuid_unparse_lower(g->b, out);
	return out;
}

int gfid_parse(const char *text, struct gfid *ret)
{
	struct gfid g;

	if (uuid_parse(text, g.b) != 0)
		return -EINVAL;
	*ret = g;
	return 0;
}
