/* myfs-block: LUNs. */
#include "cli/cmd.h"

int main(int argc, char **argv)
{
	static const struct command *const groups[] = {LUN_COMMANDS, MOVE_COMMANDS, TRASH_COMMANDS, SESSION_COMMANDS, TARGET_COMMANDS, MAP_COMMANDS, NULL};
	static const struct program program = {"myfs-block", "block devices on a myfs cluster", groups};
	return program_main(&program, argc, argv);
}
