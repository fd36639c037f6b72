-- assignment: owners, and the pools that leads rotate through.

CREATE SEQUENCE leadroute.owner_ids AS integer;
COMMENT ON SEQUENCE leadroute.owner_ids IS 'Ids of owners.';
CREATE TABLE leadroute.owners (
    owner_id integer PRIMARY KEY DEFAULT nextval('leadroute.owner_ids'),
    reference text NOT NULL UNIQUE CHECK (reference <> ''),
    available boolean NOT NULL DEFAULT true,
    kind text NOT NULL DEFAULT 'person' CHECK (kind IN ('person', 'queue', 'system')),
    timezone text NOT NULL DEFAULT 'UTC',
    region text CHECK (region <> ''),
    languages text[] NOT NULL DEFAULT '{}' CHECK (position(',' in array_to_string(languages, '', ',')) = 0),
    starts_on date,
    ends_on date,
    calendar_id integer,
    CONSTRAINT ends_on_from_starts_on CHECK (starts_on <= ends_on)
);
COMMENT ON TABLE leadroute.owners IS 'Who can work a lead: people, CRM queues or systems.';
COMMENT ON COLUMN leadroute.owners.reference IS 'A pseudonymous reference, such as the CRM''s user id; not a person''s name.';
COMMENT ON COLUMN leadroute.owners.available IS 'False: gets no leads. Why is nobody''s business here.';
COMMENT ON COLUMN leadroute.owners.owner_id IS 'What entries and states refer to.';
COMMENT ON COLUMN leadroute.owners.kind IS 'person, queue (of a CRM) or system.';
COMMENT ON COLUMN leadroute.owners.timezone IS 'IANA time zone, such as Europe/Berlin: of the working hours, the dates and the caps.';
COMMENT ON COLUMN leadroute.owners.region IS 'Where the owner works, such as DE-BY: its holidays, and those of DE, are free.';
COMMENT ON COLUMN leadroute.owners.languages IS 'Languages, as ISO 639 codes: each counts as a skill of that name.';
COMMENT ON COLUMN leadroute.owners.starts_on IS 'The first day, in the owner''s time zone; null: always.';
COMMENT ON COLUMN leadroute.owners.ends_on IS 'The last day, in the owner''s time zone; null: no end.';
COMMENT ON COLUMN leadroute.owners.calendar_id IS 'Working hours: see calendars. Null: works at all hours.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.owners
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

CREATE TABLE leadroute.owner_skills (
    owner_id integer,
    skill text CHECK (skill <> '' AND skill !~ '[,<>=]'),
    level integer NOT NULL DEFAULT 1 CHECK (level BETWEEN 1 AND 10),
    PRIMARY KEY (owner_id, skill)
);
COMMENT ON TABLE leadroute.owner_skills IS 'What owners are good at, and how good.';
COMMENT ON COLUMN leadroute.owner_skills.owner_id IS 'See owners.';
COMMENT ON COLUMN leadroute.owner_skills.skill IS 'What rules call it under skills.';
COMMENT ON COLUMN leadroute.owner_skills.level IS '1 to 10, 10 being the best.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.owner_skills
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

