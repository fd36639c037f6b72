/*
 * notice.c: telling the workers of a database, when a transaction commits, that there is something to do.
 */
#include "workers/workers.h"

/* Registers settings and hooks. */
void
lr_workers_init(void)
{
}

/* Has the scheduler of this database woken when the transaction commits; what: bits of LrNotice. */
void
lr_workers_notice(int what)
{
}
