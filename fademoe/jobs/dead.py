"""Dead contracts that no list has any more, and lives before a relisting, from the listings of archives."""

import logging
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor
from rq import Retry

from fademoe.archives.listing import Listed, skip_checksums
from fademoe.archives.reading import read_file
from fademoe.client import instruments, lives
from fademoe.client.archive import Mismatch, RefusedFile
from fademoe.clock import DAY_MS, LATEST_MS, MINUTE_MS, Window, ceil_to, floor_to, parse_time, to_iso
from fademoe.errors import RetryLater, SourceError
from fademoe.feeds import registry
from fademoe.feeds.archive import Archive, ArchiveFile, BadFile, Cadence, Dataset, split_settled
from fademoe.feeds.blocks import Block, make_block
from fademoe.feeds.exchange import Exchange
from fademoe.feeds.instrument import Instrument
from fademoe.jobs.archive_target import BAD_FILE_S, REFUSALS, TRIES
from fademoe.jobs.failures import run_job
from fademoe.metrics import Candle, name_perpspec
from fademoe.queue.retry import DELAY_S, ENDLESS
from fademoe.runtime.job_context import JobContext, wrap_job
from fademoe.runtime.services import Services
from fademoe.store import instruments as store
from fademoe.store import status
from fademoe.store.coverage import LISTING_REASONS, Series, uncover_absent
from fademoe.store.files import find_last_before
from fademoe.store.instruments import FoundLife
from fademoe.store.status import State

log = logging.getLogger(__name__)

CANDLES = "ohlcv"
USE = "lives"  # of the files that are fetched here
EVERY_S = 86_400
ALIVE_MS = 7 * DAY_MS  # a contract that traded so lately is not dead
QUIET = 60  # candles
CHECKED_KEPT_S = 3 * 86_400  # a name that tells of no other life, such as one that is alive, is left alone so long
LAST_FILE_MS = 7 * DAY_MS  # behind a file: then no newer one comes
ENDS_MS = DAY_MS  # a list and the last trade of an archive may be so far apart about an end


class Unreadable(RetryLater):
    """A file that may tell of a life is broken; it is fetched again."""


class Trades(NamedTuple):
    """The first and the last candle with trades, of a file or of a life.

    `quiet_before`, `quiet_after`: how many candles without trades the first one's day has before it, and the last one's
    day behind it.
    """

    first: Candle
    last: Candle
    quiet_before: int
    quiet_after: int


@wrap_job
def find_dead(context: JobContext, exchange_name: str) -> dict[str, int] | Retry:
    """Look for lives that only the archive of an exchange knows, and store them with the times of their trades.

    Returns counts, or a Retry: for the names whose files could not be fetched, or after a stop or an error.
    """
    services = context.services
    unit = status.Tracked(database=services.database, unit=f"lives {exchange_name}", interval_s=EVERY_S)
    return run_job(context, unit, lambda: _look_for_dead(context, unit, registry.load_exchanges()[exchange_name]))


def _look_for_dead(context: JobContext, unit: status.Tracked, exchange: Exchange) -> dict[str, int] | Retry:
    services = context.services
    archive = registry.select_archives(services.settings).get(exchange.name)
    dataset = archive.find_dataset(CANDLES) if archive else None
    if archive is None or dataset is None or not archive.list_url:
        return {"lives": 0}
    found: list[FoundLife] = []
    delays_s: list[float] = []
    with services.stop.allow_interrupt():
        instruments.ensure(exchange, services.rest, services.database)
    names = _list_names(services, archive, dataset)
    unknown = _select_unknown(services, exchange, archive, names)
    for name, instrument in unknown:
        try:
            life = _find_life(services, exchange, archive, dataset, name, instrument)
        except SourceError as error:
            unit.record(error)
            if isinstance(error, RetryLater):
                delays_s.append(error.retry_after_s)
            log.warning("%s: the life of %s is not known: %s", exchange.name, name, error)
            continue
        if life is not None:
            found.append(_store(services, exchange, life))
    symbols = ", ".join(f"{each.instrument.name} ({each.instrument.symbol})" for each in found[:5])
    message = f"{len(names)} names, {len(unknown)} unknown, {len(found)} dead{': ' if found else ''}{symbols}"
    unit.report(State.DONE, message)
    if delays_s:
        delay_s = max(1, round(max(delays_s)))
        context.write_meta(DELAY_S, delay_s)
        return Retry(max=ENDLESS, interval=delay_s)
    return {"lives": len(found)}


