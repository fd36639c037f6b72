-- calendars: when owners work: hours of the week, holidays, absences.

CREATE SEQUENCE leadroute.calendar_ids AS integer;
COMMENT ON SEQUENCE leadroute.calendar_ids IS 'Ids of calendars.';
CREATE TABLE leadroute.calendars (
    calendar_id integer PRIMARY KEY DEFAULT nextval('leadroute.calendar_ids'),
    name text NOT NULL UNIQUE CHECK (name <> ''),
    description text NOT NULL DEFAULT ''
);
COMMENT ON TABLE leadroute.calendars IS 'Working hours that owners share. Each owner keeps them in the owner''s own time zone.';
COMMENT ON COLUMN leadroute.calendars.calendar_id IS 'What owners refer to.';
COMMENT ON COLUMN leadroute.calendars.name IS 'Its name.';
COMMENT ON COLUMN leadroute.calendars.description IS 'For people.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.calendars
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

CREATE TABLE leadroute.calendar_hours (
    calendar_id integer,
    weekday integer CHECK (weekday BETWEEN 1 AND 7),
    starts time,
    ends time NOT NULL CONSTRAINT ends_after_starts_same_day CHECK (ends > starts),
    PRIMARY KEY (calendar_id, weekday, starts)
);
COMMENT ON TABLE leadroute.calendar_hours IS 'The working hours of calendars: any number of spans a day. A calendar without any never works.';
COMMENT ON COLUMN leadroute.calendar_hours.calendar_id IS 'See calendars.';
COMMENT ON COLUMN leadroute.calendar_hours.weekday IS '1 Monday to 7 Sunday.';
COMMENT ON COLUMN leadroute.calendar_hours.starts IS 'What the clock shows when the span begins.';
COMMENT ON COLUMN leadroute.calendar_hours.ends IS 'What the clock shows when it is over; up to 24:00. A shift over midnight is two spans.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.calendar_hours
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

CREATE TABLE leadroute.holidays (
    region text CHECK (region ~ '^[^-]+(-[^-]+)*$'),
    day date CHECK (isfinite(day)),
    name text NOT NULL DEFAULT '',
    PRIMARY KEY (region, day)
);
COMMENT ON TABLE leadroute.holidays IS 'Days on which owners of a region that have a calendar do not work.';
COMMENT ON COLUMN leadroute.holidays.region IS 'A region such as DE or DE-BY. Owners of region DE-BY have the holidays of DE, too.';
COMMENT ON COLUMN leadroute.holidays.day IS 'The day off, in each owner''s own time zone.';
COMMENT ON COLUMN leadroute.holidays.name IS 'For people.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.holidays
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

CREATE SEQUENCE leadroute.absence_ids;
COMMENT ON SEQUENCE leadroute.absence_ids IS 'Ids of absences.';
CREATE TABLE leadroute.absences (
    absence_id bigint PRIMARY KEY DEFAULT nextval('leadroute.absence_ids'),
    owner_id integer NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz,
    CONSTRAINT ends_at_after_starts_at CHECK (ends_at > starts_at)
);
CREATE INDEX absences_owner_id ON leadroute.absences (owner_id, ends_at);
COMMENT ON TABLE leadroute.absences IS 'When owners are away. Why is kept nowhere.';
COMMENT ON COLUMN leadroute.absences.absence_id IS 'Its number.';
COMMENT ON COLUMN leadroute.absences.owner_id IS 'See owners.';
COMMENT ON COLUMN leadroute.absences.starts_at IS 'The first moment away.';
COMMENT ON COLUMN leadroute.absences.ends_at IS 'The first moment back; null: open.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.absences
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

