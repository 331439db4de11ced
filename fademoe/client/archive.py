"""Downloads files of archives: within their rate limit, resumable, and compared with their checksums."""

import fcntl
import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import requests
import urllib3
from redis import Redis

from fademoe.archives.listing import Page, read_page
from fademoe.client.egress import open_session
from fademoe.client.rate_limit.budgets import Budgets, Grant
from fademoe.client.rest import MAX_LIMIT_CLOSURE_S, USER_AGENT, describe_cause
from fademoe.clock import to_host_s
from fademoe.errors import BadPayload, RetryLater
from fademoe.feeds.archive import Archive
from fademoe.feeds.values import read_retry_after_s
from fademoe.settings import Settings
from fademoe.signals import StopSignal

TIMEOUT_S = (5.0, 30.0)  # connect, and between two pieces
MAX_WAIT_S = 30.0  # for the rate limit
PIECE_BYTES = 256 * 1024
SLOW_S = 60  # after a refusal the rate is halved for so long, again and again down to an eighth
SLOWEST = 8
REFUSED_S = 15.0
MAX_KEYS = 1_000  # of a page of a listing
HELD_S = 2.0
SWEPT_S = 86_400
MISMATCH_S = 60.0  # a checksum may be older than its file
_DIGEST = re.compile(r"([0-9a-fA-F]{64})(?:\s|$)")


class RefusedFile(RetryLater):
    """The archive answers a request for a file, and neither with the file nor with its absence."""