def _list_names(services: Services, archive: Archive, dataset: Dataset) -> list[str]:
    """Return the names of all contracts in the archive, by month or by day."""
    cadences: tuple[Cadence, ...] = ("month", "day")
    prefixes = [archive.list_prefix(dataset, cadence, "") for cadence in cadences]
    listed = [services.archive_client.list_folders(archive, prefix) for prefix in prefixes if prefix]
    return sorted({name for names in listed for name in names})


def _select_unknown(
    services: Services, exchange: Exchange, archive: Archive, names: Iterable[str]
) -> list[tuple[str, Instrument]]:
    """Return the names that no stored life accounts for whose end is known, each with the contract that lies there.

    A contract's own name comes before those of its earlier lives.
    """
    with services.database.open_transaction() as cursor:
        names_of_lives = store.find_archive_names(cursor, exchange.codes)
        stored = store.read_lives(cursor, exchange.codes)
        undated = store.find_undated(cursor, exchange.codes)
    named = [(life, names_of_lives.get((life.name, life.life), life.name)) for life in stored]
    vanished = {name for life, its_name in named if _is_vanished(life, undated) for name in (life.name, its_name)}
    known = {name for _, name in named} - vanished
    unknown = []
    for name in names:
        instrument = archive.parse_contract(split_settled(name) or name)
        if instrument is not None and name not in known and not services.redis.exists(_checked_key(exchange, name)):
            unknown.append((name, instrument))
    return unknown


def _is_vanished(life: Instrument, undated: Container[tuple[str, int]]) -> bool:
    """Return whether a stored life ended, by the lists that lack it, and nothing says when."""
    return life.delisted_ms is not None and (life.name, life.life) in undated


def _find_life(
    services: Services, exchange: Exchange, archive: Archive, dataset: Dataset, name: str, instrument: Instrument
) -> FoundLife | None:
    """Return the life whose files lie under a name, None while it goes on, or where it is stored.

    The end of a stored one that vanished from the lists is dated.
    """
    time_ms = services.clocks.now_ms(exchange)
    months = _list_files(services, archive, dataset, "month", name)
    after = f"{name}-1m-{months[-1].stem[-7:]}-99" if months else ""
    days = _list_files(services, archive, dataset, "day", name, after)
    files = [*months, *days]
    if not files:
        return None
    search = LifeSearch(services, archive, dataset, instrument)
    trades = search.find_trades(files)
    if trades is None:
        search.check_tries()
        services.redis.set(_checked_key(exchange, name), "1", ex=CHECKED_KEPT_S)
        return None
    with services.database.open_transaction() as cursor:
        stored = store.read_lives_of(cursor, instrument)
        undated = store.find_undated(cursor, exchange.codes)
    shared = [life for life in stored if _has_traded(life, trades)]
    if shared and _is_vanished(shared[-1], undated):
        if _reach_behind(files, trades, time_ms):
            ended = replace(shared[-1], delisted_ms=search.find_span(trades).end_ms)
            _date_end(services, exchange, shared[-1], FoundLife(ended, trades.first.ts, trades.last.ts, name))
        return None
    if name == instrument.name and trades.last.ts > time_ms - ALIVE_MS:
        services.redis.set(_checked_key(exchange, name), "1", ex=CHECKED_KEPT_S)
        return None
    start_ms, end_ms = search.find_span(trades)
    dead = replace(instrument, listed_ms=start_ms, delisted_ms=end_ms)
    if shared:
        if abs((shared[0].delisted_ms or LATEST_MS) - end_ms) <= ENDS_MS:
            services.database.run(partial(store.note_archive_name, life=shared[0], archive_name=name))
        # else the list tells of several lives as one
        services.redis.set(_checked_key(exchange, name), "1", ex=CHECKED_KEPT_S)
        return None
    following = next((life for life in stored if (life.listed_ms or 0) > trades.last.ts), None)
    if following is not None:
        with services.stop.allow_interrupt():
            is_same = lives.is_same_coin(exchange, services.rest, dead, trades.last.c, following, time_ms)
        end_ms = min(end_ms, following.listed_ms or end_ms)
        dead = replace(dead, delisted_ms=end_ms, is_other_coin=not is_same, life=following.life)
    elif stored:
        dead = replace(dead, is_other_coin=True, life=stored[-1].life + 1)
    else:
        dead = replace(dead, is_other_coin=not _has_symbol_alone(services, exchange, dead, trades.last.c, time_ms))
    return FoundLife(dead, trades.first.ts, trades.last.ts, name)


