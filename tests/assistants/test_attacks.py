"""Statements that try to write, to read elsewhere, to take long or to take much: none of them succeeds."""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg2
import pytest
from mcp import Client
from mcp.server.mcpserver import MCPServer
from psycopg2.extensions import cursor as Cursor

from fademoe.assistants import role
from fademoe.assistants.answer import MAX_BYTES
from fademoe.assistants.statement import MOST, StatementRefused, Table, run_statement
from fademoe.errors import FadeMoeError
from fademoe.settings import Settings
from fademoe.store.connection import Database
from fademoe.store.migrate import migrate
from tests.support.asynchronous import run_async

WRITES = (
    "INSERT INTO perp_data (ts, symbol, source, interval) VALUES (1, 'X', 'bin-ohlcv', '1m')",
    "UPDATE perp_data SET c = 0",
    "DELETE FROM perp_coverage",
    "TRUNCATE public.perp_data",
    "DROP VIEW perp_data",
    "DROP TABLE public.perp_data",
    "ALTER TABLE public.perp_data ADD COLUMN x int",
    "CREATE TABLE x (a int)",
    "CREATE TABLE public.x (a int)",
    "CREATE TEMP TABLE x (a int)",
    "CREATE SCHEMA x",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE EXTENSION dblink",
    "CREATE ROLE x",
    "GRANT ALL ON perp_data TO PUBLIC",
    "WITH gone AS (DELETE FROM public.perp_data RETURNING 1) SELECT count(*) FROM gone",
    "SELECT * FROM perp_data FOR UPDATE",
    "MERGE INTO perp_data USING (SELECT 1) AS x ON true WHEN MATCHED THEN DELETE",
    "SELECT 1 INTO x",
    "SELECT 1; DELETE FROM perp_data",
    "COMMIT; DELETE FROM perp_data",
    "ROLLBACK; DROP SCHEMA public CASCADE",
    "COPY perp_data FROM PROGRAM 'true'",
    "COPY (SELECT 1) TO PROGRAM 'cat'",
    "COPY (SELECT 1) TO '/tmp/fademoe-attack'",
    "COPY perp_data FROM STDIN",
    "COPY perp_data TO STDOUT",
    "SELECT lo_create(0)",
    "SELECT lo_creat(-1)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT lo_put(1, 0, 'x')",
    "SELECT lo_unlink(1)",
    "SELECT lo_import('/etc/passwd')",
    "DO $$ BEGIN DELETE FROM public.perp_data; END $$",
    "DO $$ BEGIN EXECUTE 'CREATE TABLE x (a int)'; END $$",
    "CALL pg_catalog.nothing()",
    "VACUUM public.perp_data",
    "REINDEX DATABASE postgres",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "ALTER ROLE fademoe_mcp SUPERUSER",
    "ALTER ROLE fademoe_mcp PASSWORD 'x'",
    "ALTER ROLE fademoe_mcp SET default_transaction_read_only = off",
    "SELECT nextval('public.perp_errors_id_seq')",
    "SELECT setval('public.perp_errors_id_seq', 1)",
    "REFRESH MATERIALIZED VIEW x",
    "LOCK TABLE public.perp_data IN ACCESS EXCLUSIVE MODE",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> current_user",
    "SELECT pg_reload_conf()",
    "SELECT dblink_exec('dbname=postgres', 'CREATE TABLE x (a int)')",
    "PREPARE p AS DELETE FROM public.perp_data",
    "EXPLAIN ANALYZE DELETE FROM public.perp_data",
    "EXPLAIN (ANALYZE, COSTS off) INSERT INTO public.perp_coverage (source, symbol) VALUES ('x', 'X')",
    "WITH new AS (INSERT INTO public.perp_coverage (source, symbol) VALUES ('x', 'X') RETURNING 1) TABLE new",
    "/* SELECT 1 */ DELETE /**/ FROM public.perp_data -- SELECT 1",
    'DELETE FROM U&"public".U&"perp\\005fdata"',
    "DO $$ BEGIN EXECUTE 'DO $x$ BEGIN DELETE FROM public.perp_data; END $x$'; END $$",
    "DO $$ BEGIN SET LOCAL transaction_read_only = off; DELETE FROM public.perp_data; END $$",
    "DO $$ BEGIN PERFORM set_config('transaction_read_only', 'off', true); DELETE FROM perp_data; END $$",
    "DO $$ BEGIN COMMIT; DELETE FROM public.perp_data; END $$",
    "DO $$ BEGIN DELETE FROM public.perp_data; EXCEPTION WHEN OTHERS THEN DROP SCHEMA fademoe_mcp CASCADE; END $$",
    "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))",
    "SELECT pg_create_restore_point('x')",
    "SELECT pg_switch_wal()",
    "SELECT pg_promote()",
    "SELECT pg_rotate_logfile()",
    "SELECT pg_stat_reset()",
    "SELECT pg_create_physical_replication_slot('x')",
    "SELECT pg_replication_origin_create('x')",
    "SELECT pg_import_system_collations('pg_catalog')",
    "SELECT lowrite(lo_open(1, 131072), 'x')",
    "SELECT lo_truncate(lo_open(1, 131072), 0)",
    "CREATE RULE x AS ON INSERT TO perp_data DO INSTEAD NOTHING",
    "CREATE TRIGGER x BEFORE INSERT ON public.perp_data EXECUTE FUNCTION perp_mark_hour()",
    "CREATE FUNCTION fademoe_mcp.f() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'TRUNCATE perp_data; SELECT 1'",
    "CREATE PUBLICATION x FOR ALL TABLES",
    "CREATE SUBSCRIPTION x CONNECTION 'host=127.0.0.1' PUBLICATION x WITH (connect = false)",
    "CREATE SERVER x FOREIGN DATA WRAPPER postgres_fdw",
    "CREATE DATABASE x",
    "CREATE TABLESPACE x LOCATION '/tmp'",
    "CREATE EVENT TRIGGER x ON ddl_command_start EXECUTE FUNCTION pg_catalog.event_trigger_in()",
    "CREATE STATISTICS x ON ts, symbol FROM public.perp_data",
    "COMMENT ON TABLE public.perp_data IS 'x'",
    "ALTER VIEW perp_data RENAME TO x",
    "ALTER SCHEMA fademoe_mcp RENAME TO x",
    "ALTER ROLE fademoe_mcp SET temp_file_limit = -1",
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    "DROP OWNED BY fademoe_mcp",
    "CHECKPOINT",
    "CLUSTER public.perp_coverage",
    "PREPARE TRANSACTION 'x'",
)
HARMLESS = (  # they succeed, do nothing and give nothing away
    "PREPARE p AS DELETE FROM public.perp_data",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> current_user",
    "SELECT query FROM pg_stat_activity WHERE usename <> current_user AND query <> '<insufficient privilege>'",
    "SELECT most_common_vals FROM pg_stats WHERE schemaname = 'public'",
    "SELECT * FROM information_schema.table_privileges WHERE table_schema = 'public'",
    "SELECT setting FROM pg_settings WHERE name IN ('data_directory', 'hba_file', 'config_file')",
    "EXECUTE p",
)
OF_ITSELF = (
    "ALTER ROLE fademoe_mcp",
    "ALTER DEFAULT PRIVILEGES",
    "DROP OWNED",
)  # a role may change and give up its own
READS = (
    "SELECT * FROM public.perp_data",
    "SELECT * FROM public.perp_status",
    "SELECT * FROM perp_errors",
    "SELECT * FROM public.perp_errors",
    "SELECT rolpassword FROM pg_authid",
    "SELECT * FROM pg_shadow",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_read_binary_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT * FROM pg_largeobject",
    "SELECT lo_get(1)",
    "SELECT lo_export(1, '/tmp/x')",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "SELECT set_config('role', 'fademoe', false)",
    "SELECT * FROM pg_statistic",
    "SELECT current_setting('data_directory')",
    "SELECT pg_current_logfile()",
    "SELECT pg_stat_file('/etc/passwd')",
    "LOAD 'plpgsql'",
    "EXPLAIN SELECT * FROM public.perp_errors",
    "TABLE public.perp_attempts",
    "SELECT config FROM public.perp_alert_channels",
    "DECLARE c CURSOR FOR SELECT * FROM public.perp_errors",
    "SELECT query_to_xml('SELECT * FROM public.perp_errors', true, true, '')",
    "SELECT table_to_xml('public.perp_errors', true, true, '')",
    "SELECT schema_to_xml('public', true, true, '')",
    "SELECT * FROM ts_stat('SELECT to_tsvector(message) FROM public.perp_errors')",
    "SELECT * FROM pg_hba_file_rules",
    "SELECT * FROM pg_file_settings",
    "SELECT * FROM pg_user_mapping",
    "SELECT * FROM pg_backend_memory_contexts",
    "SELECT pg_ls_logdir()",
    "SELECT pg_ls_waldir()",
    "SELECT pg_ls_tmpdir()",
    "SHOW hba_file",
    "SELECT current_setting('config_file')",
    "SELECT * FROM dblink('dbname=postgres', 'SELECT 1') AS x (a int)",
    "SELECT * FROM template1.public.perp_data",
    "SELECT U&'\\0041' FROM public.perp_status_history",
    *HARMLESS[2:],
)
SLEEP = "SELECT pg_sleep(60)"
STUBBORN = (  # it catches that it is cancelled, and does not look whether the client listens
    "DO $$ BEGIN SET client_connection_check_interval = 0; LOOP BEGIN PERFORM pg_sleep(1);"
    " EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$"
)
LONG = (
    SLEEP,
    STUBBORN,
    "SELECT pg_sleep_for('1 minute')",
    "SELECT set_config('statement_timeout', '0', false), pg_sleep(60)",
    "SELECT pg_advisory_lock(1), pg_sleep(60)",
    "SELECT count(*) FROM generate_series(1, 10000000000)",
    "SELECT count(*) FROM perp_data AS a, perp_data AS b, perp_data AS c",
    "WITH RECURSIVE n AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM n) SELECT count(*) FROM n",
    "SELECT n FROM generate_series(1, 10000000000) AS n ORDER BY random() LIMIT 1",
    "DO $$ BEGIN LOOP RAISE NOTICE '%', repeat('x', 1000); END LOOP; END $$",
    "DO $$ BEGIN LOOP EXECUTE 'SELECT 1'; END LOOP; END $$",
)
LARGE = (
    "SELECT repeat('x', 300000000)",
    "SELECT repeat('x', 1000) FROM generate_series(1, 100000000)",
    "SELECT array_agg(n) FROM generate_series(1, 5000000) AS n",
    "SELECT json_agg(n) FROM generate_series(1, 1000000) AS n",
    "SELECT jsonb('[' || repeat('1,', 100000000) || '1]')",
    "SELECT repeat('x', 1000000)::int",
    "SELECT repeat('\u00e9', 60000)",
    "SELECT repeat('\U0001f4a5', 20000)",
    "SELECT repeat(chr(1), 40000)",
    "SELECT " + ", ".join(['1 AS "' + chr(1) * 8 + '"'] * 1000),
    "DO $$ BEGIN RAISE EXCEPTION '%', repeat('x', 10000000); END $$",
    "SELECT * FROM perp_data AS a, perp_data AS b",
)


