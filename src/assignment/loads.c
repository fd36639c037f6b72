/*
 * loads.c: what an open lead counts towards caps per open, by its tier.
 */
#include "assignment/assignment.h"

#include "utils/memutils.h"

typedef struct TierLoad
{
	char	   *tier;
	int			length;
	int			load;
} TierLoad;

static TierLoad *tier_loads = NULL;
static int	ntier_loads;
static MemoryContext loads_memory = NULL;
static uint64 loads_generation;

static void load_tier_loads(void);

/* Returns the load of a lead of a tier; NULL is none. */
int
lr_tier_load(const char *tier, int length)
{
	if (loads_memory == NULL || loads_generation != lr_table_generation(LR_TABLE_TIER_LOADS))
		load_tier_loads();
	for (int i = 0; tier && i < ntier_loads; i++)
	{
		if (tier_loads[i].length == length && memcmp(tier_loads[i].tier, tier, length) == 0)
			return tier_loads[i].load;
	}
	return 1;
}

static void
load_tier_loads(void)
{
	LrIdentity	identity;
	uint64		generation = lr_table_generation(LR_TABLE_TIER_LOADS);
	uint64		n;

	if (loads_memory == NULL)
		loads_memory = AllocSetContextCreate(CacheMemoryContext, "leadroute tier loads", ALLOCSET_SMALL_SIZES);
	ntier_loads = 0;
	MemoryContextReset(loads_memory);
	lr_sql_begin(&identity);
	n = lr_sql("SELECT tier, load FROM leadroute.tier_loads ORDER BY tier", true, 0, NULL, NULL, NULL);
	tier_loads = MemoryContextAlloc(loads_memory, sizeof(TierLoad) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		tier_loads[i].tier = MemoryContextStrdup(loads_memory, lr_sql_text(i, 1));
		tier_loads[i].length = (int) strlen(tier_loads[i].tier);
		tier_loads[i].load = lr_sql_int32(i, 2, 1);
	}
	ntier_loads = (int) n;
	lr_sql_end(&identity);
	loads_generation = generation;
}
