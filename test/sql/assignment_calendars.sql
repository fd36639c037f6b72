-- When owners work: hours of the week as the owner's clock shows them, exact where clocks change; holidays of the region and of what it
-- lies in; absences; dates of effect. The windows of caps across changes of the clock. What refers to a calendar or an owner is checked.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET search_path = leadroute, pg_catalog;

INSERT INTO calendars (name) VALUES ('calendars office'), ('calendars night'), ('calendars round the clock'), ('calendars empty'), ('calendars split');
CREATE FUNCTION pg_temp.calendar(text) RETURNS integer LANGUAGE sql AS 'SELECT calendar_id FROM leadroute.calendars WHERE name = ''calendars '' || $1';
CREATE FUNCTION pg_temp.owner(text) RETURNS integer LANGUAGE sql AS 'SELECT owner_id FROM leadroute.owners WHERE reference = ''calendars '' || $1';
INSERT INTO calendar_hours SELECT pg_temp.calendar('office'), d, '09:00', '17:00' FROM generate_series(1, 5) d;
INSERT INTO calendar_hours SELECT pg_temp.calendar('night'), d, '01:30', '02:30' FROM generate_series(1, 7) d;
INSERT INTO calendar_hours SELECT pg_temp.calendar('round the clock'), d, '00:00', '24:00' FROM generate_series(1, 7) d;
INSERT INTO calendar_hours SELECT pg_temp.calendar('split'), d, s.starts, s.ends
    FROM generate_series(1, 7) d, (VALUES (time '00:00', time '01:00'), ('01:00', '03:00'), ('09:00', '12:00'), ('13:00', '17:30'), ('22:00', '24:00')) s (starts, ends);
INSERT INTO owners (reference, timezone, calendar_id)
    SELECT 'calendars ' || c.name || ' ' || z.name, z.name, pg_temp.calendar(c.name)
    FROM unnest(ARRAY['office', 'night', 'round the clock', 'split']) AS c (name),
         unnest(ARRAY['Europe/Berlin', 'America/New_York', 'Australia/Sydney', 'Australia/Lord_Howe', 'Asia/Kolkata', 'Africa/Casablanca', 'America/St_Johns', 'Pacific/Apia', 'UTC']) AS z (name);

-- Both changes of the clock. In spring 01:30 to 02:30 is half an hour, in autumn an hour and a half; Lord Howe's change takes half an
-- hour, from 02:00 to 02:30, and gives it back, from 01:30 to 02:00; Casablanca goes back before Ramadan, and on behind it; Kolkata stays.
-- A day round the clock has 23, 24 or 25 hours, or 23.5 and 24.5.
SELECT zone, day, working_time('calendars night ' || zone, day AT TIME ZONE zone, (day + interval '1 day') AT TIME ZONE zone) AS night,
    working_time('calendars round the clock ' || zone, day AT TIME ZONE zone, (day + interval '1 day') AT TIME ZONE zone) AS round_the_clock,
    working_time('calendars split ' || zone, day AT TIME ZONE zone, (day + interval '1 day') AT TIME ZONE zone) AS split,
    working_time('calendars office ' || zone, day AT TIME ZONE zone, (day + interval '2 days') AT TIME ZONE zone) AS office_until_monday
FROM (VALUES ('Europe/Berlin', timestamp '2026-03-29'), ('Europe/Berlin', '2026-10-25'), ('America/New_York', '2026-03-08'), ('America/New_York', '2026-11-01'),
             ('Australia/Sydney', '2026-10-04'), ('Australia/Sydney', '2026-04-05'), ('Australia/Lord_Howe', '2026-10-04'), ('Australia/Lord_Howe', '2026-04-05'),
             ('Asia/Kolkata', '2026-03-29'), ('Africa/Casablanca', '2025-02-23'), ('Africa/Casablanca', '2025-04-06'), ('UTC', '2026-03-29')) AS v (zone, day);
