/* identity.c - see identity.h. One "key value" per line, a crc32c of everything before it on the last line. */
#include "brick/identity.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/base/crc32c.h"

#define REGION_BYTES MIB(1) /* of shard address space; a larger stripe makes a larger region */
#define REGIONS      64u
#define BRICKS_MAX   32u

int identity_complete(struct brick_identity *id, struct err *e)
{
	uint32_t c = id->chunk_bytes;

	if (gfid_is_null(&id->volume) || gfid_is_null(&id->brick))
		return err_set(e, -EINVAL, "volume and brick need a uuid");
	if (id->k < 1 || id->r < 1 || id->k > BRICKS_MAX || id->r > BRICKS_MAX || id->k + id->r > BRICKS_MAX)
		return err_set(e, -EINVAL, "%u+%u bricks in a set: need at least 1+1, at most %u in all", id->k, id->r,
			       BRICKS_MAX);
	if (id->brick_index >= id->k + id->r)
		return err_set(e, -EINVAL, "brick index %u in a set of %u", id->brick_index, id->k + id->r);
	if (c < 4096 || c > 65536 || (c & (c - 1)) != 0)
		return err_set(e, -EINVAL, "chunk of %u bytes: must be a power of two from 4096 to 65536", c);
	if (id->journal_bytes < BRICK_JOURNAL_MIN || id->journal_bytes > BRICK_JOURNAL_MAX ||
	    id->journal_bytes % MYFS_BLOCK)
		return err_set(e, -EINVAL, "journal of %" PRIu64 " bytes: must be 4 MiB to 64 GiB, a multiple of 4096",
			       id->journal_bytes);

	uint64_t stripes = REGION_BYTES / ((uint64_t)id->k * c);
	id->n = id->k + id->r;
	id->region_rows = (uint32_t)max_u64(1, stripes) * (c / MYFS_BLOCK);
	id->shard_rows = REGIONS * id->region_rows;
	return 0;
}

size_t identity_format(const struct brick_identity *id, char out[IDENTITY_TEXT_MAX])
{
	char volume[GFID_TEXT], brick[GFID_TEXT];
	int n = snprintf(out, IDENTITY_TEXT_MAX,
			 "myfs-brick %d\n"
			 "volume %s\n"
			 "brick %s\n"
			 "set %u\n"
			 "index %u\n"
			 "data %u\n"
			 "redundancy %u\n"
			 "chunk_bytes %u\n"
			 "journal_bytes %" PRIu64 "\n"
			 "xattrs %s\n",
			 BRICK_FORMAT, gfid_text(&id->volume, volume), gfid_text(&id->brick, brick), id->set_index,
			 id->brick_index, id->k, id->r, id->chunk_bytes, id->journal_bytes,
			 id->user_xattrs ? "user" : "trusted");
	size_t len = (size_t)n;

	len += (size_t)snprintf(out + len, IDENTITY_TEXT_MAX - len, "crc32c %08x\n", crc32c(out, len));
	return len;
}

int identity_parse(const char *text, size_t len, struct brick_identity *ret, struct err *e)
{
	char copy[IDENTITY_TEXT_MAX], volume[GFID_TEXT], brick[GFID_TEXT], prefix[8];
	struct brick_identity id = {0};
	unsigned format = 0, crc = 0;
	int crc_at = -1;
	struct err why = ERR_INIT;

	if (len >= sizeof(copy))
		return err_set(e, -EUCLEAN, "identity is longer than %u bytes", IDENTITY_TEXT_MAX - 1);
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (sscanf(copy, "myfs-brick %u", &format) == 1 && format != BRICK_FORMAT)
		return err_set(e, -EUCLEAN, "brick has format %u, this program knows %d: use the newer program", format,
			       BRICK_FORMAT);

	int got = sscanf(copy,
			 "myfs-brick %*u volume %36s brick %36s set %u index %u data %u redundancy %u chunk_bytes %u"
			 " journal_bytes %" SCNu64 " xattrs %7s %ncrc32c %8x",
			 volume, brick, &id.set_index, &id.brick_index, &id.k, &id.r, &id.chunk_bytes,
			 &id.journal_bytes, prefix, &crc_at, &crc);
	if (got != 10 || crc_at < 0 || crc != crc32c(copy, (size_t)crc_at))
		return err_set(e, -EUCLEAN, "identity is damaged");
	id.user_xattrs = strcmp(prefix, "user") == 0;
	if (gfid_parse(volume, &id.volume) || gfid_parse(brick, &id.brick) ||
	    (!id.user_xattrs && strcmp(prefix, "trusted") != 0) || identity_complete(&id, &why))
		return err_set(e, -EUCLEAN, "identity is impossible: %s", why.code ? why.text : "bad uuid or prefix");
	*ret = id;
	return 0;
}
