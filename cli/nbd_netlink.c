#include "cli/nbd_netlink.h"

#include <linux/nbd-netlink.h>
#include <netlink/attr.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <stdlib.h>

struct nbd_netlink {
	struct nl_sock *command, *event;
	int family;
};

static int put_sockets(struct nl_msg *m, const int *fds, size_t n)
{
	struct nlattr *list = nla_nest_start(m, NBD_ATTR_SOCKETS);
	if (list == NULL)
		return -EMSGSIZE;
	for (size_t i = 0; i < n; i++) {
		struct nlattr *item = nla_nest_start(m, NBD_SOCK_ITEM);
		if (item == NULL || nla_put_u32(m, NBD_SOCK_FD, (uint32_t)fds[i]) < 0)
			return -EMSGSIZE;
		nla_nest_end(m, item);
	}
	nla_nest_end(m, list);
	return 0;
}

int nbd_setup_put(struct nl_msg *m, const struct nbd_setup *s)
{
	const struct {
		int type;
		uint64_t value;
	} numbers[] = {{NBD_ATTR_SIZE_BYTES, s->size_bytes}, {NBD_ATTR_BLOCK_SIZE_BYTES, s->block_bytes}, {NBD_ATTR_TIMEOUT, s->timeout_s},
	               {NBD_ATTR_DEAD_CONN_TIMEOUT, s->dead_conn_timeout_s}, {NBD_ATTR_SERVER_FLAGS, s->server_flags}};
	if (s->index != NBD_ANY_DEVICE && nla_put_u32(m, NBD_ATTR_INDEX, (uint32_t)s->index) < 0)
		return -EMSGSIZE;
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		if (numbers[i].value != 0 && nla_put_u64(m, numbers[i].type, numbers[i].value) < 0)
			return -EMSGSIZE;
	if (s->backend != NULL && nla_put_string(m, NBD_ATTR_BACKEND_IDENTIFIER, s->backend) < 0)
		return -EMSGSIZE;
	return s->n_fds > 0 ? put_sockets(m, s->fds, s->n_fds) : 0;
}

int nbd_index_get(struct nlmsghdr *h, int *ret_index)
{
	struct nlattr *attrs[NBD_ATTR_MAX + 1];
	static const struct nla_policy policy[NBD_ATTR_MAX + 1] = {[NBD_ATTR_INDEX] = {.type = NLA_U32}};
	if (!genlmsg_valid_hdr(h, 0) || genlmsg_parse(h, 0, attrs, NBD_ATTR_MAX, policy) < 0 || attrs[NBD_ATTR_INDEX] == NULL)
		return -EBADMSG;
	uint32_t index = nla_get_u32(attrs[NBD_ATTR_INDEX]);
	if (index > INT32_MAX)
		return -EBADMSG;
	*ret_index = (int)index;
	return 0;
}

/* libnl's own error numbers lose what the kernel said where it matters (EBUSY, EPERM); only its local failures are told by them. */
static int of_nl(int nl)
{
	switch (-nl) {
	case NLE_OBJ_NOTFOUND:
		return -ENOENT;
	case NLE_PERM:
	case NLE_NOACCESS:
		return -EPERM;
	case NLE_NOMEM:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

static int open_socket(struct nl_sock **ret)
{
	struct nl_sock *s = nl_socket_alloc();
	if (s == NULL)
		return -ENOMEM;
	int rc = genl_connect(s);
	if (rc < 0) {
		nl_socket_free(s);
		return of_nl(rc);
	}
	*ret = s;
	return 0;
}

static int subscribe(struct nbd_netlink *n)
{
	int group = genl_ctrl_resolve_grp(n->command, NBD_GENL_FAMILY_NAME, NBD_GENL_MCAST_GROUP_NAME);
	if (group < 0)
		return of_nl(group);
	int rc = open_socket(&n->event);
	if (rc < 0)
		return rc;
	nl_socket_disable_seq_check(n->event);
	nl_socket_set_nonblocking(n->event);
	rc = nl_socket_add_membership(n->event, group);
	return rc < 0 ? of_nl(rc) : 0;
}

int nbd_netlink_open(struct nbd_netlink **ret, struct err *e)
{
	struct nbd_netlink *n = calloc(1, sizeof(*n));
	if (n == NULL)
		return err_set(e, -ENOMEM, "no memory");
	int rc = open_socket(&n->command);
	if (rc == 0) {
		n->family = genl_ctrl_resolve(n->command, NBD_GENL_FAMILY_NAME);
		rc = n->family < 0 ? of_nl(n->family) : subscribe(n);
	}
	if (rc < 0) {
		nbd_netlink_close(n);
		return err_set(e, rc, rc == -ENOENT ? "the kernel has no netlink family \"nbd\"" : "the kernel's netlink family \"nbd\" cannot be used: %s", err_name(rc));
	}
	*ret = n;
	return 0;
}

void nbd_netlink_close(struct nbd_netlink *n)
{
	if (n == NULL)
		return;
	if (n->command != NULL)
		nl_socket_free(n->command);
	if (n->event != NULL)
		nl_socket_free(n->event);
	free(n);
}

struct answer {
	bool done;
	int code;  /* the kernel's -errno */
	int index;
};

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *error, void *arg)
{
	struct answer *a = arg;
	(void)from;
	a->code = error->error;
	a->done = true;
	return NL_STOP;
}

static int on_ack(struct nl_msg *m, void *arg)
{
	struct answer *a = arg;
	(void)m;
	a->done = true;
	return NL_STOP;
}

static int on_message(struct nl_msg *m, void *arg)
{
	struct answer *a = arg;
	nbd_index_get(nlmsg_hdr(m), &a->index);
	return NL_OK;
}

/* Sends m (consumed) and waits for the kernel's acknowledgement. 0 or the kernel's -errno. */
static int ask(struct nbd_netlink *n, struct nl_msg *m, struct answer *a)
{
	*a = (struct answer){.index = NBD_ANY_DEVICE};
	struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
	int rc = cb == NULL ? -NLE_NOMEM : nl_send_auto(n->command, m);
	nlmsg_free(m);
	if (cb != NULL) {
		nl_cb_err(cb, NL_CB_CUSTOM, on_error, a);
		nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, on_ack, a);
		nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_message, a);
	}
	while (rc >= 0 && !a->done)
		rc = nl_recvmsgs(n->command, cb);
	nl_cb_put(cb);
	if (a->done)
		return a->code;
	return rc < 0 ? of_nl(rc) : 0;
}