-- The same wall-clock hours on both sides of a change.
SELECT zone, next_working_time('calendars office ' || zone, at) AT TIME ZONE zone AS next_there, next_working_time('calendars office ' || zone, at) AS next
FROM (VALUES ('Europe/Berlin', timestamptz '2026-03-27 18:00+00'), ('Europe/Berlin', '2026-10-23 18:00+00'), ('America/New_York', '2026-03-06 23:00+00'),
             ('America/New_York', '2026-10-30 23:00+00'), ('Australia/Sydney', '2026-10-02 12:00+00'), ('Australia/Lord_Howe', '2026-04-03 12:00+00'),
             ('Asia/Kolkata', '2026-03-27 18:00+00'), ('Africa/Casablanca', '2025-02-21 18:00+00')) AS v (zone, at);
-- In the hour that is there twice, both times; in the one that is not there, never. Each end is outside, each start inside.
SELECT at, owner_working('calendars night Europe/Berlin', at) AS works FROM unnest(ARRAY['2026-10-24 23:29:59.999999+00', '2026-10-24 23:30+00', '2026-10-25 00:29:59+00', '2026-10-25 00:30+00',
    '2026-10-25 00:59:59+00', '2026-10-25 01:00+00', '2026-10-25 01:29:59.999999+00', '2026-10-25 01:30+00', '2026-03-29 00:59:59+00', '2026-03-29 01:00+00', '2026-03-29 01:29+00']::timestamptz[]) at;
-- An amount of work that goes over the change, and the way back.
SELECT working_time_end('calendars night Europe/Berlin', '2026-10-25 00:00+02', '1 hour') AS first_night, working_time_end('calendars night Europe/Berlin', '2026-10-25 00:00+02', '1 hour 30 minutes') AS end_of_night,
    working_time_end('calendars night Europe/Berlin', '2026-10-25 00:00+02', '1 hour 30 minutes 0.000001 seconds') AS next_night,
    working_time_end('calendars office Europe/Berlin', '2026-03-27 16:30+01', '45 minutes') AS over_the_weekend;
SELECT working_time('calendars office Europe/Berlin', '2026-03-27 16:30+01', working_time_end('calendars office Europe/Berlin', '2026-03-27 16:30+01', '123 hours 4 minutes 5.6 seconds')) AS there_and_back;
-- A day that a zone left out, and a clock that was put back over midnight.
SELECT working_time('calendars round the clock Pacific/Apia', '2011-12-29 00:00-10', '2012-01-01 00:00+14') AS without_the_30th,
    working_time('calendars round the clock America/St_Johns', '2010-11-07 00:00-02:30', '2010-11-08 00:00-03:30') AS st_johns;
SELECT starts_at AT TIME ZONE 'America/St_Johns' AS starts, ends_at - starts_at AS long, cap_window('day', 'America/St_Johns', starts_at - interval '1 microsecond') AS before, starts_at
    FROM cap_window('day', 'America/St_Johns', '2010-11-07 02:40+00');
SELECT cap_window('day', 'Pacific/Apia', '2011-12-30 09:59+00'), cap_window('day', 'Pacific/Apia', '2011-12-30 10:00+00');

-- Holidays: of the region and of what it lies in, never of one that only begins alike; in the owner's own zone; for who has a calendar.
INSERT INTO holidays (region, day, name) VALUES ('ZZ', '2026-06-01', 'of all'), ('ZZ-BY', '2026-06-02', 'of a part'), ('ZZ-B', '2026-06-03', 'of another part'),
    ('ZZ-BY-M', '2026-06-04', 'of a town'), ('Z', '2026-06-05', 'of somewhere else');