CREATE SEQUENCE leadroute.pool_ids AS integer;
COMMENT ON SEQUENCE leadroute.pool_ids IS 'Ids of pools.';
CREATE TABLE leadroute.pools (
    pool_id integer PRIMARY KEY DEFAULT nextval('leadroute.pool_ids'),
    name text NOT NULL UNIQUE CHECK (name <> ''),
    description text NOT NULL DEFAULT '',
    of_owner integer UNIQUE,
    strategy text NOT NULL DEFAULT 'rotation' CHECK (strategy IN ('rotation', 'balance', 'least_loaded', 'best_skill', 'fixed')),
    balance_by text NOT NULL DEFAULT 'count' CHECK (balance_by IN ('count', 'value')),
    balance_over text NOT NULL DEFAULT 'week' CHECK (balance_over IN ('day', 'week', 'month')),
    timezone text NOT NULL DEFAULT 'UTC',
    minutes_per_lead integer CHECK (minutes_per_lead BETWEEN 1 AND 10080)
);
COMMENT ON TABLE leadroute.pools IS 'Groups that leads rotate through. Each has a sequence leadroute.pool_N_turns: its turns.';
COMMENT ON COLUMN leadroute.pools.of_owner IS 'The owner whose pool of one it is: publishing makes one for each owner that a rule names. Null for all others. Its turns are leadroute.owner_turns.';
COMMENT ON COLUMN leadroute.pools.pool_id IS 'What policy versions pin: a pool keeps its meaning when it is renamed.';
COMMENT ON COLUMN leadroute.pools.name IS 'What rules call it.';
COMMENT ON COLUMN leadroute.pools.description IS 'For people.';
COMMENT ON COLUMN leadroute.pools.strategy IS 'rotation: by turn, in shares by weight; balance: to whom has least, by weight, in balance_over, so that who was away catches up; least_loaded: to whom has most room; best_skill: to whom fits the rule''s skills best; fixed: to the first by position.';
COMMENT ON COLUMN leadroute.pools.balance_by IS 'What the strategy balance evens out: count of leads, or value: score times the rule''s value.';
COMMENT ON COLUMN leadroute.pools.balance_over IS 'The span, in the pool''s time zone, in which the strategy balance evens out.';
COMMENT ON COLUMN leadroute.pools.timezone IS 'IANA time zone of the pool''s caps and of balance_over.';
COMMENT ON COLUMN leadroute.pools.minutes_per_lead IS 'Working minutes that an open lead takes its owner, by which the time of a first response is estimated; null: who works can respond.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.pools
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

CREATE TABLE leadroute.pool_members (
    pool_id integer,
    owner_id integer,
    weight integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000),
    position integer NOT NULL DEFAULT 0,
    starts_on date,
    ends_on date,
    PRIMARY KEY (pool_id, owner_id),
    CONSTRAINT ends_on_from_starts_on CHECK (starts_on <= ends_on)
);
CREATE INDEX pool_members_owner_id ON leadroute.pool_members (owner_id);
COMMENT ON TABLE leadroute.pool_members IS 'Who belongs to which pool, and for how many shares.';
COMMENT ON COLUMN leadroute.pool_members.weight IS 'Shares of the pool''s leads, 1 to 1000, relative to the other available members.';
COMMENT ON COLUMN leadroute.pool_members.pool_id IS 'See pools.';
COMMENT ON COLUMN leadroute.pool_members.owner_id IS 'See owners.';
COMMENT ON COLUMN leadroute.pool_members.position IS 'Place under the strategy fixed, lower ones first; equal ones by owner id.';
COMMENT ON COLUMN leadroute.pool_members.starts_on IS 'The first day in the pool, in the owner''s time zone; null: always.';
COMMENT ON COLUMN leadroute.pool_members.ends_on IS 'The last day in the pool, in the owner''s time zone; null: no end.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.pool_members
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

-- Foreign keys in all but one respect: pg_restore -j loads the tables of an extension in any order, so a restore is
-- not checked. A member without owner or pool gets no leads.
CREATE FUNCTION leadroute.check_owner_and_pool() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- not all tables have both columns
    owner CONSTANT integer := to_jsonb(NEW) ->> 'owner_id';
    pool CONSTANT integer := to_jsonb(NEW) ->> 'pool_id';
BEGIN
    IF leadroute.restoring() THEN
        RETURN NULL;
    END IF;
    PERFORM FROM leadroute.pools p WHERE p.pool_id = pool FOR KEY SHARE;
    IF NOT FOUND AND pool IS NOT NULL THEN
        RAISE foreign_key_violation USING MESSAGE = format('there is no pool %s', pool), HINT = 'See leadroute.pools.';
    END IF;
    PERFORM FROM leadroute.owners o WHERE o.owner_id = owner FOR KEY SHARE;
    IF NOT FOUND AND owner IS NOT NULL THEN
        RAISE foreign_key_violation USING MESSAGE = format('there is no owner %s', owner), HINT = 'See leadroute.owners.';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.check_owner_and_pool() IS 'Trigger of absences, caps, owner_skills and pool_members: the owner and the pool that a row names have to exist. Raises 23503.';
CREATE TRIGGER check_owner_and_pool AFTER INSERT OR UPDATE OF pool_id, owner_id ON leadroute.pool_members
    FOR EACH ROW EXECUTE FUNCTION leadroute.check_owner_and_pool();