static struct nl_msg *message(const struct nbd_netlink *n, uint8_t cmd)
{
	struct nl_msg *m = nlmsg_alloc();
	if (m != NULL && genlmsg_put(m, NL_AUTO_PORT, NL_AUTO_SEQ, n->family, 0, 0, cmd, NBD_GENL_VERSION) == NULL) {
		nlmsg_free(m);
		m = NULL;
	}
	return m;
}

static int send_setup(struct nbd_netlink *n, uint8_t cmd, const struct nbd_setup *s, struct answer *a)
{
	struct nl_msg *m = message(n, cmd);
	if (m == NULL)
		return -ENOMEM;
	int rc = nbd_setup_put(m, s);
	if (rc == 0)
		return ask(n, m, a);
	nlmsg_free(m);
	return rc;
}

int nbd_netlink_connect(struct nbd_netlink *n, const struct nbd_setup *s, int *ret_index, struct err *e)
{
	struct answer a;
	int rc = send_setup(n, NBD_CMD_CONNECT, s, &a);
	if (rc == 0 && a.index == NBD_ANY_DEVICE)
		rc = -EBADMSG;
	if (rc < 0)
		return err_set(e, rc, "the kernel does not connect an NBD device: %s", err_name(rc));
	*ret_index = a.index;
	return 0;
}

int nbd_netlink_reconfigure(struct nbd_netlink *n, const struct nbd_setup *s, struct err *e)
{
	struct answer a;
	int rc = send_setup(n, NBD_CMD_RECONFIGURE, s, &a);
	return rc == 0 ? 0 : err_set(e, rc, "the kernel does not take the change of /dev/nbd%d: %s", s->index, err_name(rc));
}

int nbd_netlink_disconnect(struct nbd_netlink *n, int index, struct err *e)
{
	struct answer a;
	int rc = send_setup(n, NBD_CMD_DISCONNECT, &(struct nbd_setup){.index = index}, &a);
	return rc == 0 ? 0 : err_set(e, rc, "the kernel does not disconnect /dev/nbd%d: %s", index, err_name(rc));
}

int nbd_netlink_event_fd(const struct nbd_netlink *n)
{
	return nl_socket_get_fd(n->event);
}

int nbd_netlink_next_dead(struct nbd_netlink *n, int *ret_index)
{
	for (;;) {
		struct sockaddr_nl from;
		unsigned char *buf = NULL;
		int len = nl_recv(n->event, &from, &buf, NULL), rc = 0;
		if (len == -NLE_NOMEM)
			return -ENOBUFS; /* libnl's word for ENOBUFS of the socket: events were dropped */
		if (len <= 0)
			return 0;
		struct nlmsghdr *h = (struct nlmsghdr *)(void *)buf;
		if (nlmsg_ok(h, len) && h->nlmsg_type == n->family && ((struct genlmsghdr *)nlmsg_data(h))->cmd == NBD_CMD_LINK_DEAD)
			rc = nbd_index_get(h, ret_index) == 0;
		free(buf);
		if (rc == 1)
			return 1;
	}
}
