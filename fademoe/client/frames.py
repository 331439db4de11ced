"""`from fademoe.client import Client`: frames of market data, over HTTP or out of a directory of `fademoe export`.

    client = Client("http://127.0.0.1:8000")
    frame = client.read("bin-ohlcv", "BTC", "2026-10-01", "2026-11-01", step="1h")

Values are exact decimals unless `exact=False`. Needs the extra `[client]`.
"""

import importlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol, overload
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from fademoe.bulk.arrow import STEP_TYPES, load_arrow, make_schema, read_text
from fademoe.bulk.directory import Entry, read_certificates
from fademoe.clock import MINUTE_MS, SECOND_MS, Window, ceil_to, merge, parse_time, subtract, to_iso
from fademoe.errors import ConfigError, FadeMoeError
from fademoe.metrics import STEPS_MS, is_derived
from fademoe.settings import LOOPBACK

Moment = str | int | datetime
Form = Literal["polars", "pandas", "arrow", "rows"]
FORMS = ("polars", "pandas", "arrow", "rows")
PART_BYTES = 8 << 20  # of an answer that is parsed at once
TIMEOUT_S = 120.0
OPEN_MS = 2**62  # the end of a range that is not given
KEYS = ("symbol", "source", "interval", "time")  # of an export's row, beside ts


class ClientError(FadeMoeError):
    """FadeMoe refused a question, broke off an answer, or cannot be reached."""


class _Origin(Protocol):
    """Where rows come from."""

    def read_table(self, source: str, symbol: str, window: Window, question: Mapping[str, str], *, exact: bool) -> Any:
        """Return ts and the columns of a range as an Arrow table, oldest first."""

    def read_coverage(self, source: str, symbol: str) -> Entry:
        """Return what is wanted, covered, absent and missing of a series."""

    def read_certificate(self, source: str, symbol: str, window: Window) -> Entry:
        """Return the certificate of a range."""

    def read_universe(self, at: str | None, exchange: str | None) -> list[Entry]:
        """Return the contracts that traded at a time."""


class Client:
    """Reads series of a FadeMoe that runs at an address, or of a directory that `fademoe export` made.

    Times are ISO 8601 (UTC unless they say otherwise), epochs in s or ms, or datetimes; ranges include their start and
    not their end. Raises ClientError when a question is refused or an answer is not complete, ConfigError for an
    argument that is wrong.
    """

    def __init__(self, address: str | os.PathLike[str], token: str = "", timeout_s: float = TIMEOUT_S) -> None:
        """Read from `http://…`, with the admin token where the web is not on loopback, or from a directory.

        Each question may take `timeout_s`; while FadeMoe is busy it is asked again, as soon as it says. Proxies and
        the .netrc of the environment hold for other hosts than loopback; the token goes before .netrc.
        """
        text = os.fspath(address)
        self._origin: _Origin = (
            _Web(text, token, timeout_s) if text.startswith(("http://", "https://")) else _Directory(Path(text))
        )

    @overload
    def read(
        self,
        source: str,
        symbol: str,
        since: Moment | None = None,
        until: Moment | None = None,
        *,
        as_: Literal["rows"],
        step: str = "",
        exact: bool = True,
        columns: Sequence[str] = (),
        as_of: Moment | None = None,
        knowledge: str = "",
    ) -> list[dict[str, Any]]: ...

    @overload
    def read(
        self,
        source: str,
        symbol: str,
        since: Moment | None = None,
        until: Moment | None = None,
        *,
        as_: Form = "polars",
        step: str = "",
        exact: bool = True,
        columns: Sequence[str] = (),
        as_of: Moment | None = None,
        knowledge: str = "",
    ) -> Any: ...

    def read(
        self,
        source: str,
        symbol: str,
        since: Moment | None = None,
        until: Moment | None = None,
        *,
        as_: Form = "polars",
        step: str = "",
        exact: bool = True,
        columns: Sequence[str] = (),
        as_of: Moment | None = None,
        knowledge: str = "",
    ) -> Any:
        """Return `ts` (ms) and the columns of a series, oldest first; with a step also how complete each bar is.

        `as_`: polars, pandas, arrow or rows (a list of dicts). `exact`: values as decimal128(38, 18), else float64; a
        value that is longer is refused, one of a derived metric rounded. `columns`: only these, and `known_ms` where it
        is named. `as_of`, `knowledge`: rows as they were known then, by the market or by this database.
        """
        question = _ask(step=step, columns=columns, as_of=as_of, knowledge=knowledge)
        return _convert(self._origin.read_table(source, symbol, _span(since, until), question, exact=exact), as_)

    def join(
        self,
        sources: Sequence[str],
        symbol: str,
        since: Moment,
        until: Moment,
        *,
        as_: Form = "polars",
        step: str = "",
        exact: bool = True,
        as_of: Moment | None = None,
        knowledge: str = "",
    ) -> Any:
        """Return several series of a symbol side by side: every minute (or step) of the range, null without a row.

        Columns are named `bin-ohlcv.c`. A row that lies between two minutes is left out.
        """
        arrow = load_arrow()
        window = _span(since, until)
        step_ms = STEPS_MS[step] if step else MINUTE_MS
        question = _ask(step=step, as_of=as_of, knowledge=knowledge)
        points = range(ceil_to(window.start_ms, step_ms), window.end_ms, step_ms)
        joined = arrow.table({"ts": arrow.array(points, arrow.int64())})
        for source in dict.fromkeys(sources):
            table = self._origin.read_table(source, symbol, window, question, exact=exact)
            table = table.rename_columns(["ts", *(f"{source}.{name}" for name in table.column_names[1:])])
            joined = joined.join(table, "ts", join_type="left outer")
        return _convert(joined.sort_by("ts"), as_)

    def coverage(self, source: str, symbol: str) -> Entry:
        """Return what is wanted, covered, absent and missing of a series; of a directory, the months it has."""
        return self._origin.read_coverage(source, symbol)

    def certificate(self, source: str, symbol: str, since: Moment, until: Moment) -> Entry:
        """Return what is expected, present, absent and missing in a range, and the SHA-256 of its rows.

        A directory has those of its files: the range must be one of them.
        """
        return self._origin.read_certificate(source, symbol, _span(since, until))

    def universe(self, at: Moment | None = None, exchange: str | None = None) -> list[Entry]:
        """Return the contracts that traded at a time, dead ones included; now by default."""
        return self._origin.read_universe(None if at is None else to_iso(_parse(at)), exchange)


