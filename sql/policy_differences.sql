-- policy: differences between documents, and between three of them. Lists go by the names of their elements, not by their
-- places; everything is done set by set, so that a hundred thousand rules are a few joins.

CREATE FUNCTION leadroute.moved(places integer[]) RETURNS boolean[]
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leadroute_moved';
COMMENT ON FUNCTION leadroute.moved(integer[]) IS
    'Says which elements moved. places: where the elements were, in the order in which they are now, each place once. Returns a boolean for each: false for as many as kept their order among each other, true for the fewest that cannot have.';

CREATE FUNCTION leadroute.document_elements(document jsonb)
    RETURNS TABLE (part text, name text, occurrence bigint, place integer, element jsonb)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.part, coalesce(e.element ->> p.key, ''), row_number() OVER (PARTITION BY p.part, coalesce(e.element ->> p.key, '') ORDER BY e.n),
           e.n::integer - 1, e.element
    FROM (VALUES ('step', 'steps', 'capability'), ('rule', 'rules', 'name'), ('test', 'tests', 'name')) AS p (part, list, key)
    CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(document -> p.list) WHEN 'array' THEN document -> p.list ELSE '[]' END)
        WITH ORDINALITY AS e (element, n);
$$;
COMMENT ON FUNCTION leadroute.document_elements(jsonb) IS
    'Returns the steps, rules and tests of a policy document, each with its part (step, rule, test), its name (of a step the capability), which of those with the same name it is, from 1, and its place, from 0.';

CREATE FUNCTION leadroute.compare_documents(old_document jsonb, new_document jsonb)
    RETURNS TABLE (part text, change text, name text, occurrence bigint, member text, old jsonb, new jsonb)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH pairs AS MATERIALIZED (
        SELECT part, name, occurrence, o.place AS old_place, n.place AS new_place, o.element AS old, n.element AS new
        FROM leadroute.document_elements(old_document) o FULL JOIN leadroute.document_elements(new_document) n USING (part, name, occurrence)
    ), headers AS (
        SELECT h.* FROM (SELECT old_document, new_document) AS d (old, new)
        CROSS JOIN LATERAL (
            SELECT k AS member,
                   -- of a list only that it is there: its elements are compared by themselves
                   CASE WHEN k IN ('steps', 'rules', 'tests') AND jsonb_typeof(d.old -> k) = 'array' THEN '[]' ELSE d.old -> k END AS old,
                   CASE WHEN k IN ('steps', 'rules', 'tests') AND jsonb_typeof(d.new -> k) = 'array' THEN '[]' ELSE d.new -> k END AS new
            FROM (SELECT jsonb_object_keys(CASE jsonb_typeof(d.old) WHEN 'object' THEN d.old ELSE '{}' END)
                  UNION SELECT jsonb_object_keys(CASE jsonb_typeof(d.new) WHEN 'object' THEN d.new ELSE '{}' END)) AS keys (k)) AS h
        WHERE h.old IS DISTINCT FROM h.new
    ), orders AS (
        SELECT part, array_agg(name ORDER BY new_place) AS names, array_agg(occurrence ORDER BY new_place) AS occurrences,
               array_agg(old_place ORDER BY new_place) AS old_places, array_agg(new_place ORDER BY new_place) AS new_places
        FROM pairs WHERE old IS NOT NULL AND new IS NOT NULL GROUP BY part
    )
    SELECT 'header', 'changed', NULL, NULL::bigint, h.member, h.old, h.new FROM headers h
    UNION ALL
    SELECT p.part, CASE WHEN p.old IS NULL THEN 'added' ELSE 'removed' END, p.name, p.occurrence, NULL, p.old, p.new
    FROM pairs p WHERE p.old IS NULL OR p.new IS NULL
    UNION ALL
    SELECT p.part, 'changed', p.name, p.occurrence, m.member, m.old, m.new
    FROM (SELECT * FROM pairs WHERE old <> new OFFSET 0) AS p
    CROSS JOIN LATERAL (
        SELECT k AS member, p.old -> k AS old, p.new -> k AS new
        FROM (SELECT jsonb_object_keys(CASE jsonb_typeof(p.old) WHEN 'object' THEN p.old ELSE '{}' END)
              UNION SELECT jsonb_object_keys(CASE jsonb_typeof(p.new) WHEN 'object' THEN p.new ELSE '{}' END)) AS keys (k)
        UNION ALL SELECT NULL, p.old, p.new WHERE jsonb_typeof(p.old) <> 'object' OR jsonb_typeof(p.new) <> 'object') AS m
    WHERE m.old IS DISTINCT FROM m.new
    UNION ALL
    SELECT o.part, 'moved', u.name, u.occurrence, NULL, to_jsonb(u.old_place), to_jsonb(u.new_place)
    FROM orders o CROSS JOIN LATERAL unnest(o.names, o.occurrences, o.old_places, o.new_places, leadroute.moved(o.old_places))
        AS u (name, occurrence, old_place, new_place, moved)
    WHERE u.moved;
