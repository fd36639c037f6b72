-- Working time against an oracle that knows nothing of spans: it asks of each minute what the clock shows, by AT TIME ZONE. Random calendars,
-- zones, holidays, absences and dates, around the changes of clocks, from a seed. Everything begins and ends at whole minutes, so minutes are exact.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
CREATE SCHEMA assignment_calendars_random;
SET search_path TO assignment_calendars_random;
INSERT INTO leadroute.calendars (name) VALUES ('random');
SELECT calendar_id AS calendar FROM leadroute.calendars WHERE name = 'random' \gset
INSERT INTO leadroute.owners (reference) VALUES ('random');
SELECT owner_id AS owner FROM leadroute.owners WHERE reference = 'random' \gset

CREATE FUNCTION dice(seed text, n integer) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT mod(('x' || substr(md5(seed), 1, 7))::bit(28)::integer, n)
$$;

-- where clocks change, among others: by an hour, by half an hour, at midnight, over midnight, over a whole day, never
CREATE FUNCTION moment(seed text, OUT zone text, OUT at timestamptz) LANGUAGE sql IMMUTABLE AS $$
    SELECT z.zone, z.at::timestamptz - interval '4 days' + dice(seed || 'at', 3 * 24 * 60) * interval '1 minute'
    FROM (SELECT (ARRAY['Europe/Berlin|2026-03-29 01:00Z', 'Europe/Berlin|2026-10-25 01:00Z', 'America/New_York|2026-03-08 07:00Z', 'America/New_York|2026-11-01 06:00Z',
        'Australia/Sydney|2026-04-04 16:00Z', 'Australia/Sydney|2026-10-03 16:00Z', 'Australia/Lord_Howe|2026-04-04 15:00Z', 'Australia/Lord_Howe|2026-10-03 15:30Z',
        'Africa/Casablanca|2025-02-23 02:00Z', 'Africa/Casablanca|2025-04-06 02:00Z', 'America/Sao_Paulo|2018-02-18 02:00Z', 'America/Sao_Paulo|2018-11-04 03:00Z',
        'America/St_Johns|2010-03-14 03:31Z', 'America/St_Johns|2010-11-07 02:31Z', 'Asia/Beirut|2022-03-26 22:00Z', 'Asia/Beirut|2022-10-29 21:00Z',
        'Pacific/Apia|2011-12-30 10:00Z', 'Asia/Kolkata|2026-05-01 00:00Z', 'Pacific/Kiritimati|1994-12-31 10:00Z', 'America/Caracas|2016-05-01 07:00Z'])[1 + dice(seed || 'zone', 20)] AS pair) p,
        LATERAL (SELECT split_part(pair, '|', 1), split_part(pair, '|', 2)) AS z (zone, at)
$$;

-- minutes that the owner works, of so many from a moment on
CREATE FUNCTION minutes(owner integer, since timestamptz, n integer) RETURNS TABLE (minute timestamptz) LANGUAGE sql STABLE AS $$
    SELECT m.minute
    -- a day begins once, and does not come back
    FROM leadroute.owners o, LATERAL (SELECT g, g AT TIME ZONE o.timezone, max((g AT TIME ZONE o.timezone)::date) OVER (ORDER BY g) FROM generate_series(since - interval '2 hours', since + (n - 1) * interval '1 minute', '1 minute') g) AS m (minute, shown, day)
    WHERE o.owner_id = owner AND m.minute >= since AND m.day >= coalesce(o.starts_on, m.day) AND m.day <= coalesce(o.ends_on, m.day)
    AND (o.calendar_id IS NULL OR EXISTS (SELECT FROM leadroute.calendar_hours h WHERE h.calendar_id = o.calendar_id AND h.weekday = extract(isodow FROM shown) AND shown::time >= h.starts AND shown::time < h.ends)
        AND NOT EXISTS (SELECT FROM leadroute.holidays h WHERE h.day = shown::date AND (h.region = o.region OR o.region LIKE h.region || '-%')))
    AND NOT EXISTS (SELECT FROM leadroute.absences a WHERE a.owner_id = o.owner_id AND minute >= a.starts_at AND (a.ends_at IS NULL OR minute < a.ends_at))
    ORDER BY m.minute
$$;

-- makes a random owner, and compares; returns what differs
CREATE FUNCTION try(seed text, owner integer, calendar integer) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    zone text;
    since timestamptz;
    span integer := 6 * 24 * 60 + dice(seed || 'span', 3 * 24 * 60);
    worked timestamptz[];
    first integer;
    last integer;
    amount integer;
    before integer; -- minutes worked before first
    until timestamptz;
    expected timestamptz;
