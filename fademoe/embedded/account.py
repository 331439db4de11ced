"""Which user the embedded servers run as: PostgreSQL refuses to run as root, so root has to become somebody else.

As root: the owner of the data that is there, else `postgres`, else `nobody`, provided that this user can reach the
home. Where no other user can, because the checkout lies under root's closed home, the server runs in a user namespace:
it sees itself as that user and is root to the rest of the machine. No mode of a folder that is not FadeMoe's is ever
changed.
"""

import ctypes
import logging
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fademoe.errors import ConfigError

log = logging.getLogger(__name__)

CANDIDATES = ("postgres", "nobody")
DATA_FOLDERS = ("postgres", "redis")
PROBE_TIMEOUT_S = 20

_CLONE_NEWUSER = 0x1000_0000  # linux/sched.h; os.unshare exists from Python 3.12 on only


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user and how a process becomes it."""

    uid: int
    gid: int
    is_own: bool = False  # the user of this process: nothing to become
    in_namespace: bool = False  # `uid` is seen inside only; to the machine the process stays root

    @property
    def owner(self) -> tuple[int, int]:
        """The (uid, gid) that files of the servers must belong to, seen from this process."""
        return (os.geteuid(), os.getegid()) if self.in_namespace else (self.uid, self.gid)

    def become(self) -> None:
        """Turn this process into the account, for good; raises OSError where the system forbids it."""
        if self.is_own:
            return
        if self.in_namespace:
            _enter_namespace(self.uid, self.gid)
            return
        os.setgroups([])
        os.setgid(self.gid)
        os.setuid(self.uid)

    @property
    def options(self) -> dict[str, Any]:
        """The options with which subprocess runs a program as the account."""
        if self.is_own:
            return {}
        if self.in_namespace:
            return {"preexec_fn": self.become}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_run(self, command: Sequence[str | Path]) -> bool:
        """Tell whether the account can run a command that ends at once with exit code 0."""
        try:
            done = subprocess.run(
                command,
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PROBE_TIMEOUT_S,
                check=False,
                **self.options,
            )
        except (OSError, subprocess.SubprocessError) as error:
            log.debug("uid %s cannot run %s: %s", self.uid, command[0], error)
            return False
        return done.returncode == 0


def choose_account(home: Path) -> Account:
    """Choose who runs the servers of `home`, a folder that exists.

    Raises ConfigError that says what to do when nobody can.
    """
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), is_own=True)
    owner = _data_owner(home)
    candidates = [owner] if owner else []
    candidates += [Account(uid=entry.pw_uid, gid=entry.pw_gid) for entry in _entries(CANDIDATES)]
    for account in candidates:
        if account.can_run(["/bin/sh", "-c", 'cd "$1"', "sh", str(home.parent)]):
            return account
    for account in candidates:
        inside = Account(uid=account.uid, gid=account.gid, in_namespace=True)
        if inside.can_run(["/bin/sh", "-c", 'cd "$1"', "sh", str(home.parent)]):
            return inside
    raise ConfigError(
        f"FADEMOE_HOME is {str(home)!r}: PostgreSQL does not run as root, no other user can reach this folder, and user"
        " namespaces are forbidden here; set FADEMOE_HOME to a folder outside of root's home, such as"
        " /var/lib/fademoe, or FADEMOE_DATABASE_URL and FADEMOE_REDIS_URL to servers of your own"
    )


def hand_over(folder: Path, account: Account) -> None:
    """Make `folder`, one of FadeMoe's, and all that is in it belong to the account, 0700."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0 and _owner_of(folder) != account.owner:
            if folder.name in DATA_FOLDERS:
                for path in folder.rglob("*"):
                    os.chown(path, *account.owner, follow_symlinks=False)
            os.chown(folder, *account.owner)
        folder.chmod(0o700)
    except PermissionError as error:
        raise ConfigError(
            f"FADEMOE_HOME: {str(error.filename or folder)!r} belongs to another user: start FadeMoe as that user or as"
            " root, or set FADEMOE_HOME to another folder"
        ) from error


def reachable_copy(tree: Path, siblings: Sequence[Path], program: str, store: Path, account: Account) -> Path:
    """Return a path of `tree` from which the account can run `program` (a path below it).

    That is `tree` itself where the account reaches it, else a copy of it and its siblings in `store`, whose other
    versions (the folders beside it) are removed.
    """
    if account.can_run([tree / program, "--version"]):
        return tree
    copy = store / tree.name
    if not account.can_run([copy / program, "--version"]):
        log.info("user %s cannot reach the server programs: copying them beside the data", account.uid)
        shutil.rmtree(store.parent, ignore_errors=True)
        unfinished = store.with_name("unfinished")
        hand_over(store.parent.parent, account)
        for source in (tree, *siblings):
            shutil.copytree(source, unfinished / source.name, symlinks=True)
        for path in (store.parent, *store.parent.rglob("*")):
            os.chown(path, *account.owner, follow_symlinks=False)
        unfinished.rename(store)
    return copy


def _data_owner(home: Path) -> Account | None:
    """Return the account that owns the data of `home`, unless that is root."""
    for name in DATA_FOLDERS:
        folder = home / name
        if folder.is_dir() and folder.stat().st_uid != 0:
            return Account(uid=folder.stat().st_uid, gid=folder.stat().st_gid)
    return None


def _owner_of(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_uid, found.st_gid


def _entries(names: Sequence[str]) -> list[pwd.struct_passwd]:
    by_name = {entry.pw_name: entry for entry in pwd.getpwall()}
    return [by_name[name] for name in names if name in by_name]


def _enter_namespace(uid: int, gid: int) -> None:
    """Enter a user namespace of its own, in which this process is `uid`."""
    outside_uid, outside_gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")
    # user_namespaces(7): without privilege the group map may be written only after setgroups is given up
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outside_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {outside_gid} 1")
