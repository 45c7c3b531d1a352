/* exports.h - LUNs as NBD exports: what handlers/nbd asks of us. */
#ifndef MYFS_BLOCKD_EXPORTS_H
#define MYFS_BLOCKD_EXPORTS_H

#include "blockd/blockd.h"

struct nbd_provider exports_provider(struct blockd *d);
/* "vol/lun" into its two names. 0 or -EINVAL with text. */
int lun_spec_parse(const char *spec, char ret_volume[REG_NAME], char ret_name[REG_NAME], struct err *e);

#endif
