/* job.h - one SCSI command under way: cut into NBD requests, a few of them at once, and completed with a status or
 * sense.
 *
 * Invariants: J1 a job that was started is completed exactly once, in the link's or caw's thread. J2 after a request of
 * it failed no further one is sent; it is completed when those that were sent have ended. */
#ifndef MYFS_TCMU_JOB_H
#define MYFS_TCMU_JOB_H

#include "handlers/tcmu/caw.h"
#include "handlers/tcmu/cdb.h"
#include "handlers/tcmu/tcmu_abi.h"

struct job_device {
	struct tcmu_device *dev;
	struct link *link;
	struct caw *caw;
};

/* Starts what the CDB says; the data are in cmd->lib_cmd's vector. TCMU_STS_OK: tcmur_cmd_complete will be called.
 * Anything else: the command's status, and nothing was started. */
int job_start(const struct job_device *d, struct tcmur_cmd *cmd, const struct cdb *c, const struct cdb_limits *l);
/* The same for reads and writes that tcmu-runner makes for its own compound commands. */
int job_transfer(const struct job_device *d, struct tcmur_cmd *cmd, bool write, const struct iovec *iov, size_t iov_cnt,
		 size_t len, uint64_t off);

/* Fills the sense buffer; what to return then. info: INFORMATION field, 0 for none (only miscompare has one). */
int job_sense(struct tcmulib_cmd *cmd, uint32_t sense, uint32_t info);
/* Status for a result of link.h or caw.h. */
int job_status(struct tcmulib_cmd *cmd, int rc, bool write, uint32_t at);

void iov_store(const struct iovec *iov, size_t n, const void *src, size_t len); /* and zeros in the rest */
size_t iov_fetch(const struct iovec *iov, size_t n, void *dst, size_t len);     /* how much there was, at most len */
size_t iov_total(const struct iovec *iov, size_t n);

#endif