BEGIN
    SELECT m.zone, m.at INTO zone, since FROM moment(seed) m;
    DELETE FROM leadroute.calendar_hours WHERE calendar_id = calendar;
    DELETE FROM leadroute.absences WHERE owner_id = owner;
    DELETE FROM leadroute.holidays WHERE region LIKE 'QQ%';
    -- cut points of each day, every other stretch between them is a span; sometimes from 0:00, or to 24:00
    INSERT INTO leadroute.calendar_hours
        SELECT calendar, d, time '00:00' + cuts[i] * interval '1 minute', CASE WHEN cuts[i + 1] = 1440 THEN time '24:00' ELSE time '00:00' + cuts[i + 1] * interval '1 minute' END
        FROM generate_series(1, 7) d, LATERAL (SELECT array_agg(DISTINCT c ORDER BY c) FROM (SELECT least(greatest(dice(seed || d || 'c' || i, 1800) - 180, 0), 1440) FROM generate_series(1, 2 * dice(seed || d, 4)) i) AS v (c)) AS l (cuts),
        generate_series(1, cardinality(cuts) - 1, 2) i;
    INSERT INTO leadroute.holidays SELECT DISTINCT (ARRAY['QQ', 'QQ-A', 'QQ-A-1', 'QQ-AB'])[1 + dice(seed || 'region' || i, 4)], (since AT TIME ZONE zone)::date + dice(seed || 'day' || i, 9) FROM generate_series(1, dice(seed || 'holidays', 3)) i;
    INSERT INTO leadroute.absences (owner_id, starts_at, ends_at)
        SELECT owner, from_minute, CASE WHEN dice(seed || 'open' || i, 12) > 0 THEN from_minute + (1 + dice(seed || 'long' || i, 3000)) * interval '1 minute' END
        FROM generate_series(1, dice(seed || 'absences', 4)) i, LATERAL (SELECT since + (dice(seed || 'away' || i, 13000) - 1500) * interval '1 minute') AS a (from_minute);
    UPDATE leadroute.owners SET timezone = zone, region = (ARRAY['QQ', 'QQ-A', 'QQ-A-1', NULL])[1 + dice(seed || 'mine', 4)], calendar_id = CASE WHEN dice(seed || 'always', 8) > 0 THEN calendar END,
        starts_on = CASE WHEN dice(seed || 'starts', 6) = 0 THEN (since AT TIME ZONE zone)::date + dice(seed || 'on', 6) END,
        ends_on = CASE WHEN dice(seed || 'ends', 6) = 0 THEN (since AT TIME ZONE zone)::date + 5 + dice(seed || 'last', 4) END WHERE owner_id = owner;
    worked := coalesce((SELECT array_agg(minute) FROM minutes(owner, since, span)), '{}');

    IF leadroute.working_time('random', since, since + span * interval '1 minute') <> cardinality(worked) * interval '1 minute' THEN
        RETURN NEXT format('%s %s: works %s, not %s minutes', seed, zone, leadroute.working_time('random', since, since + span * interval '1 minute'), cardinality(worked));
    END IF;
    FOR i IN 1 .. 30 LOOP
        -- from anywhere to anywhere
        first := dice(seed || 'first' || i, span);
        last := first + dice(seed || 'last' || i, span - first + 1);
        before := width_bucket(since + first * interval '1 minute' - interval '1 us', worked);
        amount := width_bucket(since + last * interval '1 minute' - interval '1 us', worked) - before;
        IF leadroute.working_time('random', since + first * interval '1 minute', since + last * interval '1 minute') <> amount * interval '1 minute' THEN
            RETURN NEXT format('%s %s: from %s to %s works %s, not %s minutes', seed, zone, first, last, leadroute.working_time('random', since + first * interval '1 minute', since + last * interval '1 minute'), amount);
        END IF;
        -- now, in the last microsecond of a minute
        IF leadroute.owner_working('random', since + first * interval '1 minute' + interval '59.999999 s') <> (since + first * interval '1 minute' = ANY (worked)) THEN
            RETURN NEXT format('%s %s: working at %s is wrong', seed, zone, since + first * interval '1 minute');
        END IF;
        -- next
        expected := worked[before + 1];
        until := leadroute.next_working_time('random', since + first * interval '1 minute');
        IF (CASE WHEN expected IS NULL THEN until < since + span * interval '1 minute' ELSE until IS DISTINCT FROM expected END) THEN
            RETURN NEXT format('%s %s: works next at %s, not %s', seed, zone, until, expected);
        END IF;
        -- when an amount is done: behind the minute in which it is
        amount := 1 + dice(seed || 'amount' || i, 2000);
        expected := worked[before + amount] + interval '1 minute';
        until := leadroute.working_time_end('random', since + first * interval '1 minute', amount * interval '1 minute');
        IF (CASE WHEN expected IS NULL THEN until <= since + span * interval '1 minute' ELSE until IS DISTINCT FROM expected END) THEN
            RETURN NEXT format('%s %s: from %s on %s minutes end at %s, not %s', seed, zone, first, amount, until, expected);
        END IF;
    END LOOP;
    -- the same, whatever was asked before: half a minute of work on, half a minute back
    IF worked <> '{}' AND leadroute.working_time_end('random', worked[1], '30 s') <> worked[1] + interval '30 s' THEN
        RETURN NEXT format('%s %s: half a minute', seed, zone);
    END IF;
    RETURN;
END $$;

\set seed 'calendars'
\echo seed: :seed
SELECT count(*) AS differences, min(t) AS first FROM generate_series(1, 60) i, try(:'seed' || i, :owner, :calendar) t;

DELETE FROM leadroute.owners WHERE reference = 'random';
DELETE FROM leadroute.calendars WHERE name = 'random';
DELETE FROM leadroute.holidays WHERE region LIKE 'QQ%';
DROP SCHEMA assignment_calendars_random CASCADE;