$$;
COMMENT ON FUNCTION leadroute.compare_documents(jsonb, jsonb) IS
    'What document_differences() shows, in no order: the part (header, step, rule, test), the change (added, removed, changed, moved), and which of the elements with the same name it is.';

CREATE FUNCTION leadroute.document_differences(old_document jsonb, new_document jsonb)
    RETURNS TABLE (kind text, name text, member text, old jsonb, new jsonb)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE d.part WHEN 'header' THEN 'header' ELSE d.part || ' ' || d.change END, d.name, d.member, d.old, d.new
    FROM leadroute.compare_documents(old_document, new_document) d
    ORDER BY array_position('{header,step,rule,test}', d.part), d.name COLLATE "C", d.occurrence, array_position('{added,removed,moved,changed}', d.change),
             d.member COLLATE "C";
$$;
COMMENT ON FUNCTION leadroute.document_differences(jsonb, jsonb) IS
    'Returns the differences between two policy documents, a row each: kind is header, or step, rule or test followed by added, removed, changed or moved; name is the rule''s or the test''s name or the step''s capability; member is what changed within it; old and new are the values, null for one that is not there. Of an element that was added or removed they are the element; of one that moved, its place in the list, from 0: the fewest elements count as moved that explain the order.';

CREATE FUNCTION leadroute.policy_differences(name text, old_version integer, new_version integer)
    RETURNS TABLE (kind text, element text, member text, old jsonb, new jsonb)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d.kind, d.name, d.member, d.old, d.new
    FROM leadroute.document_differences(leadroute.policy_document(policy_differences.name, policy_differences.old_version),
                                        leadroute.policy_document(policy_differences.name, policy_differences.new_version)) d;
$$;
COMMENT ON FUNCTION leadroute.policy_differences(text, integer, integer) IS
    'Returns the differences between two versions of a policy, as document_differences() does; a version of null is the active one. element is what is called name there. Raises 42704 if there is no such version, 55000 if none is active.';

-- A slot is what two sides can both change: an element as a whole, a member of it, its place; or a member of the header. What says
-- where a rule leads is one thing, in several members: a pool from one side and an outcome from the other would be no rule.
CREATE FUNCTION leadroute.compare_three(base jsonb, active jsonb, draft jsonb)
    RETURNS TABLE (conflict boolean, side text, part text, change text, name text, occurrence bigint, member text, base_value jsonb, active_value jsonb,
                   draft_value jsonb)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH active_changes AS (
        SELECT c.part, coalesce(c.name, '') AS slot_name, coalesce(c.occurrence, 0) AS slot_no, c.change, c.name, c.occurrence, c.member, c.old, c.new,
               CASE c.change WHEN 'moved' THEN 'place' WHEN 'changed' THEN 'member ' || coalesce(c.member, '') ELSE 'whole' END AS slot
        FROM leadroute.compare_documents(base, active) c
    ), draft_changes AS (
        SELECT c.part, coalesce(c.name, '') AS slot_name, coalesce(c.occurrence, 0) AS slot_no, c.change, c.name, c.occurrence, c.member, c.old, c.new,
               CASE c.change WHEN 'moved' THEN 'place' WHEN 'changed' THEN 'member ' || coalesce(c.member, '') ELSE 'whole' END AS slot
        FROM leadroute.compare_documents(base, draft) c
    ), slots AS (
        SELECT part, coalesce(a.change, d.change) AS change, coalesce(a.name, d.name) AS name, coalesce(a.occurrence, d.occurrence) AS occurrence,
               coalesce(a.member, d.member) AS member, coalesce(a.old, d.old) AS old, a.new AS active_new, d.new AS draft_new,
               a.change IS NOT NULL AS by_active, d.change IS NOT NULL AS by_draft,
               coalesce(bool_or(a.change = 'removed') OVER element, false) AS active_removed,
               coalesce(bool_or(d.change = 'removed') OVER element, false) AS draft_removed,
               bool_or(a.change IS NOT NULL) OVER element AS active_touched, bool_or(d.change IS NOT NULL) OVER element AS draft_touched,
               bool_or(a.change IS NOT NULL) OVER target AND bool_or(d.change IS NOT NULL) OVER target
               AND NOT bool_and(a.change IS NOT NULL AND d.change IS NOT NULL AND a.new IS NOT DISTINCT FROM d.new) OVER target
               AND part = 'rule' AND slot IN ('member pool', 'member owner', 'member outcome', 'member reason') AS target_contested
        FROM active_changes a FULL JOIN draft_changes d USING (part, slot_name, slot_no, slot)
        WINDOW element AS (PARTITION BY part, slot_name, slot_no),
               target AS (PARTITION BY part, slot_name, slot_no, slot IN ('member pool', 'member owner', 'member outcome', 'member reason'))
    )
    SELECT by_active AND by_draft AND active_new IS DISTINCT FROM draft_new
           OR active_removed AND draft_touched AND NOT draft_removed OR draft_removed AND active_touched AND NOT active_removed
           OR target_contested,
           CASE WHEN by_active AND by_draft THEN 'both' WHEN by_active THEN 'active' ELSE 'draft' END,
           part, change, name, occurrence, member, old,
           CASE WHEN by_active THEN active_new WHEN NOT active_removed THEN old END,
           CASE WHEN by_draft THEN draft_new WHEN NOT draft_removed THEN old END
    FROM slots;
