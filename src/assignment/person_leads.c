/*
 * person_leads.c: the leads of persons: who has the latest, and whose the new ones are.
 *
 * The owner of a person's latest lead is the one to be preferred. How late a lead is, its id says: so a person of many leads costs no more
 * than others, and a lead that is routed again follows the same one. Leads of one batch follow each other: the record names the lead,
 * and who has it is known when turns are drawn.
 */
#include "assignment/persons.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

static void look_up_owners(LrPersonSearch *search, bool again);
static void lock_ownerless(LrPersonSearch *search);

/* Tells each run who has the person's latest lead, and which earlier run of the batch is of the same person. */
void
lr_person_leads_find(LrPersonSearch *search)
{
	LrBatch    *batch = search->batch;

	for (int i = 0; i < batch->n; i++)
	{
		LrPerson   *person = search->runs[i].person;
		LrRun	   *run = &batch->runs[i];

		while (person && person->joined)
			search->runs[i].person = person = person->joined;
		if (person == NULL)
			continue;
		run->same_person_as = person->last_run;
		person->last_run = i;
	}
	look_up_owners(search, false);
	if (search->acts)
		lock_ownerless(search);
}

/* Notes whose the batch's leads are. */
void
lr_person_leads_note(LrPersonSearch *search)
{
	LrBatch    *batch = search->batch;
	int64	   *leads = palloc(sizeof(int64) * batch->n);
	int64	   *persons = palloc(sizeof(int64) * batch->n);
	int			n = 0;
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID, INT8ARRAYOID};
	Datum		values[2];

	for (int i = 0; i < batch->n; i++)
	{
		LrPerson   *person = search->runs[i].person;

		/* 0: routed again, and nobody's any more */
		if (person == NULL && (batch->cause == 'i' || batch->runs[i].ended))
			continue;
		leads[n] = batch->runs[i].lead_id;
		persons[n++] = person ? person->person_id : 0;
	}
	if (n == 0)
		return;
	values[0] = lr_int8_array(leads, n);
	values[1] = lr_int8_array(persons, n);
	lr_sql_begin(&identity);
	if (batch->cause == 'i')
		lr_sql_kept(LR_PLAN_NOTE_PERSON_LEADS,
					"INSERT INTO leadroute.person_leads (lead_id, person_id) SELECT * FROM unnest($1, $2)"
					" ON CONFLICT (lead_id) DO UPDATE SET person_id = excluded.person_id", 2, types, values, NULL);
	else
		lr_sql("SELECT leadroute.change_persons($1, $2)", false, 2, types, values, NULL);
	lr_sql_end(&identity);
}

/*
 * Says which lead a run follows: the next one of the person before it in the batch, if a rule gives that to somebody and its id is higher
 * than that of the lead that was looked up. So it is the same lead when it is routed again, in whatever company. To be called when the
 * rules of all runs before it have been found.
 */
void
lr_person_follow(LrRun *run)
{
	int			earlier = run->same_person_as;

	while (earlier >= 0 && run->batch->runs[earlier].outcome != LR_ASSIGNED)
		earlier = run->batch->runs[earlier].same_person_as;
	if (earlier >= 0 && run->batch->runs[earlier].lead_id < run->preferred_lead_id)
		earlier = -1;
	run->same_person_as = earlier;
	if (earlier < 0)
		return;
	run->preferred_lead_id = run->batch->runs[earlier].lead_id;
	run->preferred_reason = LR_KNOWN_PERSON;
}

/* Returns who is to have a lead, as the run's preference says, and as the runs before it have been decided; 0: nobody in particular. */
int
lr_preferred_owner(const LrRun *run)
{
	if (run->same_person_as >= 0 && run->batch->runs[run->same_person_as].owner_id != 0)
		return run->batch->runs[run->same_person_as].owner_id;
	return run->preferred_owner_id;
}

