"""A host of files, as the exchanges' archives are: zips with checksums, parts of files, listings, and what is wrong.

An exchange says which keys exist and which lines a file has (`Host`); this module makes zips of them, answers requests
and damages files. What is damaged stays so: by faults in force (`faults.IN_FILE`), and with `--archive-faults` by a die
for each file, so that a run meets all of them.
"""

import hashlib
import io
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from typing import NamedTuple
from xml.sax.saxutils import escape

from fademoe.simulator.clock import DAY_MS, Clock
from fademoe.simulator.faults import Faults
from fademoe.simulator.limits import SlidingWindow
from fademoe.simulator.market.noise import draw_number

CACHED_FILES = 48
MAX_KEYS = 1_000
RARITY = 24  # with --archive-faults, one file in so many has a fault of a kind that applies to it
NO_SUCH_KEY = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.'
    "</Message><Key>{key}</Key><RequestId>5D41402ABC4B2A76</RequestId></Error>"
)
SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate.'
    b"</Message></Error>"
)
HTML = b"<!DOCTYPE html><html><body><h1>The page cannot be shown.</h1></body></html>"


class File(NamedTuple):
    """A file that exists: when it appeared, and the kinds of faults that apply to it."""

    key: str
    stem: str
    published_ms: int
    kinds: frozenset[str]
    lines: Callable[[frozenset[str]], Iterable[str]]
    encoding: str = "utf-8"
    is_multipart: bool = False  # its ETag is no MD5 then


class Answer(NamedTuple):
    """What is sent: status, body and headers."""

    status: int
    body: bytes
    headers: dict[str, str]
    content_type: str


@dataclass(frozen=True, kw_only=True)
class Content:
    """A zip that was made, with its ETag."""

    body: bytes
    etag: str


class Host:
    """Serves the files of one exchange. `find(key, now_ms)` finds a file, None where there is none (yet)."""

    def __init__(
        self,
        name: str,
        *,
        seed: int,
        faults: Faults,
        clock: Clock,
        sprinkle: bool,
        rate: int,
        has_checksums: bool,
        find: Callable[[str, int], File | None],
    ) -> None:
        """Serve what `find` finds; `rate`: files a second and address above which requests are refused."""
        self._name = name
        self._seed = seed
        self._faults = faults
        self._clock = clock
        self._sprinkle = sprinkle
        self._rate = rate
        self._has_checksums = has_checksums
        self._find = find
        self._taken: dict[str, SlidingWindow] = {}
        self._made: OrderedDict[tuple[str, frozenset[str]], Content] = OrderedDict()
        self._refused = 0

    def answer(self, key: str, ip: str, headers: "dict[str, str]") -> Answer:
        """Answer a request for a file or for its checksum."""
        now_ms = self._clock.now_ms()
        if self._rate and not self._taken.setdefault(ip, SlidingWindow(self._rate, 1_000)).take(1, now_ms):
            self._refused += 1
            is_slow = self._refused % 2
            return Answer(503, SLOW_DOWN, {}, "application/xml") if is_slow else Answer(403, HTML, {}, "text/html")
        suffix = ".CHECKSUM" if self._has_checksums and key.endswith(".CHECKSUM") else ""
        file = self._find(key.removesuffix(suffix), now_ms)
        active = self.list_faults(file) if file else frozenset()
        if file is None or "lost_file" in active:
            return Answer(404, NO_SUCH_KEY.format(key=escape(key)).encode(), {}, "application/xml")
        content = self.make(file)
        sent = {"Last-Modified": formatdate(file.published_ms / 1000, usegmt=True), "Accept-Ranges": "bytes"}
        if suffix:
            if "lost_checksum" in active:
                return Answer(404, NO_SUCH_KEY.format(key=escape(key)).encode(), {}, "application/xml")
            digest = hashlib.sha256(b"another" if "wrong_checksum" in active else content.body).hexdigest()
            name = file.key.rpartition("/")[2]
            return Answer(200, f"{digest}  {name}\n".encode(), sent, "binary/octet-stream")
        sent["ETag"] = f'"{content.etag}"'
        return _cut(content.body, headers, sent)

    def list_faults(self, file: File) -> frozenset[str]:
        """Return what is wrong with a file: faults in force, and by the die of each kind."""
        path = f"/{file.key}"
        active = {kind for kind in file.kinds if self._faults.is_in_force(kind, self._name, path)}
        if self._sprinkle:
            active |= {kind for kind in file.kinds if draw_number(self._seed, kind, file.key) % RARITY == 0}
        return frozenset(active)

    def make(self, file: File) -> Content:
        """Return a file's zip, made once."""
        active = self.list_faults(file) - {"wrong_checksum", "lost_checksum", "lost_file"}
        cached = self._made.get((file.key, active))
        if cached is None:
            body = _pack(file, file.lines(active), active)
            digest = hashlib.md5(body).hexdigest()
            if file.is_multipart:
                digest = f"{compute_multipart_etag(self._seed, file.key, active)}"
            cached = self._made[(file.key, active)] = Content(body=body, etag=digest)
            if len(self._made) > CACHED_FILES:
                self._made.popitem(last=False)
        else:
            self._made.move_to_end((file.key, active))
        return cached

    def describe(self, file: File) -> tuple[str, int]:
        """Return (ETag, size) for a listing; of a file in several parts the size is a guess until it was made."""
        active = self.list_faults(file) - {"wrong_checksum", "lost_checksum", "lost_file"}
        if file.is_multipart:
            made = self._made.get((file.key, active))
            size = len(made.body) if made else 1_500_000
            return compute_multipart_etag(self._seed, file.key, active), size
        content = self.make(file)
        return content.etag, len(content.body)