def attempt(address: str, statement: str) -> tuple[Table | str, float]:
    """Run a statement; return its table or why it was refused, and how long that took."""
    begin = time.monotonic()
    try:
        return run_statement(address, statement), time.monotonic() - begin
    except StatementRefused as error:
        return str(error), time.monotonic() - begin


def snapshot(sql: Cursor) -> list[tuple]:
    """Return all that an attack may have changed: rows, relations, roles, large objects."""
    sql.execute(
        "SELECT (SELECT count(*) FROM public.perp_data), (SELECT count(*) FROM public.perp_coverage),"
        " (SELECT md5(string_agg(relname || relnamespace || coalesce(relacl::text, ''), ',' ORDER BY oid))"
        "  FROM pg_class WHERE relnamespace::regnamespace::text IN ('public', 'fademoe_mcp')),"
        " (SELECT count(*) FROM pg_largeobject_metadata), (SELECT count(*) FROM pg_proc),"
        " (SELECT row(rolsuper, rolcreatedb, rolconfig)::text FROM pg_roles WHERE rolname = 'fademoe_mcp')"
    )
    return sql.fetchall()


def check_attacks(address: str, sql: Cursor, statements: Sequence[str]) -> None:
    before = snapshot(sql)
    with ThreadPoolExecutor(MOST) as pool:
        found = list(pool.map(lambda statement: attempt(address, statement), statements))
    for statement, (result, _) in zip(statements, found, strict=True):
        assert isinstance(result, str) or (statement in HARMLESS and not result.rows), (statement, result)
    assert snapshot(sql) == before