class Mismatch(RetryLater):
    """A file does not fit its checksum, or the checksum is none; it may be older than the file."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """A whole file on disk. `checksum_ok` is None where the archive has no checksum of it."""

    path: Path
    etag: str
    last_modified: str
    bytes: int
    sha256: str
    checksum_ok: bool | None

    def discard(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)
        _sidecar(self.path).unlink(missing_ok=True)


class ArchiveClient:
    """Fetches the files of the archives of one process, from any of its threads."""

    def __init__(
        self,
        settings: Settings,
        budgets: Budgets,
        redis: Redis,
        stop: StopSignal,
        egress: Sequence[tuple[str, str | None]],
    ) -> None:
        """Keep files below `archive` in FADEMOE_HOME while they are worked on."""
        self._settings = settings
        self._budgets = budgets
        self._redis = redis
        self._stop = stop
        self._sessions = {name: open_session(address) for name, address in egress}
        self.folder = settings.home / "archive"
        self.answered: set[str] = set()  # the exchanges whose archive has answered this process as it should

    def make_url(self, archive: Archive, path: str) -> str:
        """Return the address of a file."""
        base = self._settings.archive_urls.get(archive.exchange, archive.url)
        return f"{base}/{quote(path)}"

    def fetch(self, archive: Archive, path: str, *, use: str = "import") -> Download | None:
        """Return a file, None when the archive does not have it; what an earlier run has fetched is not fetched again.

        Files of different `use` are kept apart. Raises RetryLater when the archive cannot be reached, refuses or breaks
        off: what came is kept, the next call goes on behind it. Raises Mismatch when the file does not fit its
        checksum; the next call fetches it again.
        """
        target = self.folder / use / archive.exchange / path
        known = _read_sidecar(target)
        if known is not None:
            return known
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        with part.open("ab") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RetryLater(f"{path} is being fetched by another process", retry_after_s=HELD_S) from None
            known = _read_sidecar(target)
            if known is not None:
                part.unlink(missing_ok=True)
                return known
            return self._complete(archive, path, part, target)

    def forget(self, archive: Archive, path: str, *, use: str = "import") -> None:
        """Remove what was fetched of a file that is given up, unless another process fetches it."""
        target = self.folder / use / archive.exchange / path
        part = target.with_name(f"{target.name}.part")
        with suppress(FileNotFoundError, BlockingIOError), part.open("ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()

    def _complete(self, archive: Archive, path: str, part: Path, target: Path) -> Download | None:
        """Fetch the rest of a file, compare it with its checksum and give it its name."""
        head = self._fetch_part(archive, path, part)
        if head is None:
            part.unlink(missing_ok=True)
            return None
        content_digest = _hash(part)
        try:
            expected = self._fetch_digest(archive, path)
            if expected is not None and expected != content_digest:
                raise _make_mismatch(archive, path, f"{path} does not fit its checksum")
        except Mismatch:
            part.unlink(missing_ok=True)
            raise
        download = Download(
            path=target,
            etag=head.get("ETag", "").strip('"'),
            last_modified=head.get("Last-Modified", ""),
            bytes=part.stat().st_size,
            sha256=content_digest,
            checksum_ok=None if expected is None else True,
        )
        _write_sidecar(download)
        part.replace(target)
        return download

    def list_page(
        self, archive: Archive, prefix: str, marker: str = "", *, delimiter: str = "", most: int = MAX_KEYS
    ) -> Page:
        """Return a page of the listing behind a marker, of `most` keys; raise RetryLater or BadPayload."""
        base = self._settings.archive_list_urls.get(archive.exchange, archive.list_url)
        params = {"prefix": prefix, "marker": marker, "max-keys": str(min(most, MAX_KEYS))}
        if delimiter:
            params["delimiter"] = delimiter
        query = "&".join(f"{name}={quote(value, safe='/')}" for name, value in params.items() if value)
        response, grant = self._get(archive, f"{base}?{query}", {})
        try:
            if response.status_code != requests.codes.ok:
                raise self._refuse(archive, grant, response, prefix)
            page = read_page(b"".join(self._read_pieces(response)))
            if page.marker is not None and page.marker <= marker:
                raise BadPayload(f"the listing of {prefix} does not go on behind {marker!r}")
        except BadPayload as error:
            error.locate(archive.exchange, prefix, error.body)
            raise
        finally:
            response.close()
        self._budgets.note_success(grant)
        return page

    def list_folders(self, archive: Archive, prefix: str) -> list[str]:
        """Return the names of the folders right below a prefix that ends with a slash."""
        names: list[str] = []
        marker: str | None = ""
        while marker is not None:
            page = self.list_page(archive, prefix, marker, delimiter="/")
            names += [folder.removeprefix(prefix).rstrip("/") for folder in page.folders]
            marker = page.marker
        return names

    def sweep(self) -> int:
        """Remove files that were not written for a day, such as those of a failed job; return how many."""
        edge_s = time.time() - SWEPT_S
        left = [path for path in self.folder.rglob("*") if path.is_file() and path.stat().st_mtime < edge_s]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def _fetch_part(
        self, archive: Archive, path: str, part: Path
    ) -> "requests.structures.CaseInsensitiveDict[str] | None":
        """Write a file to `part`, behind what is there; return the headers of the answer, None for no such file."""
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        response, grant = self._get(archive, self.make_url(archive, path), headers)
        with response:
            if response.status_code == requests.codes.not_found:
                self._note_answer(archive, grant)
                return None
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                with part.open("wb"):
                    pass  # emptied
                raise RetryLater(f"{path} is shorter than what was fetched of it", retry_after_s=0)
            if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
                raise self._refuse(archive, grant, response, path)
            is_rest = response.status_code == requests.codes.partial_content
            try:
                with part.open("ab" if is_rest else "wb") as file:
                    for piece in self._read_pieces(response):
                        file.write(piece)
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                raise self._unreachable(archive, grant, path, error) from error
            length = response.headers.get("Content-Length", "")
            whole = int(length) + (have if is_rest else 0) if length.isdecimal() else None
            if whole is not None and part.stat().st_size != whole:
                raise RetryLater(f"{path} broke off at {part.stat().st_size} of {whole} bytes", retry_after_s=1)
            self._note_answer(archive, grant)
            return response.headers

    def _fetch_digest(self, archive: Archive, path: str) -> str | None:
        """Return the SHA-256 that the archive tells of a file, None where it tells none."""
        sibling = archive.checksum(path)
        if sibling is None:
            return None
        response, grant = self._get(archive, self.make_url(archive, sibling), {})
        with response:
            if response.status_code == requests.codes.not_found:
                self._budgets.note_success(grant)
                return None
            if response.status_code != requests.codes.ok:
                raise self._refuse(archive, grant, response, sibling)
            match = _DIGEST.match(self._read_excerpt(response))
            self._budgets.note_success(grant)
        if match is None:
            raise _make_mismatch(archive, sibling, f"{sibling} holds no checksum")
        return match[1].lower()

    def _get(self, archive: Archive, url: str, headers: dict[str, str]) -> tuple[requests.Response, Grant]:
        """Send a request within the rate limit; the answer's body is not read yet. A stop interrupts the wait."""
        cost = min(self._read_slowness(archive), archive.budget.limit)
        grant = self._budgets.take(archive, archive.budget.name, cost, live=False, max_wait_s=MAX_WAIT_S)
        try:
            with self._stop.allow_interrupt():
                response = self._sessions[grant.egress].get(
                    url,
                    headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
                    timeout=TIMEOUT_S,
                    allow_redirects=False,
                    stream=True,
                )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise self._unreachable(archive, grant, url, error) from error
        finally:
            self._budgets.release(grant)
        return response, grant

    def _read_pieces(self, response: requests.Response) -> Iterator[bytes]:
        """Yield the content of an answer, piece by piece; a stop interrupts the wait for one."""
        pieces = response.iter_content(PIECE_BYTES)
        piece = None
        while piece != b"":
            with self._stop.allow_interrupt():
                piece = next(pieces, b"")
            yield piece

    def _read_excerpt(self, response: requests.Response) -> str:
        """Return the begin of an answer's text."""
        with self._stop.allow_interrupt():
            return response.text[:200]

    def _note_answer(self, archive: Archive, grant: Grant) -> None:
        """Note that the archive has answered with a file, or that it has none."""
        self.answered.add(archive.exchange)
        self._budgets.note_success(grant)

    def _refuse(self, archive: Archive, grant: Grant, response: requests.Response, what: str) -> RefusedFile:
        """Return the error of an answer that is no file.

        The rate is halved for a while. For as long as the answer asks for, no request is sent to the archive.
        """
        reason = f"the archive of {archive.exchange} answers {response.status_code} for {what}"
        self._slow_down(archive)
        pause_s = max(REFUSED_S, self._budgets.note_failure(grant, reason))
        retry_after_s = read_retry_after_s(response.headers)
        if retry_after_s is not None:
            pause_s = max(pause_s, min(retry_after_s, MAX_LIMIT_CLOSURE_S))
            self._budgets.close(archive, [archive.budget.name], grant.egress, pause_s, reason)
        return RefusedFile(
            reason,
            retry_after_s=pause_s,
            exchange=archive.exchange,
            request=what,
            http_status=response.status_code,
            body=self._read_excerpt(response),
        )

    def _unreachable(self, archive: Archive, grant: Grant, what: str, error: BaseException) -> RetryLater:
        reason = f"the archive of {archive.exchange} cannot be reached from {grant.egress}: {describe_cause(error)}"
        self._slow_down(archive)
        pause_s = self._budgets.note_failure(grant, reason)
        return RetryLater(reason, retry_after_s=max(REFUSED_S, pause_s), exchange=archive.exchange, request=what)

    def _slow_down(self, archive: Archive) -> None:
        slower = min(2 * self._read_slowness(archive), SLOWEST)
        self._redis.set(_slow_key(archive), slower, px=round(to_host_s(SLOW_S) * 1000))

    def _read_slowness(self, archive: Archive) -> int:
        text = self._redis.get(_slow_key(archive))
        return max(1, int(text)) if isinstance(text, bytes | str) else 1


def _slow_key(archive: Archive) -> str:
    return f"fademoe:archive:slow:{archive.exchange}"


def _make_mismatch(archive: Archive, path: str, reason: str) -> Mismatch:
    return Mismatch(
        reason, retry_after_s=MISMATCH_S, exchange=archive.exchange, request=path, http_status=requests.codes.ok
    )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sidecar(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _write_sidecar(download: Download) -> None:
    """Write what is known of a file before the file gets its name: one with a name is whole."""
    values = asdict(download)
    del values["path"]
    _sidecar(download.path).write_text(json.dumps(values), encoding="utf-8")


def _read_sidecar(target: Path) -> Download | None:
    """Return the file that an earlier run has fetched and not worked on to the end, None without one."""
    if not target.is_file():
        return None
    try:
        return Download(path=target, **json.loads(_sidecar(target).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        target.unlink(missing_ok=True)
        return None