def _has_traded(life: Instrument, trades: Trades) -> bool:
    """Return whether a life, as far as it is known, shares any time with trades."""
    return (life.listed_ms or 0) <= trades.last.ts and trades.first.ts < (life.delisted_ms or LATEST_MS)


def _reach_behind(files: Sequence[ArchiveFile], trades: Trades, time_ms: int) -> bool:
    """Return whether the files of a name go on behind its last trade, or none has come for a while."""
    newest = files[-1].window
    return newest.start_ms > trades.last.ts or newest.end_ms <= time_ms - LAST_FILE_MS


def _date_end(services: Services, exchange: Exchange, life: Instrument, found: FoundLife) -> None:
    """Let a life that vanished from the lists end as its files tell, but not before a row that came from elsewhere.

    No file was asked for what lies behind the last list that had it, so rows there are of REST or a stream.
    """
    missing_ms = life.delisted_ms or LATEST_MS
    end_ms = max(found.last_trade_ms + MINUTE_MS, min(found.instrument.delisted_ms or 0, missing_ms))
    series = Series(name_perpspec(life.code, CANDLES), life.symbol)

    def date(cursor: Cursor) -> bool:
        last_row_ms = find_last_before(cursor, series, missing_ms, max(0, missing_ms - end_ms))
        ended_ms = end_ms if last_row_ms is None else max(end_ms, last_row_ms + MINUTE_MS)
        for metric in exchange.list_metrics() if ended_ms > missing_ms else ():
            later = Series(name_perpspec(life.code, metric), life.symbol), Window(missing_ms, ended_ms)
            uncover_absent(cursor, *later, LISTING_REASONS)
        return store.date_end(cursor, life, found._replace(instrument=replace(life, delisted_ms=ended_ms)))

    if services.database.run(date):
        log.info("%s: the end of %s was its last trade, %s", life.exchange, life.name, to_iso(found.last_trade_ms))


def _has_symbol_alone(services: Services, exchange: Exchange, dead: Instrument, last_price: str, time_ms: int) -> bool:
    """Return whether every stored contract that has the symbol of a dead one under another name is the same coin.

    1000CATUSDT may be another coin than CATUSDT was; a contract that follows at once at its price is the same.
    """
    with services.database.open_transaction() as cursor:
        rivals = [life for life in store.read_lives(cursor, exchange.codes) if life.symbol == dead.symbol]
    end_ms = dead.delisted_ms or time_ms
    if any((rival.listed_ms or 0) < end_ms for rival in rivals):
        return False  # the last price of what came before is not known
    with services.stop.allow_interrupt():
        return all(lives.is_same_coin(exchange, services.rest, dead, last_price, rival, time_ms) for rival in rivals)


