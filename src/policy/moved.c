/*
 * moved.c: which elements of a list changed their place, for differences between documents.
 *
 * To insert one rule at the top changes the place of all others, and moves none. What moved is the smallest set of elements
 * without which the others stand in the order in which they stood: all but a longest increasing subsequence of the old places,
 * read in the new order. It is found by the usual search over the smallest last element of the subsequences of each length,
 * in n log n steps.
 */
#include "leadroute.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(leadroute_moved);

/* Says which elements moved; see the SQL comment. */
Datum
leadroute_moved(PG_FUNCTION_ARGS)
{
	Datum	   *places;
	int			n;
	int		   *tails;			/* by length: the element that ends such a subsequence lowest */
	int		   *before;			/* the element before each in its subsequence, or -1 */
	Datum	   *moved;
	int			length = 0;

	(void) lr_catalog();
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT4OID, sizeof(int32), true, TYPALIGN_INT, &places, NULL, &n);
	tails = palloc_extended(sizeof(int) * Max(n, 1), MCXT_ALLOC_HUGE);
	before = palloc_extended(sizeof(int) * Max(n, 1), MCXT_ALLOC_HUGE);
	moved = palloc_extended(sizeof(Datum) * Max(n, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < n; i++)
	{
		int			low = 0;
		int			high = length;

		CHECK_FOR_INTERRUPTS();
		while (low < high)
		{
			int			middle = low + (high - low) / 2;

			if (DatumGetInt32(places[tails[middle]]) < DatumGetInt32(places[i]))
				low = middle + 1;
			else
				high = middle;
		}
		before[i] = low > 0 ? tails[low - 1] : -1;
		tails[low] = i;
		length = Max(length, low + 1);
		moved[i] = BoolGetDatum(true);
	}
	for (int i = length > 0 ? tails[length - 1] : -1; i >= 0; i = before[i])
		moved[i] = BoolGetDatum(false);
	PG_RETURN_ARRAYTYPE_P(construct_array(moved, n, BOOLOID, sizeof(bool), true, TYPALIGN_CHAR));
}