class _Bearer(AuthBase):
    """Sends a token. As a header of the session it would give way to an entry in .netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Web:
    """A FadeMoe that runs."""

    def __init__(self, address: str, token: str, timeout_s: float) -> None:
        self._address, self._timeout_s = address.rstrip("/"), timeout_s
        self._session = requests.Session()
        self._session.headers["Accept-Encoding"] = "identity"
        self._session.trust_env = urlsplit(address).hostname not in LOOPBACK
        self._session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        if token:
            self._session.auth = _Bearer(token)
        self._kinds: dict[str, dict[str, str]] = {}

    def read_table(self, source: str, symbol: str, window: Window, question: Mapping[str, str], *, exact: bool) -> Any:
        values = {"symbol": symbol, "order": "asc", "format": "csv", **question, **_bounds(window)}
        kinds = self._find_kinds(source)
        with self._get(f"/api/export/{source}", values, stream=True) as answer:
            parts = _split_lines(self._stream(answer))
            names = next(parts).decode().rstrip("\r\n").split(",")
            types = {"ts": "integer", "known_ms": "integer"} | STEP_TYPES | kinds
            schema = make_schema(
                [(name, types.get(name, "text")) for name in names if name != "time"], is_float=not exact
            )
            try:
                tables = [
                    read_text(part, schema, is_csv=True, is_exact=exact and not is_derived(source)) for part in parts
                ]
            except ValueError as error:
                raise ClientError(f"{source} {symbol}: {error}: exact=False or another column reads it") from error
        table = load_arrow().concat_tables(tables) if tables else schema.empty_table()
        return table.drop_columns([name for name in KEYS if name in table.column_names])

    def read_coverage(self, source: str, symbol: str) -> Entry:
        found = self._get("/api/coverage", {"source": source, "symbol": symbol}).json()["series"]
        if not found:
            raise ClientError(f"nothing is wanted of {source} {symbol}")
        coverage: Entry = found[0]
        return coverage

    def read_certificate(self, source: str, symbol: str, window: Window) -> Entry:
        answer: Entry = self._get(f"/api/certificate/{source}", {"symbol": symbol, **_bounds(window)}).json()
        return answer

    def read_universe(self, at: str | None, exchange: str | None) -> list[Entry]:
        values = {name: text for name, text in (("at", at), ("exchange", exchange)) if text}
        found = self._get("/api/universe", values).json()
        contracts: list[Entry] = next(value for value in found.values() if isinstance(value, list))
        return contracts

    def _find_kinds(self, source: str) -> dict[str, str]:
        if not self._kinds:
            specs = self._get("/api/perpspecs", {}).json()["perpspecs"]
            self._kinds = {spec["perpspec"]: {each["name"]: each["type"] for each in spec["fields"]} for spec in specs}
        if source not in self._kinds:
            raise ConfigError(f"unknown perpspec {source!r}: valid are {', '.join(self._kinds)}")
        return self._kinds[source]

    def _get(self, path: str, values: Mapping[str, str], *, stream: bool = False) -> requests.Response:
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            try:
                answer = self._session.get(self._address + path, params=values, timeout=self._timeout_s, stream=stream)
            except requests.RequestException as error:
                raise ClientError(f"{self._address} does not answer: {error}") from error
            wait_s = _read_wait_s(answer)
            if wait_s is None or time.monotonic() + wait_s > deadline_s:
                break
            answer.close()
            time.sleep(wait_s)
        if answer.status_code != requests.codes.ok:
            try:
                detail = answer.json()["detail"]
            except (ValueError, KeyError, TypeError):
                detail = answer.text[:200]
            raise ClientError(f"{path}: HTTP {answer.status_code}: {detail}")
        return answer

    def _stream(self, answer: requests.Response) -> Iterator[bytes]:
        try:
            yield from answer.iter_content(1 << 20)
        except requests.RequestException as error:
            raise ClientError(f"{self._address} broke off its answer, which is not complete: {error}") from error


class _Directory:
    """A directory of `fademoe export`."""

    def __init__(self, folder: Path) -> None:
        found = read_certificates(folder) if folder.is_dir() else None
        if found is None:
            raise ConfigError(f"{str(folder)!r} is no directory of `fademoe export`, and no address http://…")
        self._folder, self._options, self._files = folder, found.options, found.files

    def read_table(self, source: str, symbol: str, window: Window, question: Mapping[str, str], *, exact: bool) -> Any:
        arrow, parquet = load_arrow(), importlib.import_module("pyarrow.parquet")
        compute = importlib.import_module("pyarrow.compute")
        self._check(question, exact=exact)
        entries = self._find(source, symbol)
        spans = {path: Window(parse_time(entry["from"]), parse_time(entry["to"])) for path, entry in entries.items()}
        _require_covered(window, list(spans.values()), f"{source} {symbol}")
        tables = []
        for path, entry in sorted(entries.items()):
            if entry["rows"] and spans[path].start_ms < window.end_ms and spans[path].end_ms > window.start_ms:
                if exact and entry["rounded"] and not is_derived(source):
                    raise ClientError(f"{path}: values are longer than the file keeps, and were rounded: exact=False")
                tables.append(parquet.ParquetFile(self._folder / path).read())
        if not tables:
            any_file = next(
                (path for path, entry in self._files.items() if entry["source"] == source and entry["rows"]), ""
            )
            if not any_file:
                raise ClientError(f"the directory has no row of {source}")
            tables = [parquet.read_schema(self._folder / any_file).empty_table()]
        table = arrow.concat_tables(tables).drop_columns(["time"])
        ts = table["ts"]
        inside = compute.and_(compute.greater_equal(ts, window.start_ms), compute.less(ts, window.end_ms))
        table = table.filter(inside)
        if question.get("columns"):
            names = question["columns"].split(",")
            unknown = [name for name in names if name not in table.column_names]
            if unknown:
                raise ConfigError(f"columns are {unknown}: the directory has {', '.join(table.column_names[1:])}")
            table = table.select(["ts", *names, *(name for name in STEP_TYPES if name in table.column_names)])
        if not exact:
            schema = arrow.schema(
                [
                    field.with_type(arrow.float64()) if arrow.types.is_decimal(field.type) else field
                    for field in table.schema
                ]
            )
            table = table.cast(schema)
        return table.combine_chunks()

    def read_coverage(self, source: str, symbol: str) -> Entry:
        return {"source": source, "symbol": symbol, "files": self._find(source, symbol)}

    def read_certificate(self, source: str, symbol: str, window: Window) -> Entry:
        span = (to_iso(window.start_ms), to_iso(window.end_ms))
        entries = self._find(source, symbol).values()
        for entry in entries:
            if (entry["from"], entry["to"]) == span:
                return entry
        ranges = ", ".join(f"{entry['from']} to {entry['to']}" for entry in entries)
        raise ClientError(f"the directory has no certificate of {span[0]} to {span[1]}: it has {ranges}")

    def read_universe(self, at: str | None, exchange: str | None) -> list[Entry]:
        raise ClientError("a directory does not know which contracts traded: ask a FadeMoe that runs")

    def _find(self, source: str, symbol: str) -> dict[str, Entry]:
        found = {
            path: entry for path, entry in self._files.items() if (entry["source"], entry["symbol"]) == (source, symbol)
        }
        if not found:
            series = sorted({f"{entry['source']} {entry['symbol']}" for entry in self._files.values()})
            raise ClientError(f"the directory has no {source} {symbol}: it has {', '.join(series)}")
        return found

    def _check(self, question: Mapping[str, str], *, exact: bool) -> None:
        """Refuse what the directory was not made with."""
        step = question.get("step", "")
        if step != (self._options["step"] or ""):
            raise ClientError(f"step is {step!r}: the directory has {self._options['step']!r}")
        as_of, of = question.get("as_of", ""), self._options["as_of"] or ""
        if as_of != of:
            raise ClientError(f"as_of is {as_of or 'not given'}: the directory is of {of or 'now'}")
        knowledge = question.get("knowledge") or ("market" if as_of else "")
        if knowledge and knowledge != self._options["knowledge"]:
            raise ClientError(f"knowledge is {knowledge}: the directory has {self._options['knowledge'] or 'none'}")
        if exact and self._options["values"] != "decimal":
            raise ClientError("the directory has floats: exact=False reads it")


def _require_covered(window: Window, spans: Sequence[Window], series: str) -> None:
    """Raise ClientError where files of `spans` lack a part of a range; an open end of it is theirs."""
    whole = merge(spans)
    start_ms = window.start_ms or whole[0].start_ms
    end_ms = window.end_ms if window.end_ms < OPEN_MS else whole[-1].end_ms
    left = subtract(Window(start_ms, end_ms), whole) if start_ms < end_ms else []
    if left:
        ranges = ", ".join(f"{to_iso(start)} to {to_iso(end)}" for start, end in whole)
        raise ClientError(f"the directory has {series} of {ranges}, not of {to_iso(left[0].start_ms)}")


def _read_wait_s(answer: requests.Response) -> int | None:
    """Return the seconds after which a FadeMoe that is busy wants to be asked again, None for any other answer."""
    given = answer.headers.get("Retry-After", "")
    is_busy = answer.status_code in (requests.codes.too_many_requests, requests.codes.service_unavailable)
    return max(int(given), 1) if is_busy and given.isdecimal() else None


def _ask(
    *, step: str = "", columns: Sequence[str] = (), as_of: Moment | None = None, knowledge: str = ""
) -> dict[str, str]:
    """Return the parameters of a question; raise ConfigError for a wrong one."""
    if step and step not in STEPS_MS:
        raise ConfigError(f"step is {step!r}: valid are {', '.join(STEPS_MS)}")
    if knowledge and knowledge not in ("market", "recorded"):
        raise ConfigError(f"knowledge is {knowledge!r}: valid are market, recorded")
    if isinstance(columns, str):
        raise ConfigError(f"columns is {columns!r}: valid is a list of names")
    question = {"step": step, "columns": ",".join(columns), "knowledge": knowledge}
    question["as_of"] = "" if as_of is None else to_iso(_parse(as_of))
    return {name: text for name, text in question.items() if text}


def _parse(moment: Moment) -> int:
    """Return a time in ms; raise ConfigError for what is none."""
    if isinstance(moment, datetime):
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
    try:
        return parse_time(str(moment))
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{error}: valid are ISO 8601 times, epochs in s or ms, and datetimes") from error


def _span(since: Moment | None, until: Moment | None) -> Window:
    """Return a range; an end that is not given lies far away."""
    start_ms, end_ms = 0 if since is None else _parse(since), OPEN_MS if until is None else _parse(until)
    if start_ms > end_ms:
        raise ConfigError(f"until is {until}: it lies before since, {since}")
    return Window(start_ms, end_ms)


def _bounds(window: Window) -> dict[str, str]:
    values = {"from": window.start_ms, "to": window.end_ms}
    return {name: str(value) for name, value in values.items() if SECOND_MS < value < OPEN_MS}


def _split_lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the first line, then whole lines, some MB at a time."""
    kept, is_first = b"", True
    for part in parts:
        kept += part
        if is_first and b"\n" in kept:
            first, _, kept = kept.partition(b"\n")
            yield first
            is_first = False
        if not is_first and len(kept) >= PART_BYTES:
            end = kept.rfind(b"\n") + 1
            if end:
                yield kept[:end]
                kept = kept[end:]
    if is_first or (kept and not kept.endswith(b"\n")):
        raise ClientError("the answer ends in the middle of a line: it is not complete")
    if kept:
        yield kept


def _convert(table: Any, as_: str) -> Any:
    """Return an Arrow table in the form asked for."""
    if as_ == "arrow":
        return table
    if as_ == "rows":
        return table.to_pylist()
    if as_ == "polars":
        return importlib.import_module("polars").from_arrow(table)
    if as_ == "pandas":
        return table.to_pandas(types_mapper=importlib.import_module("pandas").ArrowDtype)
    raise ConfigError(f"as_ is {as_!r}: valid are {', '.join(FORMS)}")
