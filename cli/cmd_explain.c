/* cmd_explain.c - myfs explain CODE: what a health or error code means, how to check, how to mend. */
#include <stdio.h>
#include <strings.h>

#include "cli/cmd.h"
#include "cli/words.h"

struct page {
	const char *code, *meaning, *causes, *check, *cure;
};

static const struct page PAGES[] = {
	{"BRICK_DOWN", "A brick does not answer. Its volume goes on with the others; `myfs status` says how many more may fail.",
	 "The node or its myfs-brickd is stopped; the network is cut; the brick's disk failed and the brick went offline by itself.", "myfs brick list\n  myfs doctor",
	 "Start myfs-brickd on that node (demo: myfs demo revive NODE). When it is back it is healed by itself: only what it missed is copied."},
	{"BRICK_FULL", "A brick refuses new data because its file system is nearly full. Writes that need it end with \"no space\"; nothing is lost, reads and healing go on.",
	 "The file system under the brick is full, with data of this or another program, or has no inodes left for new files.", "myfs brick list\n  df -h; df -i", "Free space on that file system, delete LUNs (and purge the trash), or trim inside the LUNs (fstrim)."},
	{"VOLUME_PAUSED", "Fewer bricks answer than the layout needs. I/O waits, for at most the gateway's --io-timeout; nothing is lost and nothing wrong is returned.",
	 "More bricks are gone than the volume survives.", "myfs status\n  myfs brick list", "Bring bricks back until K of them answer; I/O then continues by itself."},
	{"LUN_PAUSED", "Enough bricks may be up, but of those that hold everything the LUN was written too few answer. Its I/O waits, for at most the gateway's --io-timeout; nothing is lost and nothing wrong is returned.",
	 "Bricks that had been away came back while others, which had taken the writes meanwhile, went away before the heal was done.", "myfs heal status\n  myfs brick list",
	 "Bring back the bricks that heal status waits for; I/O then continues by itself, and the others are healed."},
	{"HEAL_RUNNING", "A brick that was away is being brought up to date. Until it is done the volume survives fewer losses.", "A brick returned.", "myfs heal status --watch",
	 "Nothing to do. It takes a tenth of the time while clients are busy; full speed: myfs heal throttle VOL max."},
	{"HEAL_STALLED", "Data still has to be healed but nothing moves.", "The brick to heal is away, healing is paused or throttled, or the brick is full.", "myfs heal status",
	 "The cause column names it: bring the node back, myfs heal resume VOL, or free space."},
	{"CHECKSUM_ERRORS", "Blocks on a brick did not match their checksum. Reads returned right data from the other bricks and the blocks were rewritten.",
	 "A failing disk or controller, or somebody wrote into a brick directory.", "myfs brick list -o brick,checksum,repaired\n  smartctl -a /dev/DISK",
	 "If the number keeps growing, replace the disk."},
	{"SCRUB_UNDECIDED", "A scrub found rows whose blocks all match their checksums and still disagree, and too few others to tell which is wrong: a write was lost by a disk, on a layout (or with bricks away) that leaves nothing to compare with.",
	 "A disk or controller acknowledged a write it did not do, or wrote it to another place. With one parity brick nobody can tell which block it was.",
	 "myfs scrub status VOL\n  the log of the gateway that owns the LUN names LUN, shard and region",
	 "What clients read is unchanged; parity was made to agree with it, so that the loss of a brick does not spoil other blocks. Check the file system or data base on the LUN, restore what is old, and replace the disk. Layouts with two parity bricks can tell and repair it."},
	{"SCRUB_UNREADABLE", "A scrub met rows of which fewer blocks are good than the layout needs to rebuild them.", "Damage on several disks, or damage while bricks were away.", "myfs scrub status VOL\n  myfs brick list",
	 "Bring bricks back that are away and scrub again. What still cannot be read is answered with an error; writing it again cures it."},
	{"SCRUB_REPAIRED", "The last scrub found blocks that were wrong and repaired them from the others. Nothing wrong was ever returned for blocks with a bad checksum.",
	 "A failing disk or controller, or somebody wrote into a brick directory.", "myfs scrub status VOL\n  smartctl -a /dev/DISK", "If it happens again, replace the disk that the gateway's log or `myfs brick list -o node,path,wrong,repaired` names."},
	{"GATEWAY_DOWN", "A gateway does not answer. The others serve its LUNs; without others nobody does.", "myfs-blockd is stopped, or its host is.", "myfs gateway list", "Start myfs-blockd (demo: myfs demo revive gateway). Every acknowledged write is on the bricks; clients attach to a gateway that lives, whose address `myfs-block info` shows first."},
	{"ISCSI_DOWN", "A gateway that has iSCSI portals cannot export all of its LUNs. NBD goes on working; data is safe. Devices that exist stay: their I/O waits for tcmu-runner.",
	 "A kernel module, configfs or tcmu-runner is missing, or handler_myfs.so is not where tcmu-runner looks.", "myfs-block target list -o name,state,why\n  myfs doctor",
	 "The reason names it: modprobe -a target_core_user iscsi_target_mod, or systemctl start tcmu-runner. The gateway tries again by itself."},
	{"LUN_LOSS", "So many brick hosts lost power at once that writes which were acknowledged, but not flushed by their client, may be gone. Everything flushed (fsync, FUA) is there. Clients of the LUN were disconnected, as from a disk that lost its write cache.",
	 "A loss of power of (nearly) all brick hosts together with the gateway that could have written again what it still had.", "myfs-block info VOL/LUN   (loss generation: how often it happened)",
	 "Check the file systems and databases on the LUN (fsck, their own recovery), then attach again. The finding goes when the gateway is restarted; the loss generation stays."},
	{"NODE_DOWN", "The daemon of a node does not answer on its control socket.", "myfs-brickd is stopped.", "myfs node list", "Start myfs-brickd --node NAME on it (demo: myfs demo revive NODE)."},
	{"LUN_HALF_DONE", "Creating or deleting a LUN stopped in the middle.", "The gateway or bricks went away meanwhile.", "myfs-block list", "Nothing to do: the gateway finishes it when enough bricks answer."},
	{"E-QUORUM-02", "Fewer bricks answered than the operation needs.", "Nodes are down or unreachable.", "myfs brick list\n  myfs doctor", "Bring bricks back, then repeat the command."},
	{"E-NOANSWER-08", "A daemon did not answer on its control socket in time.", "It is not running, or it belongs to another user.", "myfs node list\n  myfs gateway list", "Start it (demo: myfs demo revive NAME), or repeat as the right user."},
	{"E-NOCLUSTER-02", "The command does not know which cluster to act on.", "No registry file where it was looked for.", "ls -l the path it names", "Name the registry with --registry FILE, $MYFS_REGISTRY or `registry = FILE` under [cluster] in /etc/myfs/myfs.conf."},
	{"E-NOGATEWAY-02", "The registry lists no gateway.", "myfs-blockd never ran on this cluster.", "myfs gateway list", "Start myfs-blockd --registry FILE --name NAME --nbd ADDRESS."},
	{"E-REGISTRY-02", "The registry file cannot be used.", "It is damaged, from a newer version, or not a registry.", "sqlite3 FILE 'pragma integrity_check'", "Restore it from a copy. Data on the bricks is not affected; brick directories name their volume (myfs brick inspect)."},
	{"E-CONFIG-02", "A setting cannot be used.", "See the message.", "", "Correct it and repeat."},
	{"E-START-02", "A daemon of the demo did not start.", "See the message and the log it names.", "myfs demo status", "Mend the cause, then myfs demo up again."},
	{"E-SYSTEM-02", "The operating system refused something.", "See the message.", "", "Correct it and repeat."},
	{"E-SCRUB-08", "A scrub was watched for the time given and has not ended.", "There is much to look at, or clients keep it resting.", "myfs scrub status", "Wait; it goes on by itself."},
	{"E-HEAL-08", "Healing was watched for the time given and has not ended.", "A brick is still away, or there is much to heal.", "myfs heal status", "Wait, or bring the missing brick back; healing goes on by itself."},
	{"E-ISCSI-02", "The LUN or the gateway offers no iSCSI.", "myfs-blockd was started without --portal, or the LUN was made with --proto nbd.", "myfs-block target info VOL/LUN", "Start myfs-blockd with --portal IP, then: myfs-block target enable VOL/LUN --proto iscsi,nbd."},
	{"E-EXISTS-03", "The object exists already.", "", "", "Choose another name, or use --if-missing where the command has it."},
	{"E-NOSPACE-04", "There is not enough space.", "", "myfs brick list\n  myfs-block du", "Free space; nothing was lost."},
	{"E-NOTFOUND-05", "There is no such object.", "", "myfs-block list\n  myfs volume list", "Check the name."},
	{"E-BUSY-06", "The object is in use; the message says by whom.", "", "myfs-block session list", "Detach those clients first. When another gateway serves a LUN, attach at the address the message names, or let the LUN come to you: myfs-block move VOL/LUN --to GATEWAY."},
	{"E-ACCESS-07", "The daemon's control socket or a file may not be used by this user.", "The cluster belongs to another user.", "ls -l the path it names", "Repeat the command as root or as the user of the daemon."},
	{"E-BRICK-02", "A brick directory could not be made or read.", "See the reason it names: missing permission, a read-only or full file system.", "ls -ld DIRECTORY; df DIRECTORY", "Correct it and repeat."},
	{"E-PROTO-02", "A daemon answered something this program does not understand.", "Programs of different versions.", "myfs version; myfs-blockd --version", "Use programs of one build."},
	{"E-STOPPED-02", "The volume is stopped, or the gateway is stopping.", "", "myfs volume list", "myfs volume start VOL"},
	{"E-MAP-02", "This host's kernel could not attach or detach the device, or lost it.", "A kernel module is missing (nbd, iscsi_tcp), an address cannot be reached, the client program refused.", "myfs-block mapped\n  dmesg | tail",
	 "Mend what the message names and repeat. Data that was flushed is safe."},
	{"E-DAMAGED-02", "Stored data does not match its checksums in more places than the layout can rebuild.", "Several disks are failing at once.", "myfs brick list -o node,path,wrong,repaired", "Reads of the damaged range fail; the rest is served. Replace the failing disks."},
	{"E-FAILED-01", "The operation failed for the reason shown.", "See the message.", "", "Correct the cause and repeat."},
	{"E-DENIED-07", "The caller may not do this.", "", "", "Run it as root or as the user of the daemon."},
	{"E-PLACEMENT-09", "Losing one node would lose data with this placement of bricks.", "Too many bricks of one set on one node.", "", "Spread them over more nodes; --force accepts the risk."},
	{"E-LAYOUT-09", "The layout survives fewer losses than its name suggests: a set needs a majority of its bricks.", "Parity bricks are as many as data bricks.", "", "Use more data bricks, or --force."},
	{"E-SHRINK-09", "Shrinking would cut off data.", "", "", "Make a smaller LUN and copy."},
	{"E-CONFIRM-09", "The command destroys something and was not confirmed.", "", "", "Repeat it with --yes."},
	{"E-USAGE-64", "The command line cannot be understood.", "", "", "See --help."},
};