-- Foreign keys in all but one respect, as for members of pools.
CREATE FUNCTION leadroute.check_calendar() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    other leadroute.calendar_hours;
BEGIN
    IF leadroute.restoring() OR NEW.calendar_id IS NULL THEN
        RETURN NULL;
    END IF;
    IF TG_TABLE_NAME = 'owners' THEN
        PERFORM FROM leadroute.calendars c WHERE c.calendar_id = NEW.calendar_id FOR KEY SHARE;
    ELSE
        -- Who adds hours to one calendar does so one after the other: neither sees the other's otherwise.
        PERFORM FROM leadroute.calendars c WHERE c.calendar_id = NEW.calendar_id FOR NO KEY UPDATE;
    END IF;
    IF NOT FOUND THEN
        RAISE foreign_key_violation USING MESSAGE = format('there is no calendar %s', NEW.calendar_id), HINT = 'See leadroute.calendars.';
    END IF;
    IF TG_TABLE_NAME = 'calendar_hours' THEN
        SELECT h.* INTO other FROM leadroute.calendar_hours h
            WHERE h.calendar_id = NEW.calendar_id AND h.weekday = NEW.weekday AND h.starts <> NEW.starts AND h.starts < NEW.ends AND h.ends > NEW.starts
            ORDER BY h.starts LIMIT 1;
        IF FOUND THEN
            RAISE exclusion_violation USING MESSAGE = format('hours of calendar %s overlap', NEW.calendar_id),
                DETAIL = format('On weekday %s, %s to %s overlaps %s to %s.', NEW.weekday, NEW.starts, NEW.ends, other.starts, other.ends),
                HINT = 'Give one span from the first start to the last end, or spans that touch at most.';
        END IF;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.check_calendar() IS 'Trigger of owners and calendar_hours: the calendar has to exist (23503), and its hours must not overlap (23P01).';
CREATE TRIGGER check_calendar AFTER INSERT OR UPDATE OF calendar_id ON leadroute.owners
    FOR EACH ROW EXECUTE FUNCTION leadroute.check_calendar();
CREATE TRIGGER check_calendar AFTER INSERT OR UPDATE ON leadroute.calendar_hours
    FOR EACH ROW EXECUTE FUNCTION leadroute.check_calendar();

CREATE FUNCTION leadroute.keep_calendar() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        IF EXISTS (SELECT FROM leadroute.owners o WHERE o.calendar_id IS NOT NULL) OR EXISTS (SELECT FROM leadroute.calendar_hours) THEN
            RAISE foreign_key_violation USING MESSAGE = 'calendars are still in use',
                HINT = 'Set calendar_id of the owners to null and truncate leadroute.calendar_hours first.';
        END IF;
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        IF NEW.calendar_id = OLD.calendar_id THEN
            RETURN NULL;
        END IF;
        IF EXISTS (SELECT FROM leadroute.calendar_hours h WHERE h.calendar_id = OLD.calendar_id) THEN
            RAISE foreign_key_violation USING MESSAGE = format('calendar %s has hours', OLD.calendar_id),
                HINT = 'Leave its id as it is: a calendar is renamed by its name.';
        END IF;
    END IF;
    IF EXISTS (SELECT FROM leadroute.owners o WHERE o.calendar_id = OLD.calendar_id) THEN
        RAISE foreign_key_violation USING MESSAGE = format('calendar %s is in use by owners', OLD.calendar_id),
            HINT = 'Give the owners another calendar_id first.';
    END IF;
    DELETE FROM leadroute.calendar_hours h WHERE h.calendar_id = OLD.calendar_id;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.keep_calendar() IS 'Trigger of calendars: one that owners use cannot go, nor change its id; its hours go with it. Raises 23503.';
CREATE TRIGGER keep_calendar AFTER DELETE OR UPDATE OF calendar_id ON leadroute.calendars
    FOR EACH ROW EXECUTE FUNCTION leadroute.keep_calendar();
CREATE TRIGGER keep_calendar_truncate AFTER TRUNCATE ON leadroute.calendars
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.keep_calendar();

CREATE TRIGGER check_owner_and_pool AFTER INSERT OR UPDATE OF owner_id ON leadroute.absences
    FOR EACH ROW EXECUTE FUNCTION leadroute.check_owner_and_pool();

-- When somebody was away is not kept longer than the owner.
CREATE FUNCTION leadroute.drop_absences() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM leadroute.absences;
    ELSIF TG_OP = 'DELETE' THEN
        DELETE FROM leadroute.absences a WHERE a.owner_id = OLD.owner_id;
    ELSIF NEW.owner_id <> OLD.owner_id THEN
        UPDATE leadroute.absences a SET owner_id = NEW.owner_id WHERE a.owner_id = OLD.owner_id;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.drop_absences() IS 'Trigger of owners: an owner''s absences go with the owner, and follow a change of the id.';