CREATE TRIGGER check_owner_and_pool AFTER INSERT OR UPDATE OF owner_id ON leadroute.owner_skills
    FOR EACH ROW EXECUTE FUNCTION leadroute.check_owner_and_pool();

CREATE FUNCTION leadroute.keep_members() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        IF EXISTS (SELECT FROM leadroute.pool_members) THEN
            RAISE foreign_key_violation USING MESSAGE = format('%s still has members of pools', TG_TABLE_NAME),
                HINT = 'Delete the rows of leadroute.pool_members first.';
        END IF;
    ELSIF TG_TABLE_NAME = 'owners' THEN
        IF TG_OP = 'UPDATE' THEN
            IF NEW.owner_id = OLD.owner_id THEN
                RETURN NULL;
            END IF;
        END IF;
        IF EXISTS (SELECT FROM leadroute.pool_members m WHERE m.owner_id = OLD.owner_id) THEN
            RAISE foreign_key_violation USING MESSAGE = format('owner %s is a member of a pool', OLD.owner_id),
                HINT = 'Who leaves keeps the row: leadroute.offboard_owner() gives the leads to others. Otherwise delete the rows of leadroute.pool_members first.';
        END IF;
        IF TG_OP = 'DELETE' THEN
            DELETE FROM leadroute.caps c WHERE c.owner_id = OLD.owner_id;
            DELETE FROM leadroute.owner_skills k WHERE k.owner_id = OLD.owner_id;
        END IF;
    ELSE
        IF TG_OP = 'UPDATE' THEN
            IF NEW.pool_id = OLD.pool_id THEN
                RETURN NULL;
            END IF;
            -- Its turns and its decisions go by the number.
            RAISE foreign_key_violation USING MESSAGE = format('the id of pool %s cannot change', OLD.pool_id),
                HINT = 'Rename the pool, or make a new one.';
        END IF;
        IF EXISTS (SELECT FROM leadroute.pool_members m WHERE m.pool_id = OLD.pool_id) THEN
            RAISE foreign_key_violation USING MESSAGE = format('pool %s has members', OLD.pool_id),
                HINT = 'Delete the rows of leadroute.pool_members first.';
        END IF;
        DELETE FROM leadroute.caps c WHERE c.pool_id = OLD.pool_id;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.keep_members() IS 'Trigger of owners and pools: one that has rows in pool_members cannot go, nor change its id; no pool can change its id. Caps and skills go with whose they are. Raises 23503.';
CREATE TRIGGER keep_members AFTER DELETE OR UPDATE OF owner_id ON leadroute.owners FOR EACH ROW EXECUTE FUNCTION leadroute.keep_members();
CREATE TRIGGER keep_members_truncate AFTER TRUNCATE ON leadroute.owners FOR EACH STATEMENT EXECUTE FUNCTION leadroute.keep_members();
CREATE TRIGGER keep_members AFTER DELETE OR UPDATE OF pool_id ON leadroute.pools FOR EACH ROW EXECUTE FUNCTION leadroute.keep_members();
CREATE TRIGGER keep_members_truncate AFTER TRUNCATE ON leadroute.pools FOR EACH STATEMENT EXECUTE FUNCTION leadroute.keep_members();

-- A pool of one owner stays that: rules that name the owner mean nobody else.
CREATE FUNCTION leadroute.keep_owner_pool() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pool_of integer;
BEGIN
    IF TG_TABLE_NAME = 'pools' THEN
        IF NEW.of_owner IS NOT DISTINCT FROM OLD.of_owner THEN
            RETURN NEW;
        END IF;
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('whose pool "%s" is cannot change', OLD.name),
            HINT = 'Rules lead to an owner with "owner": publishing makes the pool.';
    END IF;
    IF TG_OP <> 'INSERT' THEN
        SELECT of_owner INTO pool_of FROM leadroute.pools p WHERE p.pool_id = OLD.pool_id;
    END IF;
    IF pool_of IS NULL AND TG_OP <> 'DELETE' THEN
        SELECT of_owner INTO pool_of FROM leadroute.pools p WHERE p.pool_id = NEW.pool_id AND (NEW.owner_id <> of_owner OR NEW.weight <> 1);
    END IF;
    IF pool_of IS NOT NULL THEN
        RAISE object_not_in_prerequisite_state
            USING MESSAGE = format('the members of the pool of owner %s cannot change', (SELECT quote_ident(o.reference) FROM leadroute.owners o WHERE o.owner_id = pool_of)),
            DETAIL = 'Rules that name the owner lead to this pool.',
            HINT = 'Set available of the owner to false, or change the rules; make a pool of your own for several owners.';
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION leadroute.keep_owner_pool() IS 'Trigger of pools and pool_members: a pool of one owner has this member only, and stays the owner''s. Raises 55000.';
CREATE TRIGGER keep_owner_pool BEFORE INSERT OR UPDATE OR DELETE ON leadroute.pool_members FOR EACH ROW EXECUTE FUNCTION leadroute.keep_owner_pool();
CREATE TRIGGER keep_owner_pool BEFORE UPDATE OF of_owner ON leadroute.pools FOR EACH ROW EXECUTE FUNCTION leadroute.keep_owner_pool();

