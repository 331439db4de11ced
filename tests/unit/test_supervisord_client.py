"""What is made of a supervisord that is there and does not answer, and of an old file with its pid."""

import socket
import subprocess

import pytest

from fademoe.cli.environment import PID_FILE, _settings_of
from fademoe.errors import StoreError
from fademoe.supervisord import client as supervisord
from fademoe.supervisord.client import SupervisorClient


def test_a_supervisord_that_accepts_and_never_answers_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisord, "TIMEOUT_S", 0.3)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "ctl.sock"))
        server.listen()
        client = SupervisorClient(tmp_path / "ctl.sock")
        with pytest.raises(StoreError, match="does not answer"):
            client.list_programs()
        assert not client.is_running()


@pytest.mark.parametrize("text", ["-5", "0", "99999999999999999999", "x", ""])
def test_an_odd_pid_file_gives_no_settings(tmp_path, text):
    write_pid(tmp_path, text)
    assert _settings_of(tmp_path) == {}


def test_the_pid_of_a_process_of_another_home_gives_no_settings(tmp_path):
    """The system gives the number away again."""
    home, other = tmp_path / "a", tmp_path / "b"
    environ = {"FADEMOE_HOME": str(home), "FADEMOE_LIMIT_SHARE": "0.3"}
    with subprocess.Popen(["cat"], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.stdout.read(1) == b"x"  # it runs: Linux shows no environment before
        for each in (home, other):
            write_pid(each, str(process.pid))
        assert _settings_of(home) == environ
        assert _settings_of(other) == {}


def write_pid(home, text):
    (home / PID_FILE).parent.mkdir(parents=True)
    (home / PID_FILE).write_text(text)