INSERT INTO owners (reference, region, timezone, calendar_id) SELECT 'calendars in ' || r, r, 'Europe/Berlin', pg_temp.calendar('office') FROM unnest(ARRAY['ZZ', 'ZZ-BY', 'ZZ-BY-M', 'ZZ-B']) r;
INSERT INTO owners (reference, region, timezone) VALUES ('calendars at all hours', 'ZZ', 'Europe/Berlin');
INSERT INTO owners (reference, region, timezone, calendar_id) VALUES ('calendars far away', 'ZZ', 'Australia/Sydney', pg_temp.calendar('office'));
-- They are read together, being of one pool.
INSERT INTO pools (name) VALUES ('calendars');
INSERT INTO pool_members (pool_id, owner_id) SELECT p.pool_id, o.owner_id FROM pools p, owners o WHERE p.name = 'calendars' AND o.reference LIKE 'calendars in %';
SELECT r AS region, string_agg(day::date::text, ' ' ORDER BY day) FILTER (WHERE NOT owner_working('calendars in ' || r, day AT TIME ZONE 'Europe/Berlin')) AS free
    FROM unnest(ARRAY['ZZ', 'ZZ-BY', 'ZZ-BY-M', 'ZZ-B']) r, generate_series(timestamp '2026-06-01 12:00', '2026-06-05 12:00', '1 day') day GROUP BY r ORDER BY r COLLATE "C";
SELECT owner_working('calendars at all hours', '2026-06-01 10:00+00') AS without_calendar, owner_working('calendars far away', '2026-06-01 00:00+00') AS monday_in_sydney, owner_working('calendars far away', '2026-06-02 00:00+00') AS tuesday_in_sydney;
DELETE FROM holidays WHERE region = 'ZZ';
SELECT owner_working('calendars far away', '2026-06-01 00:00+00') AS no_holiday_any_more;

-- Absences: over midnight, overlapping, open; gone with their end. Undone with the transaction.
INSERT INTO owners (reference, timezone, calendar_id) VALUES ('calendars away', 'Europe/Berlin', pg_temp.calendar('office')), ('calendars always', 'Europe/Berlin', NULL);
INSERT INTO absences (owner_id, starts_at, ends_at) SELECT pg_temp.owner(o), s::timestamptz, e::timestamptz FROM unnest(ARRAY['away', 'always']) o,
    (VALUES ('2026-06-08 16:00+02', '2026-06-09 10:00+02'), ('2026-06-09 10:00+02', '2026-06-09 11:00+02'), ('2026-06-09 09:00+02', '2026-06-09 09:30+02'), ('2026-06-10 12:00+02', '2026-06-10 12:30+02')) AS v (s, e);
SELECT o AS owner, working_time('calendars ' || o, '2026-06-08 00:00+02', '2026-06-13 00:00+02') AS week, owner_working('calendars ' || o, '2026-06-08 15:59+02') AS before, owner_working('calendars ' || o, '2026-06-08 16:00+02') AS away,
    next_working_time('calendars ' || o, '2026-06-08 16:00+02') AS back, working_time_end('calendars ' || o, '2026-06-08 15:00+02', '2 hours') AS two_hours FROM unnest(ARRAY['away', 'always']) o;
BEGIN;
INSERT INTO absences (owner_id, starts_at) VALUES (pg_temp.owner('away'), '2026-06-11 00:00+02');
SELECT working_time('calendars away', '2026-06-08 00:00+02', '2026-06-13 00:00+02') AS week, next_working_time('calendars away', '2026-06-11 12:00+02') AS back, working_time_end('calendars away', '2026-06-10 00:00+02', '8 hours') AS never;
ROLLBACK;
SELECT working_time('calendars away', '2026-06-08 00:00+02', '2026-06-13 00:00+02') AS week;
-- Long away: who is not back within 366 days is not waited for; who is, is.
INSERT INTO absences (owner_id, starts_at, ends_at) VALUES (pg_temp.owner('always'), '2030-01-01 00:00+00', '2031-01-02 00:00+00');
SELECT next_working_time('calendars always', '2030-01-01 00:00+00') AS too_long, next_working_time('calendars always', '2030-01-01 00:00:01+00') AS just_within,
    next_working_time('calendars always', '2030-01-01 00:00+00') AS still_too_long;
