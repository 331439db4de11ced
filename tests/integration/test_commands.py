"""Bad input: exit code 2, one line that names the valid values, nothing stored or enqueued."""

import pytest

from fademoe.clock import DAY_MS, now_ms, to_iso
from fademoe.queue.ids import list_window_queues
from fademoe.queue.states import read_windows_in_queues
from tests.support.clocks import until

TOMORROW = to_iso(now_ms() + DAY_MS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--days", "10", "--symbols", "NOSUCHCOIN"), ("NOSUCHCOIN", "valid")),
        (("--days", "10", "--symbols", "BTCC"), ("BTCC", "close are BTC")),
        (("--days", "10", "--symbols", "BTC;DROP"), ("valid",)),
        (("--days", "10", "--exchanges", "mtgox"), ("mtgox", "valid are all, binance")),
        (("--days", "10", "--metrics", "vibes"), ("vibes", "valid are all, ohlcv")),
        (("--days", "0"), ("--days", "valid")),
        (("--days", "-3"), ("--days", "valid")),
        (("--days", "ten"), ("--days", "valid")),
        (("--days", "nan"), ("--days", "valid")),
        (("--days", "1e999"), ("--days", "valid")),
        (("--since", "2026-02-01", "--until", "2026-01-01"), ("must lie after",)),
        (("--since", "2026-02-01", "--until", "2026-02-01"), ("must lie after",)),
        (("--since", TOMORROW), ("--since", "valid are times before now")),
        (("--since", "2026-01-01", "--until", TOMORROW), ("--until", "valid are times up to now")),
        (("--since", "yesterday"), ("--since", "ISO 8601")),
        (("--days", "1", "--since", "2026-01-01"), ("either --days",)),
        ((), ("either --days",)),
        (("--days", "1", "--until", "2026-01-01"), ("--until goes with --since",)),
    ],
)
def test_bad_arguments_of_seed(system, arguments, words):
    done = system.run("seed", *arguments)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("fademoe: ")]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in done.stderr
    assert system.query("SELECT count(*) FROM perp_coverage") == [(0,)]
    assert read_windows_in_queues(system.context().redis, list_window_queues("binance")) == {}


def test_a_followed_symbol_that_no_exchange_lists_does_not_stop_a_seed(system):
    """A coin of the default list may be delisted everywhere: without --symbols the others are seeded all the same."""
    done = system.run("seed", "--days", "1", "--metrics", "ohlcv", FADEMOE_SYMBOLS="BTC,NOSUCHCOIN")
    assert done.returncode == 0, done.stderr
    assert "note: binance does not list NOSUCHCOIN" in done.stderr
    assert system.query("SELECT symbol FROM perp_coverage WHERE source = 'bin-ohlcv'") == [("BTC",)]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("FADEMOE_WORKRES", "3"), ("FADEMOE_WORKERS", "none"), ("FADEMOE_EXCHANGES", "mtgox"), ("FADEMOE_SYMBOLS", "B?C")],
)
@pytest.mark.parametrize("command", [("settings",), ("seed", "--days", "1"), ("worker",), ("up",)])
def test_bad_settings_stop_every_command(system, variable, value, command):
    done = system.run(*command, **{variable: value})
    assert done.returncode == 2
    assert "valid are" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_unknown_commands_and_exchanges(system):
    assert system.run("nonsense").returncode == 2
    assert "valid are" in system.run("nonsense").stderr
    done = system.run("stream", "mtgox")
    assert done.returncode == 2
    assert "binance" in done.stderr


@pytest.mark.long
@pytest.mark.waits(34)
def test_a_database_that_does_not_answer_is_named(system):
    done = system.run("seed", "--days", "1", FADEMOE_DATABASE_URL="postgresql://u:secret@127.0.0.1:9/none")
    assert done.returncode == 2
    assert "FADEMOE_DATABASE_URL" in done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "secret" not in done.stderr


def test_settings_are_printed_without_secrets(system):
    done = system.run("settings", FADEMOE_ADMIN_TOKEN="hush", FADEMOE_REDIS_URL="redis://:hidden@h:1/0")
    assert done.returncode == 0
    assert "FADEMOE_WORKERS=8" in done.stdout
    assert "FADEMOE_EXCHANGES=binance" in done.stdout
    assert "hush" not in done.stdout
    assert "hidden" not in done.stdout


def test_symbols_are_printed(system):
    done = system.run("symbols")
    assert done.returncode == 0, done.stderr
    assert "1000PEPEUSDT" in next(line for line in done.stdout.splitlines() if line.startswith("PEPE"))


def test_nothing_is_migrated_while_programs_of_an_older_version_run(system):
    """They would store rows as they were meant before: samples at the minute's start instead of its end."""
    assert system.run("migrate").returncode == 0
    scheduler = system.start("scheduler")
    until(lambda: system.query("SELECT 1 FROM perp_status WHERE unit = 'scheduler' AND state = 'running'"), 30)
    system.query("DELETE FROM schema_migrations WHERE name = '0006_rates_of_coinalyze' RETURNING 1")
    for command in ("gaps", "migrate"):
        done = system.run(command)
        assert done.returncode == 2
        assert "programs of an older FadeMoe use the database (fademoe): make down" in done.stderr
    system.stop()
    assert scheduler.poll() is not None
    assert system.run("migrate").returncode == 0


def test_a_database_that_a_newer_version_has_migrated_is_refused(system):
    assert system.run("migrate").returncode == 0
    system.query("INSERT INTO schema_migrations (name) VALUES ('9999_of_tomorrow') RETURNING 1")
    done = system.run("gaps")
    assert done.returncode == 2
    assert "a newer FadeMoe has migrated the database (9999_of_tomorrow)" in done.stderr
