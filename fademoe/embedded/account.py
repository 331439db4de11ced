"""Chooses the user that the embedded servers run as: PostgreSQL refuses to run as root.

    FadeMoe is started by    the home is               the servers run as             files of the servers belong to
    ---------------------    ---------------------     --------------------------     ------------------------------
    an ordinary user         that user's               that user                      that user
    root                     reachable for others      the owner of the data,         the same user
                                                       else `postgres`,
                                                       else `fademoe` (created)
    root                     in a closed folder,       root in a user namespace       root
                             such as /root             that shows it another uid
    root, no user can be     anywhere                  root in a user namespace       root
    created

All other programs run as the user that started FadeMoe. The servers listen on sockets in run/ of the home, mode 0700:
only their own user and root can connect. `nobody` is never used for files, because unrelated programs run as it. The
mode of a folder that is not FadeMoe's is never changed.
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

SERVICE_USERS = ("postgres", "fademoe")  # the last one is created when none of them exists
SHARED_USER = "nobody"  # unrelated programs run as it
NO_LOGIN_SHELL = "/usr/sbin/nologin"
DATA_FOLDERS = ("postgres", "redis")
PROBE_TIMEOUT_S = 20

_CLONE_NEWUSER = 0x1000_0000  # linux/sched.h; os.unshare exists from Python 3.12 on only


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user, and how a process becomes that user."""

    uid: int
    gid: int
    is_own: bool = False  # it is the user of this process already
    in_namespace: bool = False  # `uid` is valid only in a user namespace; outside, the process is root

    @property
    def owner(self) -> tuple[int, int]:
        """The (uid, gid) that files of the servers must belong to, outside of any namespace."""
        return (os.geteuid(), os.getegid()) if self.in_namespace else (self.uid, self.gid)

    def become(self) -> None:
        """Change the user of this process for good; raise OSError where the system forbids it."""
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
        """Options with which subprocess runs a program as the account."""
        if self.is_own:
            return {}
        if self.in_namespace:
            return {"preexec_fn": self.become}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_run(self, command: Sequence[str | Path]) -> bool:
        """Return whether the account can run a command that ends at once with exit code 0."""
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


def choose_account(home: Path, service_users: Sequence[str] = SERVICE_USERS) -> Account:
    """Choose the account of the servers of `home`, a folder that exists.

    As root it creates the last of `service_users` when none of them exists.

    Raises ConfigError that says what to do when no account can reach the home.
    """
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), is_own=True)
    owner = _data_owner(home)
    candidates = [owner] if owner else _find_accounts(service_users) or _create_account(service_users[-1])
    enter_home = ["/bin/sh", "-c", 'cd "$1"', "sh", str(home.parent)]
    for account in candidates:
        if account.can_run(enter_home):
            return account
    for account in candidates or _find_accounts([SHARED_USER]):  # inside a namespace any user that exists will do
        inside = Account(uid=account.uid, gid=account.gid, in_namespace=True)
        if inside.can_run(enter_home):
            return inside
    raise ConfigError(
        f"FADEMOE_HOME is {str(home)!r}: PostgreSQL does not run as root, no user {' or '.join(service_users)} can"
        " reach this folder, and user namespaces are forbidden here; set FADEMOE_HOME to a folder outside of root's"
        " home, such as /var/lib/fademoe, or FADEMOE_DATABASE_URL and FADEMOE_REDIS_URL to your own servers"
    )


def hand_over(folder: Path, account: Account) -> None:
    """Create `folder`, one of FadeMoe's, if needed; give it and the data in it to the account, mode 0700.

    Raises ConfigError when it belongs to another user.
    """
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


def make_reachable_copy(tree: Path, siblings: Sequence[Path], program: str, store: Path, account: Account) -> Path:
    """Return a path of `tree` from which the account can run `program`, a path relative to it.

    That is `tree` itself where the account can reach it, else a copy of it and of its siblings in the folder `store`.
    Copies of other versions, in the folders beside `store`, are removed.
    """
    if account.can_run([tree / program, "--version"]):
        return tree
    copy = store / tree.name
    if not account.can_run([copy / program, "--version"]):
        log.info("user %s cannot reach the programs of the server: copying them into %s", account.uid, store)
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
    """Return the account that owns the data of `home`, None when that is root or a user that others share."""
    not_for_data = {0, *(account.uid for account in _find_accounts([SHARED_USER]))}
    for name in DATA_FOLDERS:
        folder = home / name
        if folder.is_dir() and folder.stat().st_uid not in not_for_data:
            return Account(uid=folder.stat().st_uid, gid=folder.stat().st_gid)
    return None


def _owner_of(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_uid, status.st_gid


def _find_accounts(names: Sequence[str]) -> list[Account]:
    """Return the accounts of the users that exist, in the order of their names."""
    entries = {entry.pw_name: entry for entry in pwd.getpwall()}
    return [Account(uid=entries[name].pw_uid, gid=entries[name].pw_gid) for name in names if name in entries]


def _create_account(name: str) -> list[Account]:
    """Create a system user without login; return its account, [] where the system has no useradd or refuses."""
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/", "--shell", NO_LOGIN_SHELL]
    try:
        done = subprocess.run([*command, name], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("cannot create the user %s for the embedded servers: %s", name, error)
        return []
    if done.returncode != 0:
        log.warning("cannot create the user %s for the embedded servers: %s", name, done.stderr.strip())
    else:
        log.info("created the system user %s for the embedded servers", name)
    return _find_accounts([name])


def _enter_namespace(uid: int, gid: int) -> None:
    """Move this process into a new user namespace, in which it is `uid`."""
    outside_uid, outside_gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")
    # user_namespaces(7): without privilege the group map may be written only after setgroups is denied
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outside_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {outside_gid} 1")