-- Of long ago, after questions about today.
SELECT owner_working('calendars away', now()) IS NOT NULL AS asked;
INSERT INTO absences (owner_id, starts_at, ends_at) VALUES (pg_temp.owner('always'), '1999-12-31 12:00+00', '2000-01-01 12:00+00');
SELECT owner_working('calendars always', now() + interval '100 years') AS in_future, owner_working('calendars always', '2000-01-01 11:59+00') AS then_away, owner_working('calendars always', '2000-01-01 12:00+00') AS then_back;

-- Dates of effect are days of the owner's zone, both included; the switch is not asked; hours up to 24:00; a calendar without hours never works.
INSERT INTO owners (reference, timezone, calendar_id, starts_on, ends_on, available) VALUES ('calendars dated', 'Australia/Sydney', NULL, '2026-10-04', '2026-10-05', false), ('calendars empty', 'UTC', pg_temp.calendar('empty'), NULL, NULL, true);
SELECT working_time('calendars dated', '2026-01-01', '2027-01-01') AS two_days_of_23_and_24_hours, next_working_time('calendars dated', '2026-01-01 00:00+00') AS first, owner_working('calendars dated', '2026-10-05 12:59:59+00') AS last,
    owner_working('calendars dated', '2026-10-05 13:00+00') AS over, next_working_time('calendars dated', '2026-10-05 13:00+00') AS never;
SELECT next_working_time('calendars empty', '2026-01-01') AS never, working_time('calendars empty', '2026-01-01', '2027-01-01') AS nothing, working_time_end('calendars empty', '2026-01-01', '1 second') AS no_end, working_time_end('calendars empty', '2026-01-01', '0') AS not_even_a_start;
UPDATE owners SET starts_on = '-infinity', ends_on = 'infinity' WHERE reference = 'calendars dated';
SELECT owner_working('calendars dated', '1900-01-01'), owner_working('calendars dated', '2900-01-01');
SELECT owner_working('calendars split UTC', '2026-06-08 23:59:59.999999+00') AS up_to_midnight, owner_working('calendars split UTC', '2026-06-09 00:59+00') AS and_on, owner_working('calendars split UTC', '2026-06-09 12:00+00') AS lunch,
    working_time_end('calendars split UTC', '2026-06-08 21:00+00', '0') AS next, working_time_end('calendars split UTC', '2026-06-08 21:00+00', '4 hours') AS over_midnight, working_time('calendars split UTC', '2026-06-09', '2026-06-08') AS backwards;
-- Hours that change hold from the next statement on.
UPDATE calendar_hours SET ends = '18:00' WHERE calendar_id = pg_temp.calendar('office') AND weekday = 1;
SELECT owner_working('calendars office UTC', '2026-06-08 17:30+00') AS monday, owner_working('calendars office UTC', '2026-06-09 17:30+00') AS tuesday;

-- Windows of caps. An hour that is there twice is two; one of which a change takes a part is shorter; a day has the hours that it has.
SELECT per, zone, at, starts_at, ends_at, ends_at - starts_at AS long FROM (VALUES
    ('hour', 'Europe/Berlin', timestamptz '2026-10-25 00:59:59+00'), ('hour', 'Europe/Berlin', '2026-10-25 01:00+00'), ('hour', 'Europe/Berlin', '2026-03-29 01:15+00'),
    ('hour', 'Australia/Lord_Howe', '2026-04-04 14:45+00'), ('hour', 'Australia/Lord_Howe', '2026-04-04 15:15+00'), ('hour', 'Australia/Lord_Howe', '2026-10-03 15:40+00'), ('hour', 'Asia/Kolkata', '2026-03-29 01:15+00'),
    ('day', 'Europe/Berlin', '2026-03-29 12:00+00'), ('day', 'Europe/Berlin', '2026-10-25 12:00+00'), ('day', 'Australia/Lord_Howe', '2026-04-05 00:00+00'), ('day', 'UTC', '2026-03-29 12:00+00'),
    ('day', 'America/Sao_Paulo', '2018-11-04 02:59:59+00'), ('day', 'America/Sao_Paulo', '2018-11-04 12:00+00'), ('day', 'America/Sao_Paulo', '2018-02-18 02:30+00'), ('hour', 'America/Sao_Paulo', '2018-02-18 02:30+00'),
    ('week', 'Europe/Berlin', '2026-03-29 12:00+00'), ('week', 'Europe/Berlin', '2026-10-25 12:00+00'), ('week', 'America/New_York', '2026-11-02 04:59:59+00'), ('week', 'America/New_York', '2026-11-02 05:00+00'),
    ('month', 'Europe/Berlin', '2026-03-29 12:00+00'), ('month', 'Europe/Berlin', '2026-10-25 12:00+00'), ('month', 'Australia/Sydney', '2026-12-31 13:00+00'), ('month', 'UTC', '2024-02-29 23:59+00')) AS v (per, zone, at), cap_window(per, zone, at);
