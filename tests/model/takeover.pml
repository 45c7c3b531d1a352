/* takeover.pml - takeover and view change of one set 2+1, for exhaustive search by spin. ec/PROTOCOL.md; I1 I2 I4 I5 I9 I11 I13.
 *
 * Bricks 0 and 1 hold data, brick 2 parity; K = W = 2. Each transaction is a delta write: its data brick and the parity brick. What is one
 * message of the protocol is one atomic step here; a gateway that dies is one that takes no further step, one that was paused takes its next
 * step late. Gateway 1 serves from the start, gateways 2 .. GATEWAYS take over at any time.
 *
 * Not in the model: base files, floors and poison (tests/sim has them), several sets, reads.
 *
 * Faults: a brick's process restarts (its session ends, memory of the kernel stays) or its host loses power (what was not synced is gone,
 * boot changes). TOLERATED: a brick fails only while all others are in sync and connected, so nothing acknowledged may ever be taken back.
 * Without it anything may fail; then what was flushed must stay.
 *
 * Each rule can be left out: -DNO_VIEW (H1) -DAMNESIA_IS_FIRM=1 (H3) -DNEW_BOOT_EARLY (H9) -DNO_JOINT (H29). */
#ifndef GATEWAYS
#define GATEWAYS 3
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef WRITES
#define WRITES 2
#endif
#ifndef AMNESIA_IS_FIRM
#define AMNESIA_IS_FIRM 0
#endif
#define N 3
#define T 2
#define K 2
#define W 2
#define ALL 7

#define BIT(b) (1 << (b))
#define BOOT(x, b) (((x) >> (2 * (b))) & 3)
#define WITH_BOOT(x, b, of) (((x) & (63 - (3 << (2 * (b))))) | ((of) & (3 << (2 * (b)))))
#define HAS(m, b) (((m) >> (b)) & 1)
#define COUNT(m) (HAS(m, 0) + HAS(m, 1) + HAS(m, 2))
#define PARTICIPANTS(t) (BIT(t) | BIT(2))

/* What a brick's journal says of a transaction: PREP, COMMIT; V: in memory only, D: on disk. */
#define LACK   0
#define PREPV  1
#define PREPD  2
#define COMV   3 /* neither record is on disk */
#define COMPD  4 /* the PREP is */
#define COMD   5
#define ABORT  6
#define COMMITTED(s) ((s) == COMV || (s) == COMPD || (s) == COMD)
/* Nothing of this gateway's is between PREP and COMMIT at a member. */
#define SETTLED(t) (owner[t] != e || (COMMITTED_IF_IN(t, t) && COMMITTED_IF_IN(2, t)))
#define COMMITTED_IF_IN(b, t) (!HAS(in & mask[t], b) || COMMITTED(J(b, t)))
#define HEALED(s) (COMMITTED(s) -> COMD : ((s) == LACK -> LACK : ABORT))
#define AFTER_SYNC(s) ((s) == PREPV -> PREPD : ((s) == COMV || (s) == COMPD -> COMD : (s)))
#define AFTER_POWER(s) ((s) == PREPV || (s) == COMV -> LACK : ((s) == COMPD -> PREPD : (s)))

typedef view { byte epoch; byte ver; byte insync; byte boots; bit ready }; /* boots: 2 bits a brick */
view on_brick[N];   /* the view each brick has stored */
byte promise[N];    /* the epoch each brick has promised, stored */
byte session[N];    /* epoch of the gateway that has a session; 0: none */
byte boots;         /* now; changes when memory was lost */
byte journal[6];    /* [b * T + t] */
byte owner[T];      /* epoch that issued it; 0: not issued */
byte mask[T];       /* participants its PREP names */
bit acked[T], flushed[T];
byte serving;       /* highest epoch that became READY */
byte faults;
bit rolled_back;
#define J(b, t) journal[(b) * T + (t)]

