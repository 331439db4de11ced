"""The command line: help for every command, one line for every error."""

import subprocess
import sys

import click
import pytest

from fademoe.cli.main import BAD_USAGE, COMMANDS, DONE, main, run_command
from fademoe.cli.table import format_table

HEAVY = ("flask", "pyarrow", "aiohttp", "psycopg2", "redis", "requests")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "simulator"])
def test_every_command_and_every_option_has_help(name):
    command = run_command.get_command(click.Context(run_command), name)
    assert command.help.startswith(COMMANDS[name][1])
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_help_lists_every_command_and_imports_none_of_them():
    code = (
        "import sys; from fademoe.cli.main import main; main(['--help']);"
        f" print('imported', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported []"
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "unknown command 'nonsense': valid are up, down"),
        (["stream"], "EXCHANGE"),
        (["stream", "mtgox"], "binance"),
        (["up", "worker"], "fademoe up --only worker"),
        (["gaps", "--source", "x"], "valid are bin-fr"),
        (["gaps", "--symbol", "BTCUSDT"], "contract on BTC"),
        (["verify", "--source", "bin-oi", "--symbol", "BTC", "--since", "soon"], "ISO 8601"),
        (["seed", "--no-such-option"], "--no-such-option"),
    ],
)
def test_bad_usage_is_one_line_that_says_what_is_valid(arguments, words, capsys):
    assert main(arguments) == BAD_USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("fademoe: ")
    assert words in line


def test_a_range_that_ends_before_it_starts_is_refused(capsys):
    times = ["--since", "2026-02-01", "--until", "2026-01-01"]
    assert main(["seed", *times]) == BAD_USAGE
    assert "--until must lie after --since" in capsys.readouterr().err


def test_settings_are_described(capsys):
    assert main(["settings", "--describe"]) == DONE
    assert "FADEMOE_RETENTION_DAYS" in capsys.readouterr().out


def test_a_table_aligns_numbers_to_the_right():
    table = format_table(("name", "rows", "since"), [("a", 1234, None), ("longer", 5, "2026")])
    assert table.splitlines() == [
        "name     rows  since",
        "a       1,234  -",
        "longer      5  2026",
    ]
