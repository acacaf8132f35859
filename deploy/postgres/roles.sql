-- The roles, the database and the schema of a fleet. Run it with psql as a superuser, and again whenever you like:
--
--     psql -X -d postgres -f deploy/postgres/roles.sql
--
-- Other names: -v database=... -v schema=... -v owner=... -v service=...
-- It sets no password, so that none stands in a file or in the server's log: give them with \password.

\set ON_ERROR_STOP on
\if :{?database} \else \set database quotafleet \endif
\if :{?schema} \else \set schema quotafleet \endif
\if :{?owner} \else \set owner quotafleet_owner \endif
\if :{?service} \else \set service quotafleet \endif

SELECT format('CREATE ROLE %I', role) FROM unnest(ARRAY[:'owner', :'service']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec

-- The owner of everything: `quota-server database migrate` connects as it, and nothing else does.
ALTER ROLE :"owner" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
-- The controllers: what they may do to each table comes from `quota-server database migrate --service-role`.
ALTER ROLE :"service" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;

-- Sorted by code point: an upgrade of the system's libraries cannot break an index.
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING ''UTF8'' LC_COLLATE ''C'' LC_CTYPE ''C''',
              :'database', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec

\connect :"database"
BEGIN;

REVOKE ALL ON DATABASE :"database" FROM PUBLIC, :"service";
GRANT CONNECT ON DATABASE :"database" TO :"service";
ALTER DATABASE :"database" OWNER TO :"owner";
ALTER DATABASE :"database" SET search_path = :"schema";

REVOKE ALL ON SCHEMA public FROM PUBLIC;
SELECT format('CREATE SCHEMA %I AUTHORIZATION %I', :'schema', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = :'schema') \gexec
ALTER SCHEMA :"schema" OWNER TO :"owner";
REVOKE ALL ON SCHEMA :"schema" FROM PUBLIC, :"service";
GRANT USAGE ON SCHEMA :"schema" TO :"service";

-- What the owner makes later is its own alone: functions and types would be everybody's.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" REVOKE ALL ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" REVOKE ALL ON TYPES FROM PUBLIC;

-- For whoever connects as the service by hand. Controllers state their own, from their URL.
ALTER ROLE :"service" IN DATABASE :"database" SET statement_timeout = '30s';
ALTER ROLE :"service" IN DATABASE :"database" SET lock_timeout = '10s';
ALTER ROLE :"service" IN DATABASE :"database" SET idle_in_transaction_session_timeout = '60s';

COMMIT;
