/* cdb.h - SCSI commands of a disk (SPC-4, SBC-3) into what is to be done. Pure; the only place where CDBs are judged.
 */
#ifndef MYFS_TCMU_CDB_H
#define MYFS_TCMU_CDB_H

#include "core/base/base.h"

enum scsi_opcode {
	SCSI_TEST_UNIT_READY = 0x00,
	SCSI_READ_6 = 0x08,
	SCSI_WRITE_6 = 0x0a,
	SCSI_INQUIRY = 0x12,
	SCSI_MODE_SELECT_6 = 0x15,
	SCSI_MODE_SENSE_6 = 0x1a,
	SCSI_START_STOP = 0x1b,
	SCSI_READ_CAPACITY_10 = 0x25,
	SCSI_READ_10 = 0x28,
	SCSI_WRITE_10 = 0x2a,
	SCSI_WRITE_VERIFY_10 = 0x2e,
	SCSI_VERIFY_10 = 0x2f,
	SCSI_PREFETCH_10 = 0x34,
	SCSI_SYNCHRONIZE_CACHE_10 = 0x35,
	SCSI_WRITE_SAME_10 = 0x41,
	SCSI_UNMAP = 0x42,
	SCSI_MODE_SELECT_10 = 0x55,
	SCSI_MODE_SENSE_10 = 0x5a,
	SCSI_PERSISTENT_RESERVE_IN = 0x5e,
	SCSI_PERSISTENT_RESERVE_OUT = 0x5f,
	SCSI_EXTENDED_COPY = 0x83,
	SCSI_RECEIVE_COPY_RESULTS = 0x84,
	SCSI_READ_16 = 0x88,
	SCSI_COMPARE_AND_WRITE = 0x89,
	SCSI_WRITE_16 = 0x8a,
	SCSI_WRITE_VERIFY_16 = 0x8e,
	SCSI_VERIFY_16 = 0x8f,
	SCSI_PREFETCH_16 = 0x90,
	SCSI_SYNCHRONIZE_CACHE_16 = 0x91,
	SCSI_WRITE_SAME_16 = 0x93,
	SCSI_SERVICE_ACTION_IN_16 = 0x9e, /* service action 10h: READ CAPACITY (16), 12h: GET LBA STATUS */
	SCSI_REPORT_LUNS = 0xa0,
	SCSI_MAINTENANCE_IN = 0xa3, /* 0Ah: REPORT TARGET PORT GROUPS, 0Ch: REPORT SUPPORTED OPERATION CODES */
	SCSI_READ_12 = 0xa8,
	SCSI_WRITE_12 = 0xaa,
	SCSI_WRITE_VERIFY_12 = 0xae,
	SCSI_VERIFY_12 = 0xaf,
};
#define SCSI_SA_READ_CAPACITY_16 0x10u
#define SCSI_SA_GET_LBA_STATUS   0x12u
#define SCSI_SA_REPORT_OPCODES   0x0cu

/* Sense key, additional sense code and qualifier in one number: 0x052400 is 5/24/00. Above them the byte of the CDB
 * that is wrong, 0 when none is to be told: initiators learn from it whether a command or only its field is not known.
 */
#define SENSE_NONE                    0x000000u
#define SENSE_MEDIUM_WRITE_ERROR      0x030c00u
#define SENSE_MEDIUM_READ_ERROR       0x031100u
#define SENSE_INTERNAL_FAILURE        0x044400u
#define SENSE_PARAMETER_LIST_LENGTH   0x051a00u
#define SENSE_INVALID_OPCODE          0x052000u
#define SENSE_LBA_OUT_OF_RANGE        0x052100u
#define SENSE_INVALID_FIELD_IN_CDB    0x052400u
#define SENSE_CDB_BYTE(byte)          (SENSE_INVALID_FIELD_IN_CDB | (uint32_t)(byte) << 24)
#define SENSE_INVALID_FIELD_IN_LIST   0x052600u
#define SENSE_SAVING_NOT_SUPPORTED    0x053900u
#define SENSE_WRITE_PROTECTED         0x072700u
#define SENSE_SPACE_ALLOCATION_FAILED 0x072707u
#define SENSE_COMMUNICATION_FAILURE   0x0b0800u
#define SENSE_MISCOMPARE              0x0e1d00u

enum cdb_action {
	CDB_RUNNER, /* tcmu-runner's own emulation is right */
	CDB_PAGE,   /* answered from page.h */
	CDB_READ,
	CDB_WRITE,
	CDB_WRITE_VERIFY,
	CDB_VERIFY,
	CDB_PREFETCH,
	CDB_FLUSH,
	CDB_UNMAP,
	CDB_WRITE_SAME,
	CDB_COMPARE_AND_WRITE,
	CDB_LBA_STATUS,
};

struct cdb_limits {
	uint32_t block_bytes;
	uint64_t blocks;         /* of the device */
	uint32_t max_blocks;     /* of one transfer */
	uint32_t compare_blocks; /* of one COMPARE AND WRITE */
};

struct cdb {
	enum cdb_action action;
	uint64_t off, len; /* bytes of the device; whole blocks */
	uint64_t data_len; /* bytes of data that come with it, or go back */
	bool fua;          /* FUA bit, or implied */
	bool compare;      /* VERIFY and WRITE AND VERIFY: BYTCHK */
	bool no_data;      /* WRITE SAME: zeros, nothing comes with it (NDOB) */
};

/* 0, or the sense that refuses it. */
uint32_t cdb_parse(const uint8_t *cdb, const struct cdb_limits *l, struct cdb *ret);

/* The parameter list of UNMAP: its descriptors, in bytes of the device, those of no blocks left out. */
#define UNMAP_RANGES_MAX 64u
#define UNMAP_LIST_MAX   (8u + 16u * UNMAP_RANGES_MAX)
#define UNMAP_BLOCKS_MAX (UINT32_C(1) << 20) /* of one descriptor */
struct unmap_range {
	uint64_t off, len;
};
uint32_t unmap_list_parse(const uint8_t *list, size_t len, const struct cdb_limits *l, struct unmap_range *ret,
			  unsigned *ret_n);

#define WRITE_SAME_BYTES_MAX GIB(4)
#define LBA_STATUS_BYTES_MAX GIB(1) /* described by one GET LBA STATUS; who wants more asks on from there */

#endif
