-- What the lines pools and members of `make bench` insert into: pools with and without caps and calendars, and a table for each side. capped: false leaves the
-- caps out.
INSERT INTO leadroute.calendars (name) VALUES ('always');
INSERT INTO leadroute.calendar_hours (calendar_id, weekday, starts, ends)
    SELECT c.calendar_id, d, s.starts, s.ends FROM leadroute.calendars c, generate_series(1, 7) d, (VALUES (time '00:00', time '12:00'), (time '12:00', time '24:00')) s (starts, ends) WHERE c.name = 'always';
INSERT INTO leadroute.owners (reference, timezone, calendar_id, region)
    SELECT 'member ' || n, (ARRAY['UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kolkata'])[1 + n % 4], (SELECT calendar_id FROM leadroute.calendars WHERE name = 'always'), 'DE-BY'
    FROM generate_series(1, 1000) n;
INSERT INTO leadroute.owners (reference) SELECT 'plain ' || n FROM generate_series(1, 170) n;
INSERT INTO leadroute.pools (name) VALUES ('thousand'), ('ten'), ('crowd');
INSERT INTO leadroute.pools (name) SELECT 'crowd ' || n FROM generate_series(0, 15) n;
INSERT INTO leadroute.pool_members (pool_id, owner_id, weight)
    SELECT p.pool_id, o.owner_id, 1 + o.owner_id % 3 FROM leadroute.pools p JOIN leadroute.owners o ON
        (p.name = 'thousand' AND o.reference LIKE 'member %') OR (p.name = 'ten' AND o.reference ~ '^plain (\d|10)$') OR
        (p.name = 'crowd' AND o.reference ~ '^plain 1[0-9]$') OR (p.name LIKE 'crowd %' AND substr(o.reference, 7)::int / 10 = 1 + substr(p.name, 7)::int AND o.reference LIKE 'plain %');
-- caps that are kept count of, and never reached; the first one brings an index of the states with it
\if :capped
INSERT INTO leadroute.caps (owner_id, pool_id, per, maximum)
    SELECT o.owner_id, NULL, c.per, 1000000000 FROM leadroute.owners o, (VALUES ('day'), ('open')) c (per) WHERE o.reference LIKE 'member %';
INSERT INTO leadroute.caps (owner_id, pool_id, per, maximum)
    SELECT m.owner_id, m.pool_id, 'day', 1000000000 FROM leadroute.pool_members m JOIN leadroute.pools p USING (pool_id) WHERE p.name LIKE 'crowd%';
\endif
SELECT leadroute.publish_policy('assignment_' || replace(name, ' ', '_'), jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb,
    'rules', jsonb_build_array(jsonb_build_object('name', 'all', 'when', 'true', 'pool', name))), 'bench') FROM leadroute.pools WHERE name IN ('thousand', 'ten', 'crowd');
SELECT leadroute.publish_policy('assignment_crowds', jsonb_build_object('leadroute', 1, 'steps', '[{"capability": "assignOwner"}]'::jsonb, 'rules',
    (SELECT jsonb_agg(jsonb_build_object('name', name, 'when', format('source = %L', name), 'pool', name)) FROM leadroute.pools WHERE name LIKE 'crowd %')), 'bench');
SELECT leadroute.activate_policy(p) FROM unnest(ARRAY['assignment_thousand', 'assignment_ten', 'assignment_crowd', 'assignment_crowds']) p;
CREATE TABLE members_thousand (id bigint PRIMARY KEY DEFAULT nextval('leadroute.lead_ids'), source text);
CREATE TABLE members_ten (LIKE members_thousand INCLUDING ALL);
CREATE TABLE crowd_one (LIKE members_thousand INCLUDING ALL);
CREATE TABLE crowd_many (LIKE members_thousand INCLUDING ALL);
SELECT leadroute.attach_table('members_thousand', policy => 'assignment_thousand'), leadroute.attach_table('members_ten', policy => 'assignment_ten'),
       leadroute.attach_table('crowd_one', policy => 'assignment_crowd'), leadroute.attach_table('crowd_many', policy => 'assignment_crowds');
