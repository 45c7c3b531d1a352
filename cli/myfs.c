/* myfs: cluster, volumes, bricks, healing, health, demo. */
#include "cli/cmd.h"

int main(int argc, char **argv)
{
	static const struct command *const groups[] = {STATUS_COMMANDS, DOCTOR_COMMANDS, EXPLAIN_COMMANDS, NODE_COMMANDS, VOLUME_COMMANDS,
	                                               BRICK_COMMANDS,  HEAL_COMMANDS,   SCRUB_COMMANDS,   TOP_COMMANDS,     DEMO_COMMANDS, NULL};
	static const struct program program = {"myfs", "block devices on erasure-coded plain directories: cluster commands", groups};
	return program_main(&program, argc, argv);
}
