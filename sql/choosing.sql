-- choosing: who was considered for a lead, and why not somebody else; the leads that nobody could take.

CREATE FUNCTION leadroute.decision_candidates(decision_id bigint)
    RETURNS TABLE (owner_id integer, of_pool boolean, weight integer, verdict text, per text, cap_of text, count bigint, maximum bigint, number bigint, level integer, next_turn bigint)
    LANGUAGE c STABLE STRICT ROWS 20 SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_decision_candidates';
COMMENT ON FUNCTION leadroute.decision_candidates(bigint) IS
    'Returns who was considered for a lead, from the record alone: an owner who was asked before the pool (of_pool false), then every member. verdict: taken; known_person or account_owner (of who was asked first, and has it); unavailable (never why), excluded (declined the lead before), skill_missing, capped, pool_capped, late (so many open leads that the first response would be), not_asked (the lead went to who was asked first), or, by the strategy, not_their_turn, has_more, less_room, fits_less, stands_behind. per, cap_of (owner, member, pool), count, maximum: of the cap, or the room, what was read. number: what the strategy compares (leads or value in the span; room). level: how well the skills fit. next_turn: the first turn from the lead''s on. Raises 42704 if there is no such decision.';

CREATE FUNCTION leadroute.candidate_words(verdict text, per text, cap_of text, count bigint, maximum bigint, number bigint, level integer, next_turn bigint) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE verdict
        WHEN 'taken' THEN 'has it'
        WHEN 'known_person' THEN 'has it: has the person''s other leads'
        WHEN 'account_owner' THEN 'has it: has the account'
        WHEN 'unavailable' THEN 'unavailable'
        WHEN 'excluded' THEN 'had declined it'
        WHEN 'skill_missing' THEN 'lacks a skill that the rule asks for'
        WHEN 'capped' THEN format('at the cap of %s %s%s: %s were counted', maximum, CASE per WHEN 'open' THEN 'open at a time' ELSE 'a ' || per END,
                                  CASE cap_of WHEN 'member' THEN ' in this pool' ELSE '' END, count)
        WHEN 'pool_capped' THEN format('the pool was at its cap of %s %s: %s were counted', maximum, CASE per WHEN 'open' THEN 'open at a time' ELSE 'a ' || per END, count)
        WHEN 'late' THEN format('could not have responded in time: %s open, room for %s', count, maximum)
        WHEN 'not_asked' THEN 'not asked'
        WHEN 'not_their_turn' THEN 'it was not their turn' || coalesce(format(': theirs was turn %s', next_turn), '')
        WHEN 'has_more' THEN format('had more already, by weight: %s', number)
        WHEN 'less_room' THEN format('had less room: %s', number)
        WHEN 'fits_less' THEN 'fits less, or came later' || coalesce(format(': level %s', level), '')
        WHEN 'stands_behind' THEN 'stands further behind'
        ELSE verdict END;
END;
COMMENT ON FUNCTION leadroute.candidate_words(text, text, text, bigint, bigint, bigint, integer, bigint) IS 'Says in words what decision_candidates() returns of a candidate.';

CREATE FUNCTION leadroute.why_not(decision_id bigint, owner text) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    d record;
    wanted integer;
    c record;
