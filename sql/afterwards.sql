-- afterwards: what people do with leads once they are routed.

CREATE FUNCTION leadroute.accept_lead(lead_id bigint, owner text DEFAULT NULL) RETURNS timestamptz
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_accept_lead';
COMMENT ON FUNCTION leadroute.accept_lead(bigint, text) IS
    'Notes that the owner of a lead takes it. owner: who accepts, by reference; null for whoever has it. Returns when it was accepted: again, the first time. Raises 42704 if there is no such lead or owner, 55000 if nobody or another owner has it, or if it is closed or its row is gone.';

CREATE FUNCTION leadroute.decline_lead(lead_id bigint, reason text, owner text DEFAULT NULL) RETURNS bigint
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_decline_lead';
COMMENT ON FUNCTION leadroute.decline_lead(bigint, text, text) IS
    'Has a lead go to the next candidate: it is routed again, and nobody who declined it is asked again until it is accepted or reopened; where nobody is left it waits in the overflow. reason: a code such as no_capacity, lower case, no personal data. owner: who declines, by reference; null for whoever has it. Give it where a call may be repeated: who declined already does not decline again, and the decision that holds is returned. Returns the new decision. Raises 22023 for a reason that is no code, 42704 if there is no such lead or owner, 55000 if nobody or another owner has it, if it is accepted or closed, its row is gone, or no policy is active.';

CREATE FUNCTION leadroute.log_first_response(lead_id bigint, at timestamptz DEFAULT now()) RETURNS timestamptz
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_log_first_response';
COMMENT ON FUNCTION leadroute.log_first_response(bigint, timestamptz) IS
    'Stops the clock of a lead''s first response. at: when it was. Returns when it was; a later call changes nothing, and gives the first one. Raises 22023 for a moment to come, by more than five minutes, 42704 if there is no such lead, 55000 if nobody has it or its row is gone.';

CREATE FUNCTION leadroute.close_lead(lead_id bigint, result text, value numeric DEFAULT NULL) RETURNS timestamptz
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_close_lead';
COMMENT ON FUNCTION leadroute.close_lead(bigint, text, numeric) IS
    'Ends the work on a lead: it takes no capacity any more, and its decision stands until it is reopened, whatever changes. result: won or lost. value: what a lead that is won is worth, in the team''s currency; null if not known. One that is won is a conversion: see conversions. Returns when it was closed; a repeated call changes nothing. Raises 22023 for another result or a value of a lost lead, 42704 if there is no such lead, 55000 if it ended otherwise, was never routed, or its row is gone.';

CREATE FUNCTION leadroute.reopen_lead(lead_id bigint, reason text DEFAULT '') RETURNS bigint
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_reopen_lead';
COMMENT ON FUNCTION leadroute.reopen_lead(bigint, text) IS
    'Opens a closed lead again: with its owner, unless that one has left, then it is routed anew. The conversion that closing noted is taken back. reason: for the record, no personal data. Returns the decision that holds; an open lead stays as it is. Raises 42704 if there is no such lead, 55000 if it was never routed or its row is gone.';

CREATE FUNCTION leadroute.reassign_lead(lead_id bigint, owner text, reason text, force boolean DEFAULT false) RETURNS bigint
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_reassign_lead';
COMMENT ON FUNCTION leadroute.reassign_lead(bigint, text, text, boolean) IS
    'Gives a lead to an owner whom a person names. owner: the reference. reason: for the record, no personal data. force: also to an owner who is not available (switched off, or outside of the dates; hours and absences are not asked), or at a cap. Returns the new decision; the one that holds if the owner has the lead already. Raises 22023 without a reason, 42704 if there is no such lead or owner, 55000 if the owner is not available or at a cap, or if the lead was never routed, is closed, was merged, or its row is gone.';

CREATE FUNCTION leadroute.override_decision(decision_id bigint, outcome leadroute.outcome, owner text, reason text) RETURNS bigint
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_override_decision';
COMMENT ON FUNCTION leadroute.override_decision(bigint, leadroute.outcome, text, text) IS
    'Decides as a person: a new decision, with the reason code overridden, that supersedes another. decision_id: the one that holds. outcome: any but pending. owner: the reference, with assigned; null with all others. reason: for the record, no personal data. Returns the new decision; the one that holds if it has that outcome and owner already. Raises 22023 for pending, for an owner too many or too few, or without a reason; 42704 if there is no such decision or owner; 55000 if another decision holds, the owner is at a cap, the lead is closed, was merged, or its row is gone.';

CREATE FUNCTION leadroute.offboard_owner(owner text, reason text)
    RETURNS TABLE (lead_id bigint, old_owner text, new_owner text, outcome leadroute.outcome, reason_code text, decision_id bigint)
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_offboard_owner';
COMMENT ON FUNCTION leadroute.offboard_owner(text, text) IS
    'Somebody leaves: switches the owner off, makes today, in the owner''s time zone, the last day, and decides all their open leads anew, in this transaction. Waits for transactions that write states, and inserts wait until it commits, so that no lead stays behind. owner: the reference. reason: for the record, no personal data. Returns each lead with its new owner; null where nobody can take it: it waits then, visibly, with the reason code owner_left if it cannot be routed at all. Raises 22023 without a reason, 42704 if there is no such owner.';

