/* fuzz_nbd_requests.c - what a client may say once it has an export: the input is its transmission, behind a good
 * handshake.
 *
 * Byte 0 chooses how the stream is cut and whether structured replies and base:allocation were negotiated. */
#include "nbd_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define OPT "IHAVEOPT"
static const char plain[] = "\0\0\0\3" OPT "\0\0\0\1\0\0\0\7vol/lun";
static const char structured[] =
    "\0\0\0\3" OPT "\0\0\0\x08\0\0\0\0" OPT "\0\0\0\x0a\0\0\0\x22\0\0\0\7vol/lun\0\0\0\1\0\0\0\x0f"
    "base:allocation" OPT "\0\0\0\7\0\0\0\x0d\0\0\0\7vol/lun\0\0";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len < 1)
		return 0;
	const char *head = data[0] & 2 ? structured : plain;
	size_t head_len = data[0] & 2 ? sizeof(structured) - 1 : sizeof(plain) - 1;
	uint8_t *all = malloc(head_len + len);

	MUST(all);
	memcpy(all, head, head_len);
	memcpy(all + head_len, data + 1, len - 1);
	fuzz_session(&(struct fuzz_run){
	    .data = all,
	    .len = head_len + len - 1,
	    .most = data[0] & 1 ? (size_t)1 + data[0] / 16 : SIZE_MAX,
	});
	free(all);
	return 0;
}
