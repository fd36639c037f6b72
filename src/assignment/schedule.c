/*
 * schedule.c: whose turn it is.
 *
 * A lead draws a number from the pool's sequence; its place in a schedule names the member. The schedule is one cycle of the
 * available members' weights, divided by their greatest common divisor, and of every beginning of it each member has its
 * share of the turns, exactly, but for less than one: R. Tijdeman, "The chairman assignment problem" (1980). Of n members, of
 * weight w in W, the j-th turn of one (from 1) is due in the k with
 *
 *     (j - 1 + e) W/w <= k <= (j - e) W/w,   e = 1 / (2n - 2)
 *
 * and giving each place to the turn that is due, of those that may come, first, keeps all of them; ties go to the lower owner
 * id. A divisor method, as stride scheduling is one, would not do: next to one large weight many small ones come all at once.
 */
#include "assignment/assignment.h"

#include "lib/binaryheap.h"

/* The next turn of a member. All times are multiplied by (2n - 2). */
typedef struct Next
{
	int			place;
	int64		weight;
	int64		turn;			/* j */
	int64		release;		/* the first k that it may have */
} Next;

typedef struct Members
{
	Next	   *next;
	int64		unit;			/* 2n - 2 */
} Members;

static int	greatest_common_divisor(const LrPool *pool);
static void find_release(Next *next, int64 total, int64 unit);
static int	compare_releases(Datum a, Datum b, void *argument);
static int	compare_deadlines(Datum a, Datum b, void *argument);

/* Makes the schedule of the members that are available, in the current memory context. */
void
lr_pool_make_schedule(LrPool *pool)
{
	int			divisor = greatest_common_divisor(pool);
	Members		members = {.next = palloc(sizeof(Next) * Max(pool->nmembers, 1))};
	binaryheap *waiting;
	binaryheap *ready;
	int			n = 0;

	pool->cycle = 0;
	for (int i = 0; i < pool->nmembers; i++)
	{
		if (!pool->members[i].available)
			continue;
		members.next[n++] = (Next) {.place = i,.weight = pool->members[i].weight / divisor,.turn = 1};
		pool->cycle += pool->members[i].weight / divisor;
	}
	pool->schedule = palloc(sizeof(int) * Max(pool->cycle, 1));
	members.unit = Max(2 * (int64) n - 2, 1);
	waiting = binaryheap_allocate(Max(n, 1), compare_releases, &members);
	ready = binaryheap_allocate(Max(n, 1), compare_deadlines, &members);
	for (int i = 0; i < n; i++)
	{
		find_release(&members.next[i], pool->cycle, members.unit);
		binaryheap_add_unordered(waiting, Int32GetDatum(i));
	}
	binaryheap_build(waiting);
	for (int k = 1; k <= pool->cycle; k++)
	{
		Next	   *next;

		while (!binaryheap_empty(waiting) && members.next[DatumGetInt32(binaryheap_first(waiting))].release <= k)
			binaryheap_add(ready, binaryheap_remove_first(waiting));
		next = &members.next[DatumGetInt32(binaryheap_remove_first(ready))];
		pool->schedule[k - 1] = next->place;
		if (next->turn++ == next->weight)
			continue;
		find_release(next, pool->cycle, members.unit);
		binaryheap_add(waiting, Int32GetDatum((int) (next - members.next)));
	}
	binaryheap_free(waiting);
	binaryheap_free(ready);
	pfree(members.next);
}

/* Returns whose turn it is: a place in members, or -1 if nobody is available. */
int
lr_pool_member_of_turn(const LrPool *pool, int64 turn)
{
	int64		place;

	if (pool->cycle == 0)
		return -1;
	/* a turn that was drawn before the revision was written is before its base */
	place = (turn - pool->base) % pool->cycle;
	return pool->schedule[place < 0 ? place + pool->cycle : place];
}

static int
greatest_common_divisor(const LrPool *pool)
{
	int			divisor = 0;

	for (int i = 0; i < pool->nmembers; i++)
	{
		int			a = pool->members[i].available ? pool->members[i].weight : 0;
		int			b = divisor;

		while (b != 0)
		{
			int			rest = a % b;

			a = b;
			b = rest;
		}
		divisor = a;
	}
	return Max(divisor, 1);
}

/* Finds from which place on a member's next turn may come. */
static void
find_release(Next *next, int64 total, int64 unit)
{
	int64		dividend = ((next->turn - 1) * unit + 1) * total;
	int64		divisor = next->weight * unit;

	next->release = (dividend + divisor - 1) / divisor;
	/* of one member alone every turn is his */
	if (next->weight == total)
		next->release = next->turn;
}

/* The heap's first element is the greatest: the one that may come first. */
static int
compare_releases(Datum a, Datum b, void *argument)
{
	const Members *members = argument;
	const Next *one = &members->next[DatumGetInt32(a)];
	const Next *other = &members->next[DatumGetInt32(b)];

	if (one->release != other->release)
		return one->release < other->release ? 1 : -1;
	return other->place - one->place;
}

static int
compare_deadlines(Datum a, Datum b, void *argument)
{
	const Members *members = argument;
	const Next *one = &members->next[DatumGetInt32(a)];
	const Next *other = &members->next[DatumGetInt32(b)];
	int64		left = (one->turn * members->unit - 1) * other->weight;
	int64		right = (other->turn * members->unit - 1) * one->weight;

	if (left != right)
		return left < right ? 1 : -1;
	return other->place - one->place;
}