-- How many leads, at most.
CREATE TABLE leadroute.caps (
    owner_id integer,
    pool_id integer,
    per text NOT NULL CHECK (per IN ('hour', 'day', 'week', 'month', 'open')),
    maximum integer NOT NULL CHECK (maximum >= 0),
    UNIQUE NULLS NOT DISTINCT (owner_id, pool_id, per),
    CONSTRAINT caps_owner_or_pool CHECK (num_nonnulls(owner_id, pool_id) > 0)
);
CREATE INDEX caps_pool_id ON leadroute.caps (pool_id);
COMMENT ON TABLE leadroute.caps IS 'How many leads an owner, a pool, or an owner as a member of a pool gets at most. A lead that was taken away again does not count.';
COMMENT ON COLUMN leadroute.caps.owner_id IS 'The owner; null: the pool as a whole.';
COMMENT ON COLUMN leadroute.caps.pool_id IS 'The pool: with an owner, what the owner gets as its member; null: what the owner gets in all.';
COMMENT ON COLUMN leadroute.caps.per IS 'hour, day, week (from Monday) or month, of the clock in the time zone of the owner, of a pool''s cap in that of the pool; open: leads that are open at a time.';
COMMENT ON COLUMN leadroute.caps.maximum IS 'Leads; per open, their loads: see tier_loads.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.caps
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

CREATE TRIGGER check_owner_and_pool AFTER INSERT OR UPDATE OF owner_id, pool_id ON leadroute.caps
    FOR EACH ROW EXECUTE FUNCTION leadroute.check_owner_and_pool();

CREATE TABLE leadroute.tier_loads (
    tier text PRIMARY KEY,
    load integer NOT NULL CHECK (load BETWEEN 1 AND 1000)
);
COMMENT ON TABLE leadroute.tier_loads IS 'How much an open lead of a tier counts towards caps per open. Tiers that are not listed count 1.';
COMMENT ON COLUMN leadroute.tier_loads.tier IS 'The tier that computeLeadScore gives.';
COMMENT ON COLUMN leadroute.tier_loads.load IS 'Its load, 1 to 1000.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.tier_loads
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