BEGIN
    SELECT v.outcome, v.owner, v.pool, v.turn, v.cause, e.pool_id, e.owner_id, e.pool_revision_id INTO d
        FROM leadroute.decisions v JOIN leadroute.entries e ON e.run_id = v.decision_id AND e.as_of = v.as_of WHERE v.decision_id = why_not.decision_id;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('decision %s does not exist', decision_id), HINT = 'See the column decision_id of leadroute.decisions.';
    END IF;
    SELECT o.owner_id INTO wanted FROM leadroute.owners o WHERE o.reference = why_not.owner;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('there is no owner %s', quote_literal(owner)), HINT = 'Give a reference: see leadroute.owners.';
    END IF;
    IF d.owner_id = wanted THEN
        RETURN format('%s has the lead, by decision %s.', owner, decision_id);
    END IF;
    IF d.pool_id IS NULL THEN
        RETURN format('Decision %s asked for no owner: its outcome is %s.', decision_id, d.outcome);
    END IF;
    IF d.pool_revision_id IS NULL THEN
        RETURN format('Decision %s considered nobody else: its cause is %s.', decision_id, d.cause);
    END IF;
    SELECT x.* INTO c FROM leadroute.decision_candidates(decision_id) x WHERE x.owner_id = wanted ORDER BY x.of_pool LIMIT 1;
    IF NOT FOUND THEN
        RETURN format('%s was no member of pool %s, which the rule leads to.', owner, d.pool);
    END IF;
    RETURN format('%s, of pool %s: %s.%s', owner, d.pool, leadroute.candidate_words(c.verdict, c.per, c.cap_of, c.count, c.maximum, c.number, c.level, c.next_turn),
        CASE WHEN d.owner IS NULL THEN ' Nobody could take the lead.' WHEN d.turn IS NULL THEN format(' %s has it.', d.owner) ELSE format(' %s has it, with turn %s.', d.owner, d.turn) END);
END $$;
COMMENT ON FUNCTION leadroute.why_not(bigint, text) IS
    'Says in plain language why an owner did not get the lead of a decision, from the record alone. owner: the reference. Raises 42704 if there is no such decision or owner.';

-- ---- overflow ----

CREATE VIEW leadroute.overflow_leads AS
    SELECT s.lead_id, p.name AS pool, s.since AS waiting_since, s.estimated_at, s.tier, s.score, s.run_id AS decision_id,
           row_number() OVER (PARTITION BY s.pool_id ORDER BY s.since, s.lead_id) AS place
    FROM leadroute.lead_states s LEFT JOIN leadroute.pools p USING (pool_id)
    WHERE s.outcome = 'pending' AND s.reason_code = 'overflow' AND s.closed_at IS NULL AND s.finished_at IS NULL;
COMMENT ON VIEW leadroute.overflow_leads IS 'Leads that nobody in their pool could take when they were routed; draw_overflow() gives them away, in order, as soon as somebody can.';
COMMENT ON COLUMN leadroute.overflow_leads.lead_id IS 'The lead.';
COMMENT ON COLUMN leadroute.overflow_leads.pool IS 'The pool that it waits for.';
COMMENT ON COLUMN leadroute.overflow_leads.waiting_since IS 'Since when.';
COMMENT ON COLUMN leadroute.overflow_leads.estimated_at IS 'When somebody may take it, as was to be seen when it came; null: nobody can tell.';
COMMENT ON COLUMN leadroute.overflow_leads.tier IS 'The tier of its score.';
COMMENT ON COLUMN leadroute.overflow_leads.score IS 'What computeLeadScore gave.';
COMMENT ON COLUMN leadroute.overflow_leads.decision_id IS 'The run: explain_decision() says who was considered.';
COMMENT ON COLUMN leadroute.overflow_leads.place IS 'Its place in the pool''s queue, from 1.';

CREATE FUNCTION leadroute.draw_overflow(pool text DEFAULT NULL, max integer DEFAULT 1000) RETURNS bigint
    LANGUAGE c SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_draw_overflow';
COMMENT ON FUNCTION leadroute.draw_overflow(text, integer) IS
    'Routes leads that wait in the overflow of a pool again, those that wait longest first; who can be given to nobody waits on, and keeps the place. pool: null for all. max: how many of each pool are tried, null for all, so that one that nobody helps keeps no other waiting. Returns how many left the overflow. Leads that somebody else has in hand are left out. pg_cron calls it each minute (see schedule_maintenance); close_lead() draws for the place that it makes free. Raises 42704 if there is no such pool, 22023 if max is negative.';