def _list_files(
    services: Services, archive: Archive, dataset: Dataset, cadence: Cadence, name: str, after: str = ""
) -> list[ArchiveFile]:
    """Return the files of a name, oldest first; only those behind `after`, a name without its folder."""
    prefix = archive.list_prefix(dataset, cadence, name)
    if prefix is None:
        return []
    listed: list[Listed] = []
    marker: str | None = f"{prefix}{after}" if after else ""
    while marker is not None:
        page = services.archive_client.list_page(archive, prefix, marker)
        listed += skip_checksums(page.files)
        marker = page.marker
    files = []
    for each in sorted(listed):
        window = _find_window(dataset, each.path, cadence)
        if window is not None:
            files.append(ArchiveFile(path=each.path, contract=name, window=window, cadence=cadence))
    return files


def _find_window(dataset: Dataset, path: str, cadence: Cadence) -> Window | None:
    """Return the period of a file by the date in its name."""
    stem = path.rpartition("/")[2].partition(".")[0]
    date = stem[-7:] + "-01" if cadence == "month" else stem[-10:]
    try:
        start_ms = parse_time(date)
    except ValueError:
        return None
    return dataset.find_period(start_ms) if cadence == "month" else Window(start_ms, start_ms + DAY_MS)


class LifeSearch:
    """Looks for the first and the last trade in the files of one life."""

    def __init__(self, services: Services, archive: Archive, dataset: Dataset, instrument: Instrument) -> None:
        """Read files of `dataset`, whose prices are those of `instrument`."""
        self._services = services
        self._archive = archive
        self._dataset = dataset
        self._instrument = instrument
        self._broken: set[Window] = set()  # the days whose files cannot be read
        self._repairable: Unreadable | None = None  # such a file that another try may find whole
        self._refused: RefusedFile | None = None  # a file that was refused so often that it counts as broken

    def find_trades(self, files: Sequence[ArchiveFile]) -> Trades | None:
        """Return the first and the last candle with trades; None where there is none.

        Behind the end of a life bars are flat, for months: the last file with trades is found by halves, the newest one
        being looked at first. Files that are broken or refused are passed over. Raises RefusedFile where no other one
        was answered.
        """
        read = cache(lambda number: self._read_trades(files[number]))

        def tells(number: int) -> bool:
            return read(number) is not None or not self._has_broken_day(files[number].window)

        with_trades, without = 0, len(files)
        probe = without - 1
        while without - with_trades > 1:
            between = sorted(range(with_trades + 1, without), key=lambda number: abs(number - probe))
            number = next(filter(tells, between), None)
            if number is None:
                break
            with_trades, without = (number, without) if read(number) else (with_trades, number)
            probe = (with_trades + without) // 2
        last = read(with_trades)
        if self._refused is not None and self._archive.exchange not in self._services.archive_client.answered:
            raise self._refused
        if last is None:
            return None
        first = next(trades for number in range(with_trades + 1) if (trades := read(number)))
        return Trades(first.first, last.last, first.quiet_before, last.quiet_after)

    def find_span(self, trades: Trades) -> Window:
        """Return the life that `find_trades` found: with days beside it whose files are broken, it may have traded.

        Not where candles without trades lie between, QUIET of them or more: there it had ended, or not begun.
        Raises Unreadable where there are any broken files that were not fetched TRIES times yet.
        """
        start_ms, end_ms = trades.first.ts, trades.last.ts + MINUTE_MS
        if trades.quiet_after < QUIET:
            for day in sorted(self._broken):
                if end_ms < day.end_ms and day.start_ms <= ceil_to(end_ms, DAY_MS):
                    end_ms = day.end_ms
        if trades.quiet_before < QUIET:
            for day in sorted(self._broken, reverse=True):
                if day.start_ms < start_ms and floor_to(start_ms, DAY_MS) <= day.end_ms:
                    start_ms = day.start_ms
        if (start_ms, end_ms) != (trades.first.ts, trades.last.ts + MINUTE_MS):
            self.check_tries()
        return Window(start_ms, end_ms)

    def check_tries(self) -> None:
        """Raise Unreadable where a file was broken that another try may find whole."""
        if self._repairable is not None:
            raise self._repairable

    def _has_broken_day(self, window: Window) -> bool:
        return any(window.start_ms <= day.start_ms < window.end_ms for day in self._broken)

    def _read_trades(self, file: ArchiveFile) -> Trades | None:
        """Return the trades of a file, None where it has none; what a month's does not tell, those of its days do."""
        month = self._read_rows(file)
        parts = [month] if month else []
        if file.cadence == "month":
            for day in _list_untold_days(self._dataset, file.window, month):
                for of_day in self._dataset.list_day_files(file.contract, day):
                    rows = self._read_rows(of_day)
                    parts[:0] = [rows] if rows else []
        return _find_edges(make_block(CANDLES, parts)[0]) if parts else None

    def _read_rows(self, file: ArchiveFile) -> Block | None:
        """Return the candles of a file; none where the archive does not have it, or where it is broken."""
        services = self._services
        try:
            download = services.archive_client.fetch(self._archive, file.path, use=USE)
            if download is None:
                return None
            try:
                return read_file(download.path, file, self._dataset, self._instrument).rows.get(CANDLES)
            finally:
                download.discard()
        except RefusedFile as error:
            if self._count_try(file) < REFUSALS:
                raise
            log.warning("%s tells nothing of a life: %s", file.path, error)
            services.archive_client.forget(self._archive, file.path, use=USE)
            self._refused = error
        except (Mismatch, BadFile) as error:
            log.warning("%s tells nothing of a life: %s", file.path, error)
            if file.cadence == "day" and self._count_try(file) < TRIES:
                reason = f"{file.path}: {error}"
                self._repairable = Unreadable(reason, retry_after_s=BAD_FILE_S, exchange=self._archive.exchange)
        if file.cadence == "day":
            self._broken.add(file.window)
        return None

    def _count_try(self, file: ArchiveFile) -> int:
        """Count a failure of a file; return how many there were, each within a day of the one before."""
        key = f"lives:{self._archive.exchange}:{file.path}:tries"
        tries = int(self._services.redis.incr(key))
        self._services.redis.expire(key, EVERY_S)
        return tries


