/* wire.h - every number and limit of the NBD protocol that this server speaks.
 *
 * Names follow the protocol document so that they can be searched there. All integers travel big-endian. */
#ifndef MYFS_NBD_WIRE_H
#define MYFS_NBD_WIRE_H

#include "core/base/base.h"

/* "Newstyle negotiation", "Fixed newstyle negotiation" */
#define NBD_INIT_MAGIC         UINT64_C(0x4e42444d41474943) /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC       UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC UINT64_C(0x0003e889045565a9)

/* "Handshake flags", "Client flags" */
#define NBD_FLAG_FIXED_NEWSTYLE   0x1u
#define NBD_FLAG_NO_ZEROES        0x2u
#define NBD_FLAG_C_FIXED_NEWSTYLE 0x1u
#define NBD_FLAG_C_NO_ZEROES      0x2u

/* "Transmission flags" */
#define NBD_FLAG_HAS_FLAGS         0x001u
#define NBD_FLAG_READ_ONLY         0x002u
#define NBD_FLAG_SEND_FLUSH        0x004u
#define NBD_FLAG_SEND_FUA          0x008u
#define NBD_FLAG_ROTATIONAL        0x010u
#define NBD_FLAG_SEND_TRIM         0x020u
#define NBD_FLAG_SEND_WRITE_ZEROES 0x040u
#define NBD_FLAG_SEND_DF           0x080u
#define NBD_FLAG_CAN_MULTI_CONN    0x100u
#define NBD_FLAG_SEND_CACHE        0x400u
#define NBD_FLAG_SEND_FAST_ZERO    0x800u

/* "Option types" */
enum nbd_opt {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
};

/* "Option reply types" */
#define NBD_REP_ACK          UINT32_C(1)
#define NBD_REP_SERVER       UINT32_C(2)
#define NBD_REP_INFO         UINT32_C(3)
#define NBD_REP_META_CONTEXT UINT32_C(4)
#define NBD_REP_ERR_UNSUP    UINT32_C(0x80000001)
#define NBD_REP_ERR_POLICY   UINT32_C(0x80000002)
#define NBD_REP_ERR_INVALID  UINT32_C(0x80000003)
#define NBD_REP_ERR_TLS_REQD UINT32_C(0x80000005)
#define NBD_REP_ERR_UNKNOWN  UINT32_C(0x80000006)
#define NBD_REP_ERR_SHUTDOWN UINT32_C(0x80000007)
#define NBD_REP_ERR_TOO_BIG  UINT32_C(0x80000009)

/* "NBD_REP_INFO": information types */
#define NBD_INFO_EXPORT      0u
#define NBD_INFO_NAME        1u
#define NBD_INFO_DESCRIPTION 2u
#define NBD_INFO_BLOCK_SIZE  3u

/* "Request message", "Simple reply message", "Structured reply chunk message" */
#define NBD_REQUEST_MAGIC          UINT32_C(0x25609513)
#define NBD_SIMPLE_REPLY_MAGIC     UINT32_C(0x67446698)
#define NBD_STRUCTURED_REPLY_MAGIC UINT32_C(0x668e33ef)

/* "Request types" */
enum nbd_cmd {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
};

/* "Command flags" */
#define NBD_CMD_FLAG_FUA       0x01u
#define NBD_CMD_FLAG_NO_HOLE   0x02u
#define NBD_CMD_FLAG_DF        0x04u
#define NBD_CMD_FLAG_REQ_ONE   0x08u
#define NBD_CMD_FLAG_FAST_ZERO 0x10u

/* "Structured reply flags", "Structured reply types" */
#define NBD_REPLY_FLAG_DONE         0x1u
#define NBD_REPLY_TYPE_NONE         0u
#define NBD_REPLY_TYPE_OFFSET_DATA  1u
#define NBD_REPLY_TYPE_OFFSET_HOLE  2u
#define NBD_REPLY_TYPE_BLOCK_STATUS 5u
#define NBD_REPLY_TYPE_ERROR        0x8001u

/* "base:allocation metadata context" */
#define NBD_STATE_HOLE 0x1u
#define NBD_STATE_ZERO 0x2u

/* "Error values" */
#define NBD_EPERM     UINT32_C(1)
#define NBD_EIO       UINT32_C(5)
#define NBD_ENOMEM    UINT32_C(12)
#define NBD_EINVAL    UINT32_C(22)
#define NBD_ENOSPC    UINT32_C(28)
#define NBD_EOVERFLOW UINT32_C(75)
#define NBD_ENOTSUP   UINT32_C(95)
#define NBD_ESHUTDOWN UINT32_C(108)

/* Sizes on the wire. */
enum {
	NBD_GREETING_BYTES = 18,
	NBD_CLIENT_FLAGS_BYTES = 4,
	NBD_OPTION_HEAD_BYTES = 16,
	NBD_OPTION_REPLY_HEAD_BYTES = 20,
	NBD_EXPORT_NAME_REPLY_BYTES = 10,
	NBD_EXPORT_NAME_ZEROES = 124,
	NBD_REQUEST_BYTES = 28,
	NBD_SIMPLE_REPLY_BYTES = 16,
	NBD_CHUNK_HEAD_BYTES = 20,
	NBD_EXTENT_BYTES = 8,
};

/* Limits. */
enum {
	NBD_STRING_MAX = 4096,                  /* "Conventions": a longer string is never legal */
	NBD_OPTION_DATA_MAX = 16 * 1024,        /* more is drained and refused, never stored */
	NBD_OPTION_DRAIN_MAX = 1024 * 1024,     /* more than this ends the connection */
	NBD_LIST_BYTES_MAX = 8 * 1024 * 1024,   /* longest answer to LIST */
	NBD_META_ALLOCATION_ID = 1,             /* our id of base:allocation */
	NBD_PAYLOAD_DEFAULT = 32 * 1024 * 1024, /* "Size constraints": what every server should take */
};

#endif
