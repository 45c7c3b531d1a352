/* journal.h - the brick's log: a pre-written ring file, appended once per loop iteration, synced in groups.
 *
 *   file      |....free....|trim ======== written ======== end|....free....|
 *   memory                                        | pending batch |
 *
 * Invariants: J1 bytes at or after trim are never reused; J2 records reach the file in lsn order, one write at a time;
 * J3 after an error nothing is written or acknowledged again. */
#ifndef MYFS_BRICK_JOURNAL_H
#define MYFS_BRICK_JOURNAL_H

#include "brick/record.h"
#include "core/base/buf.h"
#include "core/loop/loop.h"
#include "core/loop/store.h"

struct journal;

struct journal_config {
	struct loop *loop;
	struct file *file; /* consumed on success: closed by journal_close */
	uint64_t size_bytes;
	uint64_t trim;                                         /* where the scan starts */
	uint64_t salt;                                         /* random per start */
	uint64_t *witness; /* told how far the file is written before anybody else is; NULL: nobody */
	void (*on_error)(void *arg, int rc, const char *what); /* once; must not park */
	void *arg;
};

/* Scans from trim and calls fn for every record in order; fn's error ends the scan and is returned. The journal then
 * appends behind the last good record. What the scan found is made durable before this returns. */
int journal_open(const struct journal_config *cfg, int (*fn)(void *arg, struct record *r), void *arg,
		 struct journal **ret, struct err *e) YIELDS;
/* fn may suspend. Reads records again: [from, to), both ends of records, inside [trim, end). Everything appended before
 * is waited for. */
int journal_scan(struct journal *j, uint64_t from, uint64_t to, int (*fn)(void *arg, struct record *r),
		 void *arg) YIELDS;
/* Waits until nothing is in flight; with write_out, what is pending is written first. Frees. NULL is fine. */
void journal_close(struct journal *j, bool write_out) YIELDS;

/* A body buffer to encode into; valid until journal_append. NULL when the journal has failed or memory is short. */
uint8_t *journal_body(struct journal *j, uint32_t body_len);
/* Appends the record whose body was just encoded. payload: NULL or one run of bytes, referenced until written. Never
 * parks. 0 and its lsn, -ENOSPC when the ring is full, -EIO after a failure. */
int journal_append(struct journal *j, enum record_type type, uint32_t body_len, const struct slice *payload,
		   uint64_t *ret_lsn);

/* Position behind the last appended record. */
uint64_t journal_end(const struct journal *j);
uint64_t journal_trim_pos(const struct journal *j);
/* What lies before it is on stable storage. */
uint64_t journal_durable_pos(const struct journal *j);
uint64_t journal_size(const struct journal *j);
uint64_t journal_used(const struct journal *j);
/* True when a record of this size leaves `headroom` bytes free. */
bool journal_has_room(const struct journal *j, uint32_t body_len, uint32_t payload_len, uint64_t headroom);
/* Until everything before lsn is in the file (survives this process) / on stable storage. 0 or the error. */
int journal_wait_written(struct journal *j, uint64_t lsn) YIELDS;
int journal_sync(struct journal *j, uint64_t lsn) YIELDS;
/* Bytes before lsn may be reused. The caller has made durable that nothing there is needed. */
void journal_set_trim(struct journal *j, uint64_t lsn);
/* Payload bytes of a record that is in the file. */
int journal_read_payload(struct journal *j, uint64_t lsn, uint32_t payload_off, void *dst, size_t len) YIELDS;
uint64_t journal_syncs(const struct journal *j);

#endif
