/* fuzz_nbd_options.c - what an unauthenticated client may say: the input is everything it sends, from its flags on.
 *
 * Byte 0 chooses how the stream is cut and whether TLS is required. The option parser is called once more directly, on
 * a copy of exact size, so that a sanitizer sees any byte read beyond the option. */
#include "handlers/nbd/option.h"
#include "nbd_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void parse_alone(const uint8_t *data, size_t len)
{
	static struct nbd_option o;
	const char *why = NULL;
	uint8_t *exact = malloc(len ? len : 1);

	MUST(exact);
	memcpy(exact, data, len);
	for (uint32_t id = 0; id < 12; id++) {
		uint32_t reply = nbd_option_parse(id, exact, len, &o, &why);
		if (reply == 0)
			MUST(o.name_len <= NBD_STRING_MAX && strlen(o.name) == o.name_len);
		else
			MUST(reply >= NBD_REP_ERR_UNSUP && why);
	}
	free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len < 1)
		return 0;
	parse_alone(data + 1, len - 1);
	fuzz_session(&(struct fuzz_run){
	    .data = data + 1,
	    .len = len - 1,
	    .most = data[0] & 1 ? (size_t)1 + data[0] / 16 : SIZE_MAX,
	    .tls_require = (data[0] & 6) == 6,
	});
	return 0;
}