-- Each window begins where the last ended, and holds the moments that gave it; at random moments of thirty years.
SELECT setseed(0.25);
SELECT count(*) AS windows, count(*) FILTER (WHERE NOT (w.starts_at <= at AND at < w.ends_at)) AS without_it, count(*) FILTER (WHERE next.starts_at <> w.ends_at OR last.ends_at <> w.starts_at) AS with_gaps
    FROM generate_series(1, 300), unnest(ARRAY['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Asia/Kolkata', 'Africa/Casablanca', 'America/St_Johns', 'Pacific/Apia', 'America/Sao_Paulo', 'Asia/Beirut']) AS zone,
    unnest(ARRAY['hour', 'day', 'week', 'month']) AS per, LATERAL (SELECT timestamptz '2000-01-01 00:00+00' + random() * interval '10957 days') AS m (at),
    cap_window(per, zone, at) w, cap_window(per, zone, w.ends_at) next, cap_window(per, zone, w.starts_at - interval '1 microsecond') last;
SELECT cap_window('open', 'UTC', now());
SELECT cap_window('day', 'Nowhere', now());
SELECT cap_window('day', 'UTC', 'infinity');

-- What is asked wrongly.
SELECT owner_working('calendars nobody');
SELECT owner_working(NULL);
SELECT owner_working('calendars office UTC', 'infinity');
SELECT working_time('calendars office UTC', '2026-01-01', NULL);
SELECT working_time('calendars office UTC', '2026-01-01', '200000-01-01');
SELECT working_time_end('calendars office UTC', now(), '1 day');
SELECT working_time_end('calendars office UTC', now(), '-1 second');

-- What is entered wrongly.
\set VERBOSITY terse
INSERT INTO calendar_hours VALUES (pg_temp.calendar('office'), 6, '17:00', '09:00');
INSERT INTO calendar_hours VALUES (pg_temp.calendar('office'), 8, '09:00', '17:00');
INSERT INTO holidays VALUES ('ZZ-', '2026-01-01');
INSERT INTO absences (owner_id, starts_at, ends_at) VALUES (pg_temp.owner('away'), '2026-01-02', '2026-01-01');
\set VERBOSITY default
DO $$
DECLARE
    statement text;
    problem text;
    hint text;
    detail text;
