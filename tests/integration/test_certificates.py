"""Certificates of a hundred runs: the same bytes over hash seeds, Python versions, and a database that was restored."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fademoe.clock import MINUTE_MS, Window
from fademoe.embedded.servers import find_psql
from fademoe.supervisord.daemon import CHECKOUT
from tests.conftest import fresh_database
from tests.support.markets import START, draw_market, store_market

COUNT = 100
MINUTES = 1000
OTHER_PYTHON = "3.12"


def certify(url: str, seed: str, python: str = sys.executable) -> list[str]:
    """Return the certificates of all runs by another process."""
    command = [python, "-m", "tests.support.certificates", url, str(COUNT)]
    environ = dict(os.environ) | {"PYTHONHASHSEED": seed}
    done = subprocess.run(command, env=environ, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def install_other_python(folder: Path) -> str | None:
    """Return a Python of another version with this checkout, None where uv finds none."""
    uv = shutil.which("uv")
    installed = sorted(Path.home().glob(f".pyenv/versions/{OTHER_PYTHON}.*/bin/python"))
    chosen = str(installed[-1]) if installed else OTHER_PYTHON
    if uv is None or subprocess.run([uv, "venv", "-q", "--python", chosen, folder]).returncode:
        return None
    python = str(folder / "bin" / "python")
    subprocess.run([uv, "pip", "install", "-q", "--python", python, "-e", f"{CHECKOUT}[test]"], check=True)
    return python


@pytest.mark.full
def test_a_hundred_certificates_repeat(postgres_url: str, _template: str, tmp_path: Path):
    psql = find_psql()
    assert psql is not None
    with fresh_database(postgres_url) as url, fresh_database(postgres_url) as copy:
        loader = draw_market(["A", "B"], MINUTES, 11, ["bin", "byb"], holes=0.002)
        lives = {(code, symbol): None for code in ("bin", "byb") for symbol in ("A", "B")}
        store_market(url, loader, Window(START, START + MINUTES * MINUTE_MS), lives)
        first = certify(url, "1")
        assert len(set(first)) == COUNT
        assert certify(url, "2") == first
        other = install_other_python(tmp_path / "other")
        if other is not None:
            assert certify(url, "random", other) == first
        dump = tmp_path / "dump.sql"
        subprocess.run([Path(psql).with_name("pg_dump"), "--clean", "--if-exists", "-f", dump, url], check=True)
        restore = [psql, "-q", "-v", "ON_ERROR_STOP=1", "-f", dump, copy]
        subprocess.run(restore, check=True, stdout=subprocess.DEVNULL)
        assert certify(copy, "3") == first