/* A quorum has stored that b is in sync as it is now, and it is connected. */
#define SAYS(x, b) (on_brick[x].epoch == serving && on_brick[x].ready && HAS(on_brick[x].insync, b) && BOOT(on_brick[x].boots, b) == BOOT(boots, b))
#define IN_SYNC(b) (session[b] == serving && SAYS(0, b) + SAYS(1, b) + SAYS(2, b) >= W)

inline store_view(b, e, v, in, rdy, bt)
{
	on_brick[b].epoch = e; on_brick[b].ver = v; on_brick[b].insync = in; on_brick[b].ready = rdy; on_brick[b].boots = bt;
}

proctype gateway(byte e)
{
	byte in, ver, bt;             /* the view it works under */
	byte got, use, dec[T];        /* takeover */
	byte seen[6], seen_boots;     /* what the FENCE replies said */
	byte v_epoch;
	bit v_ready, rollback;
	byte pend, pend_ver, pend_got; /* a view on its way; 0: none */
	byte held[T];                 /* who answered the PREP */
	byte sync_got; bit syncing; byte snap;
	byte i, t, firm, parts;
	bit lacks, com, undone, known;

	if
	:: e == 1 -> in = ALL; ver = 1; goto serve
	:: else
	fi;

	/* FENCE: a promise is stored, older sessions end, the reply tells everything. */
fence:	do
	:: atomic { COUNT(got) < N ->
		if
		:: !HAS(got, 0) && promise[0] < e -> i = 0
		:: !HAS(got, 1) && promise[1] < e -> i = 1
		:: !HAS(got, 2) && promise[2] < e -> i = 2
		fi;
		promise[i] = e; session[i] = e; got = got | BIT(i); seen_boots = WITH_BOOT(seen_boots, i, boots);
		seen[i * T] = J(i, 0); seen[i * T + 1] = J(i, 1);
		if
		:: on_brick[i].epoch > v_epoch || (on_brick[i].epoch == v_epoch && on_brick[i].ver > ver) ->
			v_epoch = on_brick[i].epoch; ver = on_brick[i].ver; in = on_brick[i].insync; v_ready = on_brick[i].ready;
			bt = on_brick[i].boots
		:: else
		fi }
	:: COUNT(got) >= W -> break
	od;
	skip;
	d_step {
#ifdef NO_VIEW
		in = ALL;
#endif
		use = got & in; firm = 0; i = 0;
		do
		:: i < N -> if :: HAS(use, i) && BOOT(seen_boots, i) == BOOT(bt, i) -> firm = firm | BIT(i) :: else fi; i++
		:: else -> break
		od;
		if :: COUNT(firm) >= K || AMNESIA_IS_FIRM -> use = (AMNESIA_IS_FIRM -> use : firm) :: else -> rollback = 1 fi; firm = 0
	}
	if
#ifdef TOLERATED
	:: rollback && got != ALL -> rollback = 0; goto fence /* the rest will answer before the wait is over (H11) */
#endif
	:: COUNT(use) < K -> goto out
	:: else
	fi;
	skip;
	d_step {
		t = 0;
		do
		:: t < T ->
			parts = mask[t] & use; lacks = 0; com = 0; undone = 0; known = 0; i = 0;
			do
			:: i < N ->
				if
				:: HAS(parts, i) ->
					if :: seen[i * T + t] != LACK -> known = 1 :: else fi;
					if
					:: seen[i * T + t] == LACK -> lacks = 1
					:: COMMITTED(seen[i * T + t]) -> com = 1
					:: seen[i * T + t] == ABORT -> undone = 1
					:: else
					fi
				:: else
				fi;
				i++
			:: else -> break
			od;
			if
			:: owner[t] == 0 || owner[t] >= e || !known || (v_ready && owner[t] < v_epoch) -> dec[t] = LACK /* nothing to decide */
			:: else ->
				if
				:: !rollback && com && !AMNESIA_IS_FIRM -> assert(!lacks && !undone); dec[t] = COMD /* D1 */
				:: (rollback || !com || AMNESIA_IS_FIRM) && (lacks || undone) -> dec[t] = ABORT
				:: else -> dec[t] = COMD
				fi
			fi;
			t++
		:: else -> break
		od;
#ifdef TOLERATED
		assert(!rollback);
#endif
		i = 0;
		do
		:: i < N ->
#ifdef NEW_BOOT_EARLY
			if :: HAS(use, i) -> bt = WITH_BOOT(bt, i, seen_boots) :: else fi;
#endif
			seen[i * T] = 0; seen[i * T + 1] = 0; i++
		:: else -> break
		od;
		ver++; in = use; firm = 0; parts = 0; lacks = 0; com = 0; undone = 0; known = 0; v_epoch = 0; v_ready = 0; i = 0; t = 0
	}
	/* RESOLVING is stored, with the boot ids of before (H9) */
	got = 0;
	do
	:: atomic { !HAS(got, 0) && session[0] == e -> store_view(0, e, ver, in, 0, bt); got = got | 1 }
	:: atomic { !HAS(got, 1) && session[1] == e -> store_view(1, e, ver, in, 0, bt); got = got | 2 }
	:: atomic { !HAS(got, 2) && session[2] == e -> store_view(2, e, ver, in, 0, bt); got = got | 4 }
	:: COUNT(got) >= W -> break
	od;
	/* RESOLVE, durable, at everyone in use */
	got = 0;
	do
	:: atomic { got != use ->
		if
		:: HAS(use, 0) && !HAS(got, 0) && session[0] == e -> i = 0
		:: HAS(use, 1) && !HAS(got, 1) && session[1] == e -> i = 1
		:: HAS(use, 2) && !HAS(got, 2) && session[2] == e -> i = 2
		fi;
		assert(!(dec[0] == ABORT && HAS(mask[0], i) && acked[0]) || rollback); assert(!(dec[1] == ABORT && HAS(mask[1], i) && acked[1]) || rollback); /* I4 */
		assert(!(dec[0] == ABORT && HAS(mask[0], i) && flushed[0])); assert(!(dec[1] == ABORT && HAS(mask[1], i) && flushed[1])); /* I5 */
		if :: HAS(mask[0], i) && dec[0] != LACK -> J(i, 0) = dec[0] :: else fi;
		if :: HAS(mask[1], i) && dec[1] != LACK -> J(i, 1) = dec[1] :: else fi;
		got = got | BIT(i) }
	:: got == use -> break
	od;
	skip;
	d_step {
		i = 0;
		do
		:: i < N -> if :: HAS(use, i) -> bt = WITH_BOOT(bt, i, seen_boots) :: else fi; i++
		:: else -> break
		od;
		i = 0; ver++; got = 0; seen_boots = 0
	}
	do
	:: atomic { !HAS(got, 0) && session[0] == e -> store_view(0, e, ver, in, 1, bt); got = got | 1 }
	:: atomic { !HAS(got, 1) && session[1] == e -> store_view(1, e, ver, in, 1, bt); got = got | 2 }
	:: atomic { !HAS(got, 2) && session[2] == e -> store_view(2, e, ver, in, 1, bt); got = got | 4 }
	:: COUNT(got) >= W -> break
	od;
	skip;
	d_step {
		if :: serving < e -> serving = e :: else fi;
		rolled_back = rolled_back | rollback;
		t = 0;
		do
		:: t < T ->
			if :: dec[t] == ABORT && rollback -> acked[t] = 0 :: else fi; /* taken back, and said so (H25) */
			i = 0;
			do
			:: i < N -> /* I9: who is in sync has everything that was promised */
				assert(!(HAS(use, i) && HAS(PARTICIPANTS(t), i) && acked[t] && session[i] == e && !rolled_back) || J(i, t) == COMD); i++
			:: else -> break
			od;
			dec[t] = 0; t++
		:: else -> break
		od;
		got = 0; use = 0; rollback = 0; t = 0; i = 0
	}
serve:
	do
	:: atomic { /* a write begins */
		if :: owner[0] == 0 -> t = 0 :: owner[1] == 0 && WRITES > 1 -> t = 1 fi;
		owner[t] = e; mask[t] = PARTICIPANTS(t) & (in | pend); t = 0 } /* one that is healed and about to join takes part */
	:: atomic { /* PREP; only K left: on disk at once (H12) */
		if
		:: !acked[0] && owner[0] == e && HAS(mask[0], 0) && !HAS(held[0], 0) && session[0] == e -> i = 0; t = 0
		:: !acked[0] && owner[0] == e && HAS(mask[0], 2) && !HAS(held[0], 2) && session[2] == e -> i = 2; t = 0
		:: !acked[1] && owner[1] == e && HAS(mask[1], 1) && !HAS(held[1], 1) && session[1] == e -> i = 1; t = 1
		:: !acked[1] && owner[1] == e && HAS(mask[1], 2) && !HAS(held[1], 2) && session[2] == e -> i = 2; t = 1
		fi;
		assert(J(i, t) == LACK);
		J(i, t) = (COUNT(in) == K -> PREPD : PREPV); held[t] = held[t] | BIT(i); i = 0; t = 0 }
	:: atomic { /* acknowledged when every participant in sync has it, and no view is on its way (I11, H29) */
#ifndef NO_JOINT
		!pend ->
#endif
		if
		:: owner[0] == e && !acked[0] && (mask[0] & in) && (held[0] & mask[0] & in) == (mask[0] & in) -> t = 0
		:: owner[1] == e && !acked[1] && (mask[1] & in) && (held[1] & mask[1] & in) == (mask[1] & in) -> t = 1
		fi;
		/* I13: a deposed gateway may still say so, of what its successor committed (or took back and said so) */
		assert(serving <= e || rolled_back || (J(t, t) != ABORT && J(2, t) != ABORT && (J(t, t) == COMD || J(2, t) == COMD)));
		acked[t] = 1; t = 0 }
	:: atomic { /* COMMIT arrives */
		if
		:: acked[0] && owner[0] == e && session[0] == e && (J(0, 0) == PREPV || J(0, 0) == PREPD) -> i = 0; t = 0
		:: acked[0] && owner[0] == e && session[2] == e && (J(2, 0) == PREPV || J(2, 0) == PREPD) -> i = 2; t = 0
		:: acked[1] && owner[1] == e && session[1] == e && (J(1, 1) == PREPV || J(1, 1) == PREPD) -> i = 1; t = 1
		:: acked[1] && owner[1] == e && session[2] == e && (J(2, 1) == PREPV || J(2, 1) == PREPD) -> i = 2; t = 1
		fi;
		J(i, t) = (J(i, t) == PREPV -> COMV : COMPD); i = 0; t = 0 }
	:: atomic { !syncing && !pend && ((acked[0] && !flushed[0]) || (acked[1] && !flushed[1])) -> /* a client flushes */
		syncing = 1; snap = acked[0] | (acked[1] << 1) }
	:: atomic { syncing -> /* SYNC at one brick */
		if
		:: HAS(in, 0) && !HAS(sync_got, 0) && session[0] == e -> i = 0
		:: HAS(in, 1) && !HAS(sync_got, 1) && session[1] == e -> i = 1
		:: HAS(in, 2) && !HAS(sync_got, 2) && session[2] == e -> i = 2
		fi;
		J(i, 0) = AFTER_SYNC(J(i, 0)); J(i, 1) = AFTER_SYNC(J(i, 1)); sync_got = sync_got | BIT(i); i = 0 }
	:: atomic { syncing && !pend && (sync_got & in) == in -> /* FLUSH answered */
		if :: snap & 1 -> flushed[0] = 1 :: else fi;
		if :: snap & 2 -> flushed[1] = 1 :: else fi;
		syncing = 0; sync_got = 0; snap = 0 }
	:: atomic { /* a member is gone: a view without it */
		if
		:: HAS(in, 0) && session[0] != e && promise[0] <= e && (!pend || HAS(pend, 0)) -> i = 0
		:: HAS(in, 1) && session[1] != e && promise[1] <= e && (!pend || HAS(pend, 1)) -> i = 1
		:: HAS(in, 2) && session[2] != e && promise[2] <= e && (!pend || HAS(pend, 2)) -> i = 2
		fi;
		parts = (pend -> pend & in : in) & (ALL - BIT(i));
		if
		:: COUNT(parts) >= K -> pend = parts; pend_ver = (pend_ver > ver -> pend_ver : ver) + 1; pend_got = 0
		:: else
		fi;
		parts = 0; i = 0 }
	:: atomic { pend -> /* VIEW arrives at one brick and is stored */
		if
		:: !HAS(pend_got, 0) && session[0] == e -> i = 0
		:: !HAS(pend_got, 1) && session[1] == e -> i = 1
		:: !HAS(pend_got, 2) && session[2] == e -> i = 2
		fi;
		store_view(i, e, pend_ver, pend, 1, bt); pend_got = pend_got | BIT(i); i = 0 }
	:: atomic { pend && COUNT(pend_got) >= W -> in = pend; ver = pend_ver; pend = 0; pend_ver = 0; pend_got = 0 }
	:: atomic { /* a brick is back: fenced, healed under locks from what is durable (H10), then joined */
		!pend && !syncing && (in == 3 || in == 5 || in == 6) ->
		i = (in == 3 -> 2 : (in == 5 -> 1 : 0));
		t = (in == 6 -> 1 : 0); parts = (in == 3 -> 1 : 2); /* the two members */
		promise[i] <= e && session[t] == e && session[parts] == e && SETTLED(0) && SETTLED(1) ->
		promise[i] = e; session[i] = e;
		J(t, 0) = AFTER_SYNC(J(t, 0)); J(t, 1) = AFTER_SYNC(J(t, 1));
		J(parts, 0) = AFTER_SYNC(J(parts, 0)); J(parts, 1) = AFTER_SYNC(J(parts, 1));
		if
		:: i == 0 -> J(0, 0) = HEALED(J(2, 0))
		:: i == 1 -> J(1, 1) = HEALED(J(2, 1))
		:: else -> J(2, 0) = HEALED(J(0, 0)); J(2, 1) = HEALED(J(1, 1))
		fi;
		bt = WITH_BOOT(bt, i, boots); pend = in | BIT(i); pend_ver = ver + 1; pend_got = 0; i = 0; t = 0; parts = 0 }
	od;
out:	skip
}

/* Restart of a process, or loss of power, of one brick. */
proctype nemesis()
{
	byte b;
	do
	:: atomic { faults < FAULTS ->
		if
		:: b = 0
#ifdef TOLERATED
		   ; IN_SYNC(1) && IN_SYNC(2)
#endif
		:: b = 1
#ifdef TOLERATED
		   ; IN_SYNC(0) && IN_SYNC(2)
#endif
		:: b = 2
#ifdef TOLERATED
		   ; IN_SYNC(0) && IN_SYNC(1)
#endif
		fi;
		faults++; session[b] = 0;
		if
		:: boots = WITH_BOOT(boots, b, boots + (1 << (2 * b))); J(b, 0) = AFTER_POWER(J(b, 0)); J(b, 1) = AFTER_POWER(J(b, 1))
		:: skip
		fi;
		b = 0 }
	od
}

init
{
	byte b;
	atomic {
		for (b : 0 .. N - 1) { promise[b] = 1; session[b] = 1; store_view(b, 1, 1, ALL, 1, 0) }
		serving = 1;
		for (b : 1 .. GATEWAYS) { run gateway(b) }
		run nemesis()
	}
}
