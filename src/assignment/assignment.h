/*
 * assignment.h: pools and their turns.
 */
#ifndef LR_ASSIGNMENT_H
#define LR_ASSIGNMENT_H

#include "leadroute.h"

typedef struct LrPool
{
	int			pool_id;
	int			revision_id;	/* 0 as long as it is not on record */
	int			nmembers;
	int		   *owner_ids;		/* ascending */
	int		   *weights;
	bool	   *available;
	int			cycle;			/* turns until the rotation repeats; 0 if nobody is available */
	int		   *schedule;		/* of cycle places in owner_ids */
	bool		of_owner;		/* made for one owner, whom rules name */
	Oid			turns;			/* the sequence */
} LrPool;

extern LrPool *lr_pool(int pool_id);
extern LrPool *lr_pool_of_revision(int revision_id);
extern int	lr_pool_record(LrPool *pool);
extern int64 lr_pool_draw(LrPool *pool, int count);
extern int	lr_pool_owner_of_turn(const LrPool *pool, int64 turn);
extern bool lr_pool_has_available(const LrPool *pool, int owner_id);

struct LrBatch;
extern void lr_assign_batch(struct LrBatch *batch);

#endif
