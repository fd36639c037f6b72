-- assignment: owners, and the pools that leads rotate through.

CREATE SEQUENCE leadroute.owner_ids AS integer;
CREATE TABLE leadroute.owners (
    owner_id integer PRIMARY KEY DEFAULT nextval('leadroute.owner_ids'),
    reference text NOT NULL UNIQUE CHECK (reference <> ''),
    available boolean NOT NULL DEFAULT true
);
COMMENT ON TABLE leadroute.owners IS 'Who can work a lead: people, CRM queues or systems.';
COMMENT ON COLUMN leadroute.owners.reference IS 'A pseudonymous reference, such as the CRM''s user id; not a person''s name.';
COMMENT ON COLUMN leadroute.owners.available IS 'False: gets no leads. Why is nobody''s business here.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.owners
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

CREATE SEQUENCE leadroute.pool_ids AS integer;
CREATE TABLE leadroute.pools (
    pool_id integer PRIMARY KEY DEFAULT nextval('leadroute.pool_ids'),
    name text NOT NULL UNIQUE CHECK (name <> ''),
    description text NOT NULL DEFAULT ''
);
COMMENT ON TABLE leadroute.pools IS 'Groups that leads rotate through. Each has a sequence leadroute.pool_N_turns: its turns.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.pools
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

CREATE TABLE leadroute.pool_members (
    pool_id integer REFERENCES leadroute.pools,
    owner_id integer REFERENCES leadroute.owners,
    weight integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000),
    PRIMARY KEY (pool_id, owner_id)
);
CREATE INDEX pool_members_owner_id ON leadroute.pool_members (owner_id);
COMMENT ON TABLE leadroute.pool_members IS 'Who belongs to which pool, and for how many shares.';
COMMENT ON COLUMN leadroute.pool_members.weight IS 'Shares of the pool''s leads, 1 to 1000, relative to the other available members.';
CREATE TRIGGER configuration_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leadroute.pool_members
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute.configuration_changed();

-- What the members of a pool were when decisions were made: written once by whoever first routes after a change, never per
-- lead. Two sessions may write the same content: duplicates do no harm, and nobody waits for another's commit.
CREATE SEQUENCE leadroute.pool_revision_ids AS integer;
CREATE TABLE leadroute.pool_revisions (
    pool_revision_id integer PRIMARY KEY DEFAULT nextval('leadroute.pool_revision_ids'),
    pool_id integer NOT NULL,
    pool_name text NOT NULL,
    owner_ids integer[] NOT NULL,
    weights integer[] NOT NULL,
    available boolean[] NOT NULL,
    content_hash bytea NOT NULL,
    seen_at timestamptz NOT NULL
);
CREATE INDEX pool_revisions_content ON leadroute.pool_revisions (pool_id, content_hash);
COMMENT ON TABLE leadroute.pool_revisions IS 'The members, weights and availability of pools as decisions read them.';

-- A sequence per pool: a turn needs no lock that lasts, and survives a crash.
CREATE FUNCTION leadroute.make_turns() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        EXECUTE format('DROP SEQUENCE IF EXISTS leadroute.%I', 'pool_' || OLD.pool_id || '_turns');
    -- A restored dump brings the sequence before the row.
    ELSIF to_regclass(format('leadroute.%I', 'pool_' || NEW.pool_id || '_turns')) IS NULL THEN
        EXECUTE format('CREATE SEQUENCE leadroute.%I MINVALUE 0 START 0', 'pool_' || NEW.pool_id || '_turns');
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION leadroute.make_turns() IS 'Trigger of pools: makes and drops the sequence of a pool''s turns.';
CREATE TRIGGER make_turns AFTER INSERT OR DELETE ON leadroute.pools FOR EACH ROW EXECUTE FUNCTION leadroute.make_turns();