/* Looks up the latest lead of each run's person, and its owner, if still there. again: only of persons for whom none was found. */
static void
look_up_owners(LrPersonSearch *search, bool again)
{
	LrBatch    *batch = search->batch;
	Datum	   *places = palloc(sizeof(Datum) * batch->n);
	int64	   *leads = palloc(sizeof(int64) * batch->n);
	int64	   *persons = palloc(sizeof(int64) * batch->n);
	int			n = 0;
	LrIdentity	identity;
	Oid			types[] = {INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, BOOLOID, TIMESTAMPTZOID};
	Datum		values[5];
	uint64		nfound;

	for (int i = 0; i < batch->n; i++)
	{
		LrPerson   *person = search->runs[i].person;

		if (person == NULL || !person->stored || (again && person->has_owner))
			continue;
		places[n] = Int32GetDatum(i);
		leads[n] = batch->runs[i].lead_id;
		persons[n++] = person->person_id;
	}
	if (n == 0)
		return;
	values[0] = PointerGetDatum(construct_array(places, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	values[1] = lr_int8_array(leads, n);
	values[2] = lr_int8_array(persons, n);
	/* in the shadow, leads that are new are decided already by who acts */
	values[3] = BoolGetDatum(batch->cause != 'i' || !search->acts);
	values[4] = TimestampTzGetDatum(batch->as_of);
	lr_sql_begin(&identity);
	/* leads of the batch are decided anew themselves; a lead that is the person's already follows earlier ones only */
	nfound = lr_sql_kept(LR_PLAN_PERSON_LEADS,
						 "SELECT w.place, f.lead_id, f.owner_id FROM unnest($1, $2, $3) AS w (place, lead_id, person_id)"
						 " CROSS JOIN LATERAL (SELECT CASE WHEN $4 AND (SELECT q.available FROM leadroute.person_leads m JOIN leadroute.lead_states t USING (lead_id)"
						 " JOIN leadroute.owners q ON q.owner_id = t.owner_id WHERE m.lead_id = w.lead_id AND m.person_id = w.person_id AND t.outcome = 'assigned')"
						 " THEN w.lead_id ELSE 9223372036854775807 END AS bound OFFSET 0) b"
						 " CROSS JOIN LATERAL (SELECT s.lead_id, s.owner_id FROM (SELECT l.lead_id FROM leadroute.person_leads l WHERE l.person_id = w.person_id"
						 " AND l.lead_id < b.bound ORDER BY l.lead_id DESC LIMIT 16) r JOIN leadroute.lead_states s USING (lead_id)"
						 " WHERE s.outcome = 'assigned' AND s.closed_at IS NULL AND NOT ($4 AND s.lead_id = ANY ($2))"
						 " ORDER BY s.finished_at IS NULL DESC, s.lead_id DESC LIMIT 1) f"
						 " JOIN leadroute.owners o ON o.owner_id = f.owner_id AND o.available AND CASE WHEN o.starts_on IS NULL AND o.ends_on IS NULL THEN true"
						 " ELSE ($5 AT TIME ZONE o.timezone)::date BETWEEN coalesce(o.starts_on, '-infinity') AND coalesce(o.ends_on, 'infinity') END",
						 5, types, values, NULL);
	for (uint64 row = 0; row < nfound; row++)
	{
		int			place = lr_sql_int32(row, 1, 0);
		LrRun	   *run = &batch->runs[place];

		run->preferred_lead_id = lr_sql_int64(row, 2, 0);
		run->preferred_owner_id = lr_sql_int32(row, 3, 0);
		run->preferred_reason = LR_KNOWN_PERSON;
		search->runs[place].person->has_owner = true;
	}
	lr_sql_end(&identity);
}

/* Locks persons who are known, but whose leads nobody has: of two sessions that decide who it will be one waits, and looks again. */
static void
lock_ownerless(LrPersonSearch *search)
{
	LrBatch    *batch = search->batch;
	int64	   *persons = palloc(sizeof(int64) * batch->n);
	int			n = 0;
	LrIdentity	identity;
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[1];

	for (int i = 0; i < batch->n; i++)
	{
		LrPerson   *person = search->runs[i].person;

		/* once a person: at the last run */
		if (person && person->stored && !person->has_owner && person->last_run == i)
			persons[n++] = person->person_id;
	}
	if (n == 0)
		return;
	values[0] = lr_int8_array(persons, n);
	lr_sql_begin(&identity);
	/* changed, not only locked: whose snapshot is older than the other's decision has to fail, not to miss it */
	lr_sql("WITH locked AS MATERIALIZED (SELECT digest FROM leadroute.person_keys WHERE person_id = ANY ($1) ORDER BY digest FOR NO KEY UPDATE)"
		   " UPDATE leadroute.person_keys k SET person_id = k.person_id FROM locked l WHERE k.digest = l.digest", false, 1, types, values, NULL);
	lr_sql_end(&identity);
	look_up_owners(search, true);
}
