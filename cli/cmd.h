/* cmd.h - the command tables, one array per cmd_*.c, each ended by an entry without words. */
#ifndef MYFS_CLI_CMD_H
#define MYFS_CLI_CMD_H

#include "cli/command.h"

extern const struct command LUN_COMMANDS[];     /* cmd_lun.c */
extern const struct command MOVE_COMMANDS[];    /* cmd_move.c */
extern const struct command TRASH_COMMANDS[];   /* cmd_lun.c */
extern const struct command SESSION_COMMANDS[];
extern const struct command TARGET_COMMANDS[];  /* cmd_target.c */
extern const struct command MAP_COMMANDS[];     /* cmd_map.c */
extern const struct command DEMO_COMMANDS[];    /* cmd_demo.c */
extern const struct command NODE_COMMANDS[];    /* cmd_node.c */
extern const struct command VOLUME_COMMANDS[];  /* cmd_volume.c */
extern const struct command BRICK_COMMANDS[];   /* cmd_brick.c */
extern const struct command HEAL_COMMANDS[];    /* cmd_heal.c */
extern const struct command SCRUB_COMMANDS[];   /* cmd_scrub.c */
extern const struct command STATUS_COMMANDS[];  /* cmd_status.c */
extern const struct command TOP_COMMANDS[];     /* cmd_top.c */
extern const struct command DOCTOR_COMMANDS[];  /* cmd_doctor.c */
extern const struct command EXPLAIN_COMMANDS[]; /* cmd_explain.c */

#endif
