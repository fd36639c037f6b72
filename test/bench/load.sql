-- One run of one side: a warm-up, an empty table, a checkpoint, then the timed statement, then the proof that it did its work.
-- Needs :warm_up and :statement (SQL), :empty (tables), :tidy (SQL that mends what TRUNCATE does not), :check (SQL that raises if something is missing).
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SELECT 'pid ' || pg_backend_pid();
TRUNCATE :empty;
:warm_up;
TRUNCATE :empty;
:tidy;
CHECKPOINT;
\timing on
:statement;
\timing off
\echo timed
:check;