CREATE TRIGGER drop_absences AFTER DELETE OR UPDATE OF owner_id ON leadroute.owners
    FOR EACH ROW EXECUTE FUNCTION leadroute.drop_absences();
CREATE TRIGGER drop_absences_truncate AFTER TRUNCATE ON leadroute.owners
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.drop_absences();

CREATE FUNCTION leadroute.timezone_mistake(timezone text) RETURNS text
    LANGUAGE c STABLE STRICT SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'leadroute_timezone_mistake';
COMMENT ON FUNCTION leadroute.timezone_mistake(text) IS
    'Returns a hint if a name is not one of pg_timezone_names as it is spelt there; else null.';

CREATE FUNCTION leadroute.check_timezone() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mistake text;
BEGIN
    IF NOT leadroute.restoring() THEN
        mistake := leadroute.timezone_mistake(NEW.timezone);
        IF mistake IS NOT NULL THEN
            RAISE invalid_parameter_value USING MESSAGE = format('there is no time zone "%s"', NEW.timezone), HINT = mistake;
        END IF;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.check_timezone() IS 'Trigger of owners and pools: timezone has to be a name of pg_timezone_names, spelt as there. Raises 22023.';
CREATE TRIGGER check_timezone AFTER INSERT OR UPDATE OF timezone ON leadroute.owners
    FOR EACH ROW EXECUTE FUNCTION leadroute.check_timezone();
CREATE TRIGGER check_timezone AFTER INSERT OR UPDATE OF timezone ON leadroute.pools
    FOR EACH ROW EXECUTE FUNCTION leadroute.check_timezone();

CREATE FUNCTION leadroute.owner_working(owner text, at timestamptz DEFAULT now()) RETURNS boolean
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'leadroute_owner_working';
COMMENT ON FUNCTION leadroute.owner_working(text, timestamptz) IS
    'Whether an owner works at a moment, by dates, calendar, holidays and absences; not why, and not whether the switch available is on. owner: its reference. Raises 42704 if there is no such owner, 22008 if the moment is infinite or after the year 140000, 22004 for null.';

CREATE FUNCTION leadroute.next_working_time(owner text, at timestamptz DEFAULT now()) RETURNS timestamptz
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'leadroute_next_working_time';
COMMENT ON FUNCTION leadroute.next_working_time(text, timestamptz) IS
    'Returns the first moment, from at on, at which an owner works; null if there is none within 366 days. owner: its reference. Raises 42704 if there is no such owner, 22008 if the moment is infinite or after the year 140000, 22004 for null.';

CREATE FUNCTION leadroute.working_time(owner text, since timestamptz, until timestamptz) RETURNS interval
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'leadroute_working_time';
COMMENT ON FUNCTION leadroute.working_time(text, timestamptz, timestamptz) IS
    'Returns how long an owner works from since to until, in hours, minutes and seconds: 0 if until is not after since. owner: its reference. Raises 42704 if there is no such owner, 22008 if a moment is infinite or after the year 140000, 22004 for null.';

CREATE FUNCTION leadroute.working_time_end(owner text, since timestamptz, amount interval) RETURNS timestamptz
    LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'leadroute_working_time_end';
COMMENT ON FUNCTION leadroute.working_time_end(text, timestamptz, interval) IS
    'Returns when an owner who begins at since has worked an amount of hours, minutes and seconds; of 0, when the owner works next. Null if that is never, or after 366 days without work. owner: its reference. Raises 42704 if there is no such owner, 22008 if the moment is infinite or after the year 140000, 22023 if the amount is negative or has days or months, 22004 for null.';

CREATE FUNCTION leadroute.cap_window(per text, timezone text, at timestamptz, OUT starts_at timestamptz, OUT ends_at timestamptz)
    LANGUAGE c STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'leadroute_cap_window';
COMMENT ON FUNCTION leadroute.cap_window(text, text, timestamptz) IS
    'Returns the span, from starts_at up to and not including ends_at, that a cap counts over at a moment. per: hour, day, week or month. Raises 22023 for another one or an unknown time zone, 22008 if the moment is infinite or after the year 140000.';