$$;
COMMENT ON FUNCTION leadroute.compare_three(jsonb, jsonb, jsonb) IS
    'Compares two documents with the one that both come from. Returns what either changed: side is active, draft, or both; conflict says that both changed the same, differently, or where a rule leads, or that one removed what the other changed. In no order; otherwise as compare_documents().';

CREATE FUNCTION leadroute.without_lists(document jsonb, lists text[]) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT document || coalesce((SELECT jsonb_object_agg(l, '[]'::jsonb) FROM unnest(lists) AS l WHERE jsonb_typeof(document -> l) = 'array'), '{}');
$$;
COMMENT ON FUNCTION leadroute.without_lists(jsonb, text[]) IS 'A policy document with empty lists in place of those named, where it has them.';

CREATE FUNCTION leadroute.merge_documents(base jsonb, active jsonb, draft jsonb, keep_active boolean, keep_order boolean) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH taken AS MATERIALIZED (
        SELECT * FROM leadroute.compare_three(base, active, draft) t
        -- where the active version counts, what the draft alone changed of something contested is as it was
        WHERE CASE WHEN t.conflict THEN keep_active AND (t.side <> 'draft' OR t.change = 'changed') ELSE t.side = 'active' END
          AND NOT (keep_order AND t.change = 'moved')
    ), edits AS (
        SELECT part, name, occurrence, bool_or(change = 'removed') AS removed, bool_or(change = 'moved') AS moved,
               bool_or(change = 'added' OR change = 'changed' AND member IS NULL) AS replaced,
               jsonb_object_agg(member, active_value) FILTER (WHERE change = 'changed' AND active_value IS NOT NULL AND member IS NOT NULL) AS sets,
               array_agg(member) FILTER (WHERE change = 'changed' AND active_value IS NULL AND member IS NOT NULL) AS unsets
        FROM taken WHERE part <> 'header' GROUP BY part, name, occurrence
    ), merged AS (
        SELECT part, d.place AS draft_place, a.place AS active_place, d.element IS NULL OR coalesce(e.moved, false) AS by_active,
               CASE WHEN d.element IS NULL OR e.replaced THEN a.element
                    WHEN jsonb_typeof(d.element) = 'object' THEN (d.element - coalesce(e.unsets, '{}')) || coalesce(e.sets, '{}')
                    ELSE d.element END AS element
        FROM leadroute.document_elements(draft) d
        FULL JOIN leadroute.document_elements(active) a USING (part, name, occurrence)
        LEFT JOIN edits e USING (part, name, occurrence)
        WHERE CASE WHEN e.removed THEN false ELSE d.element IS NOT NULL OR e.removed IS NOT NULL END
    ), anchored AS (
        -- what the active version placed stands behind what stands before it there
        SELECT *, count(*) FILTER (WHERE NOT by_active AND active_place IS NOT NULL) OVER (PARTITION BY part ORDER BY active_place) AS anchor FROM merged
    ), placed AS (
        SELECT *, max(draft_place) FILTER (WHERE NOT by_active AND active_place IS NOT NULL) OVER (PARTITION BY part, anchor) AS anchor_place FROM anchored
    ), lists AS (
        SELECT part || 's' AS list,
               jsonb_agg(element ORDER BY CASE WHEN by_active THEN coalesce(anchor_place, -1) ELSE draft_place END, by_active, active_place) AS elements
        FROM placed GROUP BY part
    )
    SELECT (leadroute.without_lists(draft, '{steps,rules,tests}')
            - coalesce((SELECT array_agg(member) FROM taken WHERE part = 'header' AND active_value IS NULL), '{}'))
           || coalesce((SELECT jsonb_object_agg(member, active_value) FROM taken WHERE part = 'header' AND active_value IS NOT NULL), '{}')
           || coalesce((SELECT jsonb_object_agg(list, elements) FROM lists), '{}');
$$;
COMMENT ON FUNCTION leadroute.merge_documents(jsonb, jsonb, jsonb, boolean, boolean) IS
    'Returns the draft with what the active version changed since the base, as far as it does not conflict; keep_active: also where it does; keep_order: but for places of elements.';
