/* The distribution hash must agree with GlusterFS bit for bit: its vectors, and its rule for temporary names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "dht/hash.h"

static const struct {
	const char *name;
	uint32_t hash;
} vectors[] = {
    {"", 0x884774a2},
    {"a", 0x3a17e4e6},
    {"ab", 0xc3af40d9},
    {"abc", 0xba8bd29a},
    {"abcd", 0xd89627f6},
    {"file1", 0xa787fa82},
    {"0123456789abcde", 0x9fc1c536},
    {"0123456789abcdef", 0x6ecb5ada},
    {"0123456789abcdefg", 0x7f5d9903},
    {"block-store", 0xd106236e},
    {"disk.img", 0x03b4888f},
    {"\xc3\xa9", 0x65cfcaa1},
    {"e84ecc2e-58ea-4ee6-bc9f-aaf5c3d5a5c0.1", 0x7d4cf39f},
};

static void the_hash_agrees_with_glusterfs_on_all_its_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
		assert_int_equal(dht_hash(vectors[i].name, strlen(vectors[i].name)), vectors[i].hash);
}

static const struct {
	const char *name, *part;
} munged[] = {
    {".disk.Zf3kQ1", "disk"},
    {".a.b.c", "a.b"},
    {"..x.y", ".x"},
    {"...x", "."},
    {"disk.img", "disk.img"},
    {".hidden", ".hidden"},
    {".x.", ".x."},
    {"..x", "..x"},
    {"...", "..."},
    {".", "."},
    {"", ""},
    {".a.b", "a"},
};

static void temporary_names_hash_like_the_name_they_will_get(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(munged); i++) {
		size_t len;
		const char *part = dht_hash_part(munged[i].name, &len);

		assert_int_equal(len, strlen(munged[i].part));
		assert_int_equal(strncmp(part, munged[i].part, len), 0);
		assert_int_equal(dht_hash_name(munged[i].name), dht_hash(munged[i].part, len));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_hash_agrees_with_glusterfs_on_all_its_vectors),
	    cmocka_unit_test(temporary_names_hash_like_the_name_they_will_get),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