CREATE SEQUENCE leadroute.lead_batch_ids;
COMMENT ON SEQUENCE leadroute.lead_batch_ids IS 'Ids of batches of reroute_leads().';
CREATE FUNCTION leadroute.reroute_leads(filter text, policy text DEFAULT NULL, reason text DEFAULT '', dry_run boolean DEFAULT true, accepted boolean DEFAULT false)
    RETURNS TABLE (lead_id bigint, action text, old_owner text, new_owner text, old_outcome leadroute.outcome, new_outcome leadroute.outcome,
                   old_pool text, new_pool text, reason_code text, decision_id bigint, batch_id bigint)
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_reroute_leads';
COMMENT ON FUNCTION leadroute.reroute_leads(text, text, text, boolean, boolean) IS
    'Decides open leads again, after a mistake. filter: a condition over attributes, as a trial''s segment is; true for all. policy: whose active version decides; null for that of each lead''s table. reason: for the record, no personal data; needed unless dry_run. dry_run: shows what would move, and draws and writes nothing: who gets a lead of a rotation is then an example. accepted: moves also what was accepted, contacted, or decided by a person. Returns each lead of the filter with action: would move or moved, stays (same outcome and pool, and the owner is still an available member), left with the reason, or cannot be routed (its policy is not active); owner, pool and outcome before and after; the decision, and the batch for undo_reroute(). Raises 22023 for a filter that cannot be used or without a reason, 42501 for one that reads attributes not classed plain of a table that the caller may not read.';

CREATE FUNCTION leadroute.undo_reroute(batch_id bigint, reason text)
    RETURNS TABLE (lead_id bigint, action text, old_owner text, new_owner text, outcome leadroute.outcome, decision_id bigint)
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_undo_reroute';
COMMENT ON FUNCTION leadroute.undo_reroute(bigint, text) IS
    'Puts the leads that a batch moved back with whom they were, by a new decision each. batch_id: of reroute_leads(). reason: for the record, no personal data. Returns each lead with action: put back, or left with the reason, such as accepted or decided again since; repeated, the leads that are back stay so. Raises 22023 without a reason, 42704 if there is no such batch.';

CREATE VIEW leadroute.open_leads AS
    SELECT s.lead_id, t.relation_name AS leads_table, o.reference AS owner, p.name AS pool, s.outcome, s.reason_code, s.since,
           s.response_due_at, coalesce(s.responded_at IS NULL AND s.response_due_at < now(), false) AS overdue, s.accepted_at, s.responded_at,
           s.estimated_at, s.score, s.tier, s.run_id AS decision_id
    FROM leadroute.lead_states s
    LEFT JOIN leadroute.attached_tables t USING (source_id)
    LEFT JOIN leadroute.owners o ON o.owner_id = s.owner_id
    LEFT JOIN leadroute.pools p ON p.pool_id = s.pool_id
    WHERE s.closed_at IS NULL AND s.finished_at IS NULL AND s.outcome IN ('assigned', 'pending');
COMMENT ON VIEW leadroute.open_leads IS 'Leads that somebody works, or that wait for somebody: who has them, since when, until when a response is due.';
COMMENT ON COLUMN leadroute.open_leads.leads_table IS 'The lead''s table, by its name when it was attached.';
COMMENT ON COLUMN leadroute.open_leads.owner IS 'The owner''s reference; null while the lead waits.';
COMMENT ON COLUMN leadroute.open_leads.pool IS 'The pool, also of a lead that waits in its overflow.';
COMMENT ON COLUMN leadroute.open_leads.outcome IS 'assigned, or pending while the lead waits.';
COMMENT ON COLUMN leadroute.open_leads.reason_code IS 'Why: see docs/pipeline.md.';
COMMENT ON COLUMN leadroute.open_leads.since IS 'Since when the owner has it, or since when it waits.';
COMMENT ON COLUMN leadroute.open_leads.response_due_at IS 'By when the owner has to respond first; null if the rule says nothing of it.';
COMMENT ON COLUMN leadroute.open_leads.overdue IS 'Whether that is over, and nobody has responded.';
COMMENT ON COLUMN leadroute.open_leads.accepted_at IS 'When the owner accepted it; null if not.';
COMMENT ON COLUMN leadroute.open_leads.responded_at IS 'When somebody first responded to it; null if nobody has.';
COMMENT ON COLUMN leadroute.open_leads.estimated_at IS 'Of a lead that waits in a pool''s overflow: when somebody may take it, as far as can be told.';
COMMENT ON COLUMN leadroute.open_leads.score IS 'What computeLeadScore gave.';
COMMENT ON COLUMN leadroute.open_leads.tier IS 'The tier of the score.';
COMMENT ON COLUMN leadroute.open_leads.decision_id IS 'The run''s id; of a lead that waits for route_pending() its last.';
