"""The embedded servers run as a user that no other program uses."""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fademoe.embedded.account import SHARED_USER, Account, choose_account, hand_over

OWN_USER = f"fademoe-{os.getpid()}"


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that other users can reach."""
    with tempfile.TemporaryDirectory(prefix="fademoe-") as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "var").mkdir()
        yield Path(folder) / "var"


@pytest.fixture
def no_own_user() -> Iterator[None]:
    """Remove the user that a test lets FadeMoe create."""
    yield
    if os.geteuid() == 0:
        subprocess.run(["userdel", OWN_USER], capture_output=True, check=False)


def owner_outside(account: Account) -> int:
    return account.owner[0]


def test_an_ordinary_user_runs_the_servers_itself_and_root_never_does_as_nobody(home, no_own_user):
    """A machine that has none of the service users."""
    account = choose_account(home, ("no-such-user", OWN_USER))
    if os.geteuid() != 0:
        assert account.is_own
        return
    assert owner_outside(account) != pwd.getpwnam(SHARED_USER).pw_uid
    # a user of its own, or, where none can be created, root in a user namespace
    assert account.in_namespace or pwd.getpwuid(account.uid).pw_name == OWN_USER
    assert choose_account(home, ("no-such-user", OWN_USER)) == account


def test_data_of_nobody_are_taken_over_by_a_user_of_their_own(home, no_own_user):
    """A home that an earlier version made."""
    if os.geteuid() != 0:
        assert choose_account(home).is_own
        return
    nobody = pwd.getpwnam(SHARED_USER)
    data = home / "redis"
    data.mkdir()
    (data / "file").touch()
    for path in (home, data, data / "file"):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    account = choose_account(home, (OWN_USER,))
    for folder in (home, data):
        hand_over(folder, account)
    for path in (home, data, data / "file"):
        assert (path.stat().st_uid, path.stat().st_gid) == account.owner
        assert path.stat().st_uid != nobody.pw_uid


def test_the_owner_of_the_data_stays(home, no_own_user):
    if os.geteuid() != 0:
        assert choose_account(home).owner == (os.geteuid(), os.getegid())
        return
    (home / "postgres").mkdir()
    os.chown(home / "postgres", 12345, 12345)
    assert choose_account(home, (OWN_USER,)).owner == (12345, 12345)
