/* node_control.h - the control methods of myfs-brickd: status, reload, shutdown, brick.create, brick.inspect. README.md
 * lists them. */
#ifndef MYFS_BRICK_NODE_CONTROL_H
#define MYFS_BRICK_NODE_CONTROL_H

#include "brick/node.h"
#include "core/control/control.h"

struct node_control {
	struct node *node;
	void (*shutdown)(void *arg); /* asks the program to end; must not park */
	void *arg;
};

/* Array for control_server_start; its arg is a struct node_control. */
extern const struct control_method node_control_methods[];

#endif
