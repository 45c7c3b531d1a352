/* micro_layout.c - finding the set of a name or shard: Gluster's hash and a layout of 1,000 sets of different sizes; and what counting
 * one request costs (two looks at the clock and a histogram). */
#include <stdio.h>
#include <time.h>

#include "core/base/prng.h"
#include "core/loop/loop.h"
#include "core/metrics/histogram.h"
#include "dht/hash.h"
#include "dht/layout.h"

#define SETS 1000u
#define N    4000000u

static volatile uint32_t sink;

/* Of this process: what else runs here does not count. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void print(const char *what, uint64_t n, uint64_t ns)
{
	printf("%-40s %12.0f /s %8.1f ns CPU\n", what, (double)n * 1e9 / (double)ns, (double)ns / (double)n);
}

static void lookups(const struct dht_layout *l)
{
	static char name[1024][24];
	struct prng p;
	uint32_t sum = 0;

	prng_seed(&p, 1);
	for (unsigned i = 0; i < 1024; i++)
		snprintf(name[i], sizeof(name[i]), "lun-%08x.%u", (unsigned)prng_below(&p, UINT32_MAX), i);
	uint64_t start = cpu_ns();
	for (uint32_t i = 0; i < N; i++)
		sum += dht_layout_find(l, i * 2654435761u);
	print("set of a hash, 1,000 sets", N, cpu_ns() - start);
	start = cpu_ns();
	for (uint32_t i = 0; i < N; i++)
		sum += dht_layout_find(l, dht_hash_name(name[i & 1023]));
	print("set of a name of 14 letters, 1,000 sets", N, cpu_ns() - start);
	sink = sum;
}

static void counting(void)
{
	static struct histogram h;
	uint64_t start = cpu_ns();

	for (uint32_t i = 0; i < N; i++)
		histogram_add(&h, (uint64_t)(i * 2654435761u) >> (i & 15));
	print("histogram_add", N, cpu_ns() - start);
	start = cpu_ns();
	for (uint32_t i = 0; i < N; i++) {
		uint64_t began_ns = loop_precise_ns();
		histogram_add(&h, loop_precise_ns() - began_ns);
	}
	print("two clocks and histogram_add", N, cpu_ns() - start);
	sink = (uint32_t)h.count;
}

int main(void)
{
	uint64_t sizes[SETS];
	struct dht_layout l;
	struct prng p;

	prng_seed(&p, 2);
	for (unsigned i = 0; i < SETS; i++)
		sizes[i] = GIB(1000 + prng_below(&p, 9000));
	if (dht_layout_build(&l, sizes, SETS, 17, 2) < 0)
		return 1;
	lookups(&l);
	dht_layout_free(&l);
	counting();
	return 0;
}