def _find_edges(rows: Block) -> Trades | None:
    """Return the first and the last candle with trades."""
    traded = [ts for ts, count in zip(rows, rows.list_texts("n"), strict=True) if count and int(count)]
    if not traded:
        return None
    first, last = (row for ts in (traded[0], traded[-1]) for row in rows.pick([ts]).values())
    if not isinstance(first, Candle) or not isinstance(last, Candle):
        return None
    before = sum(floor_to(first.ts, DAY_MS) <= ts < first.ts for ts in rows)
    after = sum(last.ts < ts < floor_to(last.ts, DAY_MS) + DAY_MS for ts in rows)
    return Trades(first, last, before, after)


def _list_untold_days(dataset: Dataset, month: Window, rows: Block | None) -> list[Window]:
    """Return the days of a month that do not lie between its first and its last line."""
    days = dataset.list_days(month)
    if not rows:
        return days
    first_ms, end_ms = int(rows.times[0]), int(rows.times[-1]) + MINUTE_MS
    return [day for day in days if day.start_ms < first_ms or day.end_ms > end_ms]


def _store(services: Services, exchange: Exchange, found: FoundLife) -> FoundLife:
    """Store a life under its symbol, and return it with that."""

    def add(cursor: Cursor) -> FoundLife:
        stored = store.read_lives(cursor, exchange.codes)
        place = found.instrument.name, found.instrument.life
        following = next((life for life in stored if (life.name, life.life) == place), None)
        if following is not None and not found.instrument.is_other_coin:
            named = replace(found.instrument, symbol=following.symbol, multiplier=following.multiplier)
        else:
            (named,) = instruments.disambiguate_symbols([found.instrument], stored)
        complete = found._replace(instrument=named)
        store.add_found_lives(cursor, [complete])
        return complete

    complete = services.database.run(add)
    log.info(
        "%s: %s was %s, from %s to %s",
        exchange.name,
        complete.instrument.name,
        complete.instrument.symbol,
        to_iso(found.first_trade_ms),
        to_iso(found.last_trade_ms),
    )
    return complete


def _checked_key(exchange: Exchange, name: str) -> str:
    return f"lives:{exchange.name}:{name}:checked"
