/* hash.c - the distribution hash of GlusterFS, so that its names and layouts mean the same here.
 *
 * A Davies-Meyer chain: each 16-byte block of the message is the key of a TEA cipher that encrypts the chaining value,
 * and the result is added to it. The chain always ends with a padded block, also when the message fills whole blocks;
 * that block gets more rounds. Two quirks are part of the function: bytes of the last block are sign-extended, and the
 * unfinished word is built most significant byte first while whole words are little endian. */
#include "dht/hash.h"

#define ROUNDS_FULL 6u
#define ROUNDS_LAST 10u
#define BLOCK_BYTES 16u

struct chain {
	uint32_t h[2];
};

static uint32_t word_le(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void chain_block(struct chain *c, const uint32_t key[4], unsigned rounds)
{
	uint32_t a = c->h[0], b = c->h[1], sum = 0;

	while (rounds--) {
		sum += UINT32_C(0x9E3779B9);
		a += ((b << 4) + key[0]) ^ (b + sum) ^ ((b >> 5) + key[1]);
		b += ((a << 4) + key[2]) ^ (a + sum) ^ ((a >> 5) + key[3]);
	}
	c->h[0] += a;
	c->h[1] += b;
}

/* The last block: what is left of the message (0..15 bytes), then the length in every byte. */
static void last_block_key(const uint8_t *p, size_t left, uint32_t pad, uint32_t key[4])
{
	for (unsigned i = 0; i < 4; i++) {
		size_t here = left < 4 ? left : 4;

		if (here == 4) {
			key[i] = word_le(p);
		} else {
			key[i] = pad;
			for (size_t j = 0; j < here; j++) {
				uint32_t extended = (uint32_t)(int8_t)p[j];

				key[i] = key[i] << 8 | extended;
			}
		}
		p += here;
		left -= here;
	}
}

uint32_t dht_hash(const void *data, size_t len)
{
	struct chain c = {{UINT32_C(0x9464A485), UINT32_C(0x542E1A94)}};
	uint32_t pad = (uint32_t)len | (uint32_t)len << 8;
	const uint8_t *p = data;
	size_t left = len;
	uint32_t key[4];

	pad |= pad << 16;
	for (; left >= BLOCK_BYTES; left -= BLOCK_BYTES, p += BLOCK_BYTES) {
		for (unsigned i = 0; i < 4; i++)
			key[i] = word_le(p + 4 * i);
		chain_block(&c, key, ROUNDS_FULL);
	}
	last_block_key(p, left, pad, key);
	chain_block(&c, key, ROUNDS_LAST);
	return c.h[0] ^ c.h[1];
}

const char *dht_hash_part(const char *name, size_t *ret_len)
{
	const char *last = strrchr(name, '.');

	/* ".(1 or more)." then at least one byte that is not a dot; the last dot is the one that splits. */
	if (name[0] == '.' && last > name + 1 && last[1] != '\0') {
		*ret_len = (size_t)(last - name) - 1;
		return name + 1;
	}
	*ret_len = strlen(name);
	return name;
}

uint32_t dht_hash_name(const char *name)
{
	size_t len;
	const char *part = dht_hash_part(name, &len);

	return dht_hash(part, len);
}
