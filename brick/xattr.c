/* xattr.c - see xattr.h. */
#include "brick/xattr.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

#include "core/base/bytes.h"

void xattr_ec_config(const struct brick_identity *id, uint8_t out[XATTR_CONFIG_BYTES])
{
	struct wcur w = wcur_of(out, XATTR_CONFIG_BYTES);

	wcur_u8(&w, 0);
	wcur_u8(&w, XATTR_ALGORITHM_CAUCHY);
	wcur_u8(&w, 8);
	wcur_u8(&w, (uint8_t)id->n);
	wcur_be32(&w, id->r << 24 | id->chunk_bytes);
}

void xattr_mdata(uint64_t wall_ns, uint8_t out[XATTR_MDATA_BYTES])
{
	struct wcur w = wcur_of(out, XATTR_MDATA_BYTES);

	wcur_u8(&w, 1);
	wcur_be64(&w, 0);
	for (int i = 0; i < 3; i++) { /* ctime, mtime, atime */
		wcur_be64(&w, wall_ns / NS_PER_S);
		wcur_be64(&w, wall_ns % NS_PER_S);
	}
}

void xattr_counters(uint64_t data, uint64_t metadata, uint8_t out[XATTR_COUNTERS_BYTES])
{
	struct wcur w = wcur_of(out, XATTR_COUNTERS_BYTES);

	wcur_be64(&w, data);
	wcur_be64(&w, metadata);
}

void xattr_be64(uint64_t v, uint8_t out[8])
{
	struct wcur w = wcur_of(out, 8);

	wcur_be64(&w, v);
}

size_t xattr_gfid2path(const struct gfid *parent, const char *name, char key[XATTR_GFID2PATH_KEY],
		       char value[XATTR_GFID2PATH_VALUE])
{
	char text[GFID_TEXT];
	int len = snprintf(value, XATTR_GFID2PATH_VALUE, "%s/%s", gfid_text(parent, text), name);

	assert(len > 0 && (size_t)len < XATTR_GFID2PATH_VALUE);
	snprintf(key, XATTR_GFID2PATH_KEY, "%s%016" PRIx64, XATTR_GFID2PATH, (uint64_t)XXH64(value, (size_t)len, 0));
	return (size_t)len;
}

bool xattr_is_internal(const char *name)
{
	static const char *const ours[] = {XATTR_VOLUME_ID, XATTR_GFID,       XATTR_MDATA,
					   XATTR_EC_CONFIG, XATTR_EC_VERSION, XATTR_EC_DIRTY};

	for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
		if (strcmp(name, ours[i]) == 0)
			return true;
	}
	return strncmp(name, XATTR_GFID2PATH, strlen(XATTR_GFID2PATH)) == 0;
}

bool xattr_name_ok(const char *name)
{
	size_t len = strnlen(name, XATTR_NAME_BYTES);

	return len > 0 && len <= 240 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

static void describe_hex(const uint8_t *v, size_t len, char *out, size_t cap)
{
	size_t at = (size_t)snprintf(out, cap, "0x");

	for (size_t i = 0; i < len && at + 3 <= cap; i++)
		at += (size_t)snprintf(out + at, cap - at, "%02x", v[i]);
}

static void describe_config(const uint8_t *v, char *out, size_t cap)
{
	uint32_t chunk = (uint32_t)v[5] << 16 | (uint32_t)v[6] << 8 | v[7];

	snprintf(out, cap, "%d+%u, %s, chunk %u bytes", v[3] - v[4], v[4],
		 v[1] == XATTR_ALGORITHM_CAUCHY ? "systematic Cauchy" : "unknown algorithm", chunk);
}

static void describe_times(const uint8_t *v, size_t len, char *out, size_t cap)
{
	struct rcur c = rcur_of(v, len);
	uint64_t t[6];

	rcur_bytes(&c, 9);
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		t[i] = rcur_be64(&c);
	snprintf(out, cap,
		 "ctime %" PRIu64 ".%09" PRIu64 " mtime %" PRIu64 ".%09" PRIu64 " atime %" PRIu64 ".%09" PRIu64, t[0],
		 t[1], t[2], t[3], t[4], t[5]);
}

void xattr_describe(const char *name, const uint8_t *value, size_t len, char *out, size_t cap)
{
	struct rcur c = rcur_of(value, len);
	struct gfid g;
	char text[GFID_TEXT];

	if ((strcmp(name, XATTR_GFID) == 0 || strcmp(name, XATTR_VOLUME_ID) == 0) && len == sizeof(g)) {
		memcpy(g.b, value, sizeof(g));
		snprintf(out, cap, "%s", gfid_text(&g, text));
	} else if (strcmp(name, XATTR_EC_CONFIG) == 0 && len == XATTR_CONFIG_BYTES) {
		describe_config(value, out, cap);
	} else if (strcmp(name, XATTR_EC_SIZE) == 0 && len == 8) {
		snprintf(out, cap, "%" PRIu64 " bytes", rcur_be64(&c));
	} else if (strcmp(name, XATTR_EC_VERSION) == 0 && len == XATTR_COUNTERS_BYTES) {
		uint64_t data = rcur_be64(&c);
		snprintf(out, cap, "data version %" PRIu64 ", metadata version %" PRIu64, data, rcur_be64(&c));
	} else if (strcmp(name, XATTR_EC_DIRTY) == 0 && len == XATTR_COUNTERS_BYTES) {
		uint64_t data = rcur_be64(&c), metadata = rcur_be64(&c);
		snprintf(out, cap, data || metadata ? "%" PRIu64 " regions need work, metadata %" PRIu64 : "clean",
			 data, metadata);
	} else if (strcmp(name, XATTR_DHT) == 0 && len == 16) {
		uint32_t commit = rcur_be32(&c), type = rcur_be32(&c), start = rcur_be32(&c), stop = rcur_be32(&c);
		snprintf(out, cap, "hash range %08x-%08x, type %u, commit %u", start, stop, type, commit);
	} else if (strcmp(name, XATTR_MDATA) == 0 && len == XATTR_MDATA_BYTES) {
		describe_times(value, len, out, cap);
	} else if (strncmp(name, XATTR_GFID2PATH, strlen(XATTR_GFID2PATH)) == 0) {
		snprintf(out, cap, "%.*s", (int)min_u64(len, 512), (const char *)value);
	} else if ((strcmp(name, XATTR_SHARD_BLOCK_SIZE) == 0 && len == 8) ||
		   (strcmp(name, XATTR_SHARD_FILE_SIZE) == 0 && len == 32)) {
		snprintf(out, cap, "%" PRIu64 " bytes", rcur_be64(&c));
	} else {
		describe_hex(value, len, out, cap);
	}
}