def test_nothing_is_written_and_nothing_else_is_read(address: str, sql: Cursor):
    check_attacks(address, sql, (WRITES + READS)[::14])  # the stolen role below tries all of them


@pytest.mark.full
def test_every_attack(address: str, sql: Cursor):
    check_attacks(address, sql, WRITES + READS)


def check_ends(address: str, sql: Cursor, statements: Sequence[str]) -> float:
    """Run statements that last; all of them are refused and leave no session. Return how long the longest took."""
    with ThreadPoolExecutor(MOST) as pool:
        found = list(pool.map(lambda statement: attempt(address, statement), statements))
    for statement, (result, _) in zip(statements, found, strict=True):
        assert isinstance(result, str), (statement, result)
    deadline_s = time.monotonic() + 60
    while True:
        sql.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'fademoe_mcp'")
        if sql.fetchone() == (0,):
            return max(seconds for _, seconds in found)
        assert time.monotonic() < deadline_s, "a session goes on"
        time.sleep(0.1)


@pytest.mark.waits(8)
def test_a_statement_that_lasts_is_ended(address: str, sql: Cursor):
    check_ends(address, sql, (SLEEP, STUBBORN))


@pytest.mark.full
def test_every_long_statement_ends_within_six_seconds(address: str, sql: Cursor):
    """A figure for a quiet machine."""
    assert check_ends(address, sql, LONG) <= 6