static int run_explain(const struct invocation *in)
{
	if (in->n_args == 0) {
		for (size_t i = 0; i < ARRAY_LEN(PAGES); i++)
			printf("%-16s %.90s\n", PAGES[i].code, PAGES[i].meaning);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(PAGES); i++) {
		const struct page *p = &PAGES[i];
		if (strcasecmp(p->code, in->args[0]) != 0)
			continue;
		if (want_json(in))
			return print_json("myfs.explain/1", json_pack("{s:s,s:s,s:s,s:s,s:s}", "code", p->code, "meaning", p->meaning, "causes", p->causes, "check", p->check, "cure", p->cure));
		printf("%s\n\n%s\n", p->code, p->meaning);
		if (p->causes[0])
			printf("\nusual causes:\n  %s\n", p->causes);
		if (p->check[0])
			printf("\nhow to check:\n  %s\n", p->check);
		printf("\nwhat to do:\n  %s\n", p->cure);
		return 0;
	}
	return report(in, "E-NOTFOUND-05", EXIT_NOT_FOUND, NULL, NULL, "myfs explain    (lists all codes)", "there is no code %s", in->args[0]);
}

static int run_version(const struct invocation *in)
{
	if (want_json(in))
		return print_json("myfs.version/1", json_pack("{s:s}", "version", MYFS_VERSION));
	printf("myfs %s\n", MYFS_VERSION);
	return 0;
}

const struct command EXPLAIN_COMMANDS[] = {
	{"explain", NULL, "[CODE]", "what a health or error code means and what to do", "  myfs explain BRICK_DOWN", 0, 1, NULL, run_explain},
	{"version", NULL, "", "version", NULL, 0, 0, NULL, run_version},
	{NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
