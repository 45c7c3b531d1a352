/* option.h - one negotiation option, from bytes to a validated struct. No I/O, no allocation. */
#ifndef MYFS_NBD_OPTION_H
#define MYFS_NBD_OPTION_H

#include "handlers/nbd/wire.h"

/* What one option asks for. Only the fields of its kind are set. */
struct nbd_option {
	uint32_t id; /* enum nbd_opt, or one this server does not know */
	uint32_t name_len;
	char name[NBD_STRING_MAX + 1]; /* EXPORT_NAME, INFO, GO, *_META_CONTEXT: valid UTF-8 without NUL inside */
	bool wants_name, wants_description, wants_block_size; /* INFO, GO */
	uint32_t queries;                                     /* *_META_CONTEXT */
	bool asks_allocation;                                 /* a query names base:allocation */
	bool asks_base;                                       /* a query is the wildcard "base:" */
};

/* The client's answer to the greeting. 0, or -EPROTO for a flag we did not offer (the connection must be dropped). */
int nbd_client_flags_parse(const uint8_t bytes[NBD_CLIENT_FLAGS_BYTES], bool *ret_fixed, bool *ret_no_zeroes);
/* 0, or -EPROTO on wrong magic. */
int nbd_option_head_parse(const uint8_t bytes[NBD_OPTION_HEAD_BYTES], uint32_t *ret_id, uint32_t *ret_len);
/* Parses the data of option `id`. 0 with *o filled, or the NBD_REP_ERR_* to answer with *ret_why (static text) saying
 * why; for EXPORT_NAME, which cannot be answered with an error, any value but 0 means: drop the connection. */
uint32_t nbd_option_parse(uint32_t id, const uint8_t *data, size_t len, struct nbd_option *o, const char **ret_why);

#endif