def send(server: MCPServer[Any], statements: Sequence[str]) -> list[tuple[str, int, float]]:
    """Ask statements through the tool; return each with the bytes that are sent, escaped as over HTTP, and its time."""

    async def ask() -> list[tuple[str, int, float]]:
        sent = []
        async with Client(server) as client:
            for statement in statements:
                begin = time.monotonic()
                result = await client.call_tool("sql", {"statement": statement})
                text = json.dumps(result.model_dump(mode="json", by_alias=True, exclude_none=True))
                sent.append((statement, len(text), time.monotonic() - begin))
        return sent

    return run_async(ask)


def test_values_that_grow_when_they_are_sent_stay_within_an_answer(server: MCPServer[Any]):
    sent = send(server, [statement for statement in LARGE if "repeat('\u00e9'" in statement or "::int" in statement])
    assert [length <= MAX_BYTES for _, length, _ in sent] == [True] * 2


@pytest.mark.full
def test_every_large_answer_is_bounded_and_ends_within_six_seconds(server: MCPServer[Any]):
    """The time is a figure for a quiet machine."""
    for statement, length, seconds in send(server, LARGE):
        assert length <= MAX_BYTES, statement
        assert seconds <= 6, statement


def test_there_are_more_than_a_hundred_attacks():
    assert len({*WRITES, *READS, *LONG, *LARGE}) >= 100


def test_an_error_tells_the_reason(address: str):
    assert 'column "nothing" does not exist' in str(attempt(address, "SELECT nothing FROM perp_data")[0])


def test_one_good_statement_is_answered(address: str):
    table = run_statement(
        address, "SELECT source, count(*) AS n, NULL AS x FROM perp_data GROUP BY 1 ORDER BY 1 LIMIT 2"
    )
    assert table.columns == ["source", "n", "x"]
    assert table.rows == [["bin-fr", "6", None], ["bin-ohlcv", "2880", None]]
    assert run_statement(address, "SELECT 100 % 7").rows == [["2"]]


@pytest.fixture
def thief(address: str) -> Iterator[Cursor]:
    """A session of the role that was opened by hand."""
    connection = psycopg2.connect(address)
    connection.autocommit = True
    with connection.cursor() as cursor:
        yield cursor
    connection.close()


def test_the_stolen_role_reads_the_views_and_nothing_else(thief: Cursor, sql: Cursor):
    before = snapshot(sql)
    thief.execute("SELECT count(*) FROM perp_data")
    assert thief.fetchone()[0] > 8_000
    thief.execute("SET default_transaction_read_only = off")
    for statement in WRITES + READS:
        if statement.startswith((*OF_ITSELF, "COPY perp_data TO", HARMLESS[0])):
            continue  # reading by COPY is reading
        with suppress(psycopg2.Error):  # some only warn: the comparison below shows that they did nothing
            thief.execute(statement)
            assert thief.description is None or not thief.fetchall(), statement
    assert snapshot(sql) == before


def test_a_role_that_may_do_more_is_refused_by_name(settings: Settings, address: str, sql: Cursor):
    sql.execute("GRANT SELECT ON public.perp_errors TO fademoe_mcp")
    with pytest.raises(FadeMoeError, match=r"SELECT or more on perp_errors"):
        role.prepare(settings)


def test_migrations_make_the_views_again(settings: Settings, address: str, sql: Cursor, database_url: str):
    sql.execute("DROP VIEW fademoe_mcp.perp_data")
    database = Database(database_url)
    migrate(database, [])
    database.close()
    assert run_statement(address, "SELECT count(*) FROM perp_data").rows[0][0] != "0"