def compute_multipart_etag(seed: int, key: str, active: frozenset[str]) -> str:
    """Return the ETag of a file that was written in parts: it changes with the content and is no MD5 of it."""
    return f"{draw_number(seed, 'etag', key, *sorted(active)):032x}-1"


def _pack(file: File, lines: Iterable[str], active: frozenset[str]) -> bytes:
    """Return the zip of a file, damaged where that is asked for."""
    buffer = io.BytesIO()
    stamp = datetime.fromtimestamp(file.published_ms / 1000, UTC).timetuple()[:6]
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        text = "\n".join(lines) + "\n"
        archive.writestr(zipfile.ZipInfo(f"{file.stem}.csv", stamp), text.encode(file.encoding), zipfile.ZIP_DEFLATED)
        if "two_members" in active:
            archive.writestr(zipfile.ZipInfo("README.txt", stamp), "see the terms")
    body = buffer.getvalue()
    if "cut_zip" in active:
        return body[: len(body) * 2 // 3]
    if "bad_crc" in active:
        at = body.index(b"PK\x01\x02") + 16  # the CRC of the first entry of the directory
        return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
    if "html_file" in active:
        return HTML
    return body


def _cut(body: bytes, headers: "dict[str, str]", sent: dict[str, str]) -> Answer:
    """Return the part of a file that a Range header asks for, all of it without one."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("Range", ""))
    if not match or headers.get("If-Range", sent["ETag"]) != sent["ETag"]:
        return Answer(200, body, sent, "application/zip")
    first, last = int(match[1]), min(int(match[2] or len(body)), len(body) - 1)
    if first >= len(body):
        return Answer(416, b"", {**sent, "Content-Range": f"bytes */{len(body)}"}, "application/xml")
    sent["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
    return Answer(206, body[first : last + 1], sent, "application/zip")


def encode_listing(
    host: Host, keys: Sequence[File], folders: Sequence[str], *, prefix: str, marker: str, delimiter: str, most: int
) -> bytes:
    """Encode a page of a listing as S3 does: keys and folders in byte order, each file with its checksum beside it.

    The next marker is told only where a delimiter was asked for.
    """
    entries: list[tuple[str, File | None]] = [(folder, None) for folder in folders]
    for file in keys:
        entries += [(file.key, file), (f"{file.key}.CHECKSUM", file)]
    entries = sorted(entry for entry in entries if entry[0] > marker)
    page, is_truncated = entries[:most], len(entries) > most
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">',
        f"<Name>data.binance.vision</Name><Prefix>{escape(prefix)}</Prefix><Marker>{escape(marker)}</Marker>",
    ]
    if is_truncated and delimiter:
        parts.append(f"<NextMarker>{escape(page[-1][0])}</NextMarker>")
    parts.append(f"<MaxKeys>{most}</MaxKeys>" + (f"<Delimiter>{delimiter}</Delimiter>" if delimiter else ""))
    parts.append(f"<IsTruncated>{'true' if is_truncated else 'false'}</IsTruncated>")
    for name, listed in page:
        if listed is None:
            continue
        etag, size = (hashlib.md5(name.encode()).hexdigest(), 100) if name != listed.key else host.describe(listed)
        at = datetime.fromtimestamp(listed.published_ms / 1000, UTC)
        parts.append(
            f"<Contents><Key>{escape(name)}</Key><LastModified>{at:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
            f"<ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
    parts += [
        f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name, file in page if file is None
    ]
    return "".join([*parts, "</ListBucketResult>"]).encode()


def find_published_ms(seed: int, key: str, end_ms: int, *, is_month: bool) -> int:
    """Return when a file appears: a day's at 08:40 of the next day or a day later, a month's after 1, 4 or 7 days."""
    dice = draw_number(seed, "published", key)
    if is_month:
        return end_ms + (1, 4, 7)[dice % 3] * DAY_MS + 3 * 3_600_000
    return end_ms + 31_200_000 + (DAY_MS if dice % 12 == 0 else 0)


def damage_lines(lines: list[str], active: frozenset[str], rows_per_day: int) -> list[str]:
    """Apply the faults that change a file's lines (without its header)."""
    if "short_month" in active:
        lines = lines[: -2 * rows_per_day or None]
    if "doubled_rows" in active:
        lines = [line for line in lines for _ in range(2)]
    if "conflicting_rows" in active and lines:
        middle = len(lines) // 2
        lines = [*lines, _change(lines[middle])]
    if "unsorted_rows" in active:
        lines = [*lines[len(lines) // 2 :], *lines[: len(lines) // 2]]
    return lines


def _change(line: str) -> str:
    """Return a line with another value in its third column."""
    cells = line.split(",")
    cells[2] = f"{cells[2]}1" if "." in cells[2] else f"{cells[2]}.1"
    return ",".join(cells)