-- What the members of a pool were when decisions were made: written once by whoever first routes after a change, never per
-- lead. Two sessions may write the same content: duplicates do no harm, and nobody waits for another's commit.
CREATE SEQUENCE leadroute.pool_revision_ids AS integer;
COMMENT ON SEQUENCE leadroute.pool_revision_ids IS 'Ids of pool revisions; not dense.';
CREATE TABLE leadroute.pool_revisions (
    pool_revision_id integer PRIMARY KEY DEFAULT nextval('leadroute.pool_revision_ids'),
    pool_id integer NOT NULL,
    pool_name text NOT NULL,
    owner_ids integer[] NOT NULL,
    weights integer[] NOT NULL,
    available boolean[] NOT NULL,
    content_hash bytea NOT NULL,
    seen_at timestamptz NOT NULL,
    within_us bigint NOT NULL,
    working_clock boolean NOT NULL,
    base_turn bigint NOT NULL,
    strategy text NOT NULL,
    measure text NOT NULL,
    positions integer[],
    skills text[]
);
CREATE INDEX pool_revisions_pool ON leadroute.pool_revisions (pool_id, within_us, working_clock, pool_revision_id);
COMMENT ON TABLE leadroute.pool_revisions IS 'The members, weights and availability of pools as decisions read them.';
COMMENT ON COLUMN leadroute.pool_revisions.pool_name IS 'The pool''s name then.';
COMMENT ON COLUMN leadroute.pool_revisions.owner_ids IS 'The members, ascending.';
COMMENT ON COLUMN leadroute.pool_revisions.weights IS 'Their weights, in the order of owner_ids.';
COMMENT ON COLUMN leadroute.pool_revisions.available IS 'Whether they were available, in the order of owner_ids.';
COMMENT ON COLUMN leadroute.pool_revisions.content_hash IS 'SHA-256 of all that decisions read: members, weights, availability, strategy, places and skills.';
COMMENT ON COLUMN leadroute.pool_revisions.within_us IS 'For rules that want a first response within so many microseconds: available is who can give it. 0: who works at the moment.';
COMMENT ON COLUMN leadroute.pool_revisions.working_clock IS 'Whether only working time counts there.';
COMMENT ON COLUMN leadroute.pool_revisions.base_turn IS 'The turn with which the schedule begins: it is new with every change, so that each member''s share is exact from then on.';
COMMENT ON COLUMN leadroute.pool_revisions.strategy IS 'The pool''s strategy then.';
COMMENT ON COLUMN leadroute.pool_revisions.measure IS 'What the strategy balance evened out then: count or value.';
COMMENT ON COLUMN leadroute.pool_revisions.positions IS 'Places under the strategy fixed, in the order of owner_ids; null under others.';
COMMENT ON COLUMN leadroute.pool_revisions.skills IS 'Skills and levels of each, such as {"en 1, german 5"}, in the order of owner_ids; null where nobody has any.';
COMMENT ON COLUMN leadroute.pool_revisions.seen_at IS 'When it was written: at the first decision that read it.';

-- What was read of members beyond that: counters, once a batch, then what changed.
CREATE SEQUENCE leadroute.pool_state_ids MAXVALUE 9007199254740991;
COMMENT ON SEQUENCE leadroute.pool_state_ids IS 'Ids of pool states; unique, not dense.';
CREATE TABLE leadroute.pool_states (
    pool_state_id bigint PRIMARY KEY,
    base_id bigint,
    pool_revision_id integer NOT NULL,
    readings bytea NOT NULL
);
COMMENT ON TABLE leadroute.pool_states IS 'What decisions read of the members of a pool: who was at a cap, and the counters that the strategy compares. Written once a batch, and only what changed; decision_candidates() unfolds it.';
COMMENT ON COLUMN leadroute.pool_states.pool_state_id IS 'What entries refer to.';
COMMENT ON COLUMN leadroute.pool_states.base_id IS 'The state before, on which it builds; null: it says all.';
COMMENT ON COLUMN leadroute.pool_states.pool_revision_id IS 'The members: see pool_revisions.';
COMMENT ON COLUMN leadroute.pool_states.readings IS 'The readings that changed, each with the place in the batch from which it holds, in the compact form of docs/assignment.md.';

CREATE SEQUENCE leadroute.owner_turns MINVALUE 0 START 0;
COMMENT ON SEQUENCE leadroute.owner_turns IS 'Turns of the pools of one owner, which need no sequence each.';

-- A sequence per pool: a turn needs no lock that lasts, and survives a crash.
CREATE FUNCTION leadroute.make_turns() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.of_owner IS NOT NULL THEN
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        EXECUTE format('DROP SEQUENCE IF EXISTS leadroute.%I', 'pool_' || OLD.pool_id || '_turns');
    -- A restored dump brings the sequence before the row.
    ELSIF to_regclass(format('leadroute.%I', 'pool_' || NEW.pool_id || '_turns')) IS NULL THEN
        EXECUTE format('CREATE SEQUENCE leadroute.%I MINVALUE 0 START 0', 'pool_' || NEW.pool_id || '_turns');
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.make_turns() IS 'Trigger of pools: makes and drops the sequence of a pool''s turns.';
CREATE TRIGGER make_turns AFTER INSERT OR DELETE ON leadroute.pools FOR EACH ROW EXECUTE FUNCTION leadroute.make_turns();