BEGIN
    FOREACH statement IN ARRAY ARRAY[
        'INSERT INTO calendar_hours VALUES ($1, 2, ''16:00'', ''20:00'')', 'INSERT INTO calendar_hours VALUES ($1, 2, ''08:00'', ''20:00'')', 'INSERT INTO calendar_hours VALUES ($1, 2, ''10:00'', ''11:00'')',
        'UPDATE calendar_hours SET weekday = 3, starts = ''08:00'' WHERE calendar_id = $1 AND weekday = 2', 'INSERT INTO calendar_hours VALUES (0, 2, ''16:00'', ''20:00'')',
        'DELETE FROM calendars WHERE calendar_id = $1', 'UPDATE calendars SET calendar_id = -1 WHERE calendar_id = $1', 'TRUNCATE calendars', 'INSERT INTO absences (owner_id, starts_at) VALUES (0, now())',
        'UPDATE owners SET calendar_id = 0 WHERE calendar_id = $1', 'UPDATE owners SET timezone = ''europe/berlin'' WHERE calendar_id = $1', 'UPDATE owners SET timezone = ''Berlin'' WHERE calendar_id = $1',
        'UPDATE owners SET timezone = ''Europe/Berln'' WHERE calendar_id = $1', 'UPDATE owners SET timezone = ''XYZ3'' WHERE calendar_id = $1', 'UPDATE owners SET timezone = ''<+03>-3'' WHERE calendar_id = $1',
        'UPDATE owners SET timezone = ''posix/Europe/Berlin'' WHERE calendar_id = $1', 'UPDATE owners SET timezone = '''' WHERE calendar_id = $1', 'INSERT INTO pools (name, timezone) VALUES (''calendars elsewhere'', ''CEST'')'] LOOP
        BEGIN
            EXECUTE replace(statement, '$1', pg_temp.calendar('office')::text);
            RAISE WARNING '% went through', statement;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT, detail = PG_EXCEPTION_DETAIL;
            RAISE WARNING E'%\n    %', statement, SQLSTATE || ': ' || concat_ws(E'\n    ', regexp_replace(problem, 'calendar [1-9]\d*', 'calendar N'), nullif(detail, ''), hint);
        END;
    END LOOP;
END $$;
-- What is right: touching hours, names with digits that are zones, the id of an owner who takes the absences along.
INSERT INTO calendar_hours VALUES (pg_temp.calendar('office'), 2, '17:00', '20:00'), (pg_temp.calendar('office'), 2, '08:00', '09:00');
UPDATE calendar_hours SET starts = starts + interval '30 minutes', ends = ends + interval '30 minutes' WHERE calendar_id = pg_temp.calendar('office') AND weekday = 2;
UPDATE owners SET timezone = 'Etc/GMT-3' WHERE reference = 'calendars empty';
UPDATE owners SET timezone = 'America/Argentina/Buenos_Aires' WHERE reference = 'calendars empty';
UPDATE owners SET owner_id = -7 WHERE reference = 'calendars away';
SELECT count(*) AS absences FROM absences WHERE owner_id = -7;
DELETE FROM owners WHERE owner_id = -7;
SELECT count(*) AS absences FROM absences WHERE owner_id = -7;
UPDATE owners SET calendar_id = NULL WHERE reference = 'calendars empty';
DELETE FROM calendars WHERE name = 'calendars empty';

-- Who may what.
CREATE ROLE regress_calendars_operator IN ROLE leadroute_operator;
CREATE ROLE regress_calendars_auditor IN ROLE leadroute_auditor;
SELECT pg_temp.owner('office UTC') AS office_utc, pg_temp.calendar('office') AS office \gset
SET ROLE regress_calendars_operator;
INSERT INTO absences (owner_id, starts_at, ends_at) VALUES (:office_utc, '2026-06-09 09:00+00', '2026-06-09 10:00+00');
UPDATE absences SET ends_at = '2026-06-09 11:00+00' WHERE owner_id = :office_utc;
SELECT next_working_time('calendars office UTC', '2026-06-09 09:00+00');
DELETE FROM absences WHERE owner_id = :office_utc;
INSERT INTO holidays (region, day) VALUES ('ZZ', '2026-06-01');
DELETE FROM calendar_hours WHERE calendar_id = :office;
SET ROLE regress_calendars_auditor;
SELECT count(*) > 0 AS sees_holidays FROM holidays;
SELECT count(*) FROM absences;
SELECT owner_working('calendars office UTC');
RESET ROLE;

DROP ROLE regress_calendars_operator, regress_calendars_auditor;
DELETE FROM pool_members WHERE pool_id = (SELECT pool_id FROM pools WHERE name = 'calendars');
DELETE FROM pools WHERE name = 'calendars';
DELETE FROM owners WHERE reference LIKE 'calendars %';
DELETE FROM calendars WHERE name LIKE 'calendars %';
DELETE FROM holidays WHERE region LIKE 'Z%';
SELECT (SELECT count(*) FROM absences) AS absences, (SELECT count(*) FROM calendar_hours) AS hours;
