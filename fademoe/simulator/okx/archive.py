"""OKX's archive of files; its days and months are those of UTC+8. All lines are of the truth that REST is made of."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from fademoe.simulator.clock import DAY_MS, HOUR_MS, MINUTE_MS
from fademoe.simulator.exchange import Call, Reply, Simulation
from fademoe.simulator.files import File, Host, damage_lines, find_published_ms
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.noise import draw_number
from fademoe.simulator.okx.rows import encode_candles, format_rate

PREFIX = "/cdn/okex/traderecords/"
ZONE_MS = 8 * HOUR_MS
CANDLE_HEADER = "instrument_name,open,high,low,close,vol,vol_ccy,vol_quote,open_time,confirm"
FUNDING_HEADER = "instrument_name,funding_rate,funding_time"
OLD_FUNDING_HEADER = "合约,类型,资金费率,实收资金费率,时间"
CANDLES_SINCE_MS = 1_609_430_400_000  # 2021-01-01, UTC+8
FUNDING_SINCE_MS = 1_646_064_000_000  # 2022-03-01, UTC+8
VOLUMES_SINCE_MS = 1_654_012_800_000  # 2022-06-01, UTC+8: before that volumes may be missing
NEW_LAYOUT_SINCE = "2022-07-01"
MOST_PERIODS = 10  # of one question for a list of files
ZIP_FAULTS = ("cut_zip", "bad_crc", "two_members", "html_file", "lost_file")
MINUTE_FAULTS = ("short_month", "doubled_rows", "conflicting_rows", "unsorted_rows")
_CANDLES = re.compile(
    r"candlesticks/(?P<cadence>daily|monthly)/(?P<folder>\d{6,8})/(?P<name>[\w-]+?)-candlesticks-(?P<date>[\d-]+)\.zip"
)
_MONTH = re.compile(r"swaprates/monthly/(?P<folder>\d{6})/(?P<name>[\w-]+?)-fundingrates-(?P<date>\d{4}-\d\d)\.zip")
_DAY = re.compile(r"swaprates/daily/(?P<folder>\d{8})/allswap-fundingrates-(?P<date>\d{4}-\d\d-\d\d)\.zip")
_OLD_DAY = re.compile(r"swaprate/monthly/(?P<folder>\d{6})/allswaprate-swaprate-(?P<date>\d{4}-\d\d-\d\d)\.zip")


class OkxArchive:
    """The files of every swap that OKX ever listed."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        """Serve the files of the contracts of exchange `name`."""
        options = simulation.options
        self._market = simulation.market
        self._clock = simulation.clock
        self._name = name
        self._host = Host(
            name,
            seed=simulation.market.seed,
            faults=simulation.faults,
            clock=simulation.clock,
            sprinkle=options.archive_faults,
            rate=options.archive_rate,
            has_checksums=False,
            find=self._find,
        )

    def answer(self, call: Call) -> Reply:
        """Answer a request for a file."""
        answer = self._host.answer(call.path.removeprefix("/"), call.ip, dict(call.headers))
        return Reply(answer.body, answer.status, answer.headers, answer.content_type)

    def list_files(self, kind: str, name: str, cadence: str, begin_ms: int, end_ms: int) -> list[dict[str, object]]:
        """Return the details of a contract's files, as market-data-history names them: at most ten, the newest first.

        Both ends belong to the range and only their date counts. A file in two tells its date as `dataTs`.
        """
        dates = {
            datetime.fromtimestamp((ts + ZONE_MS) / 1000, UTC).strftime("%Y-%m" if cadence == "monthly" else "%Y-%m-%d")
            for ts in range(begin_ms, end_ms + DAY_MS, DAY_MS)
            if ts <= end_ms or ts == begin_ms
        }
        folder = {"candlesticks": "candlesticks", "fundingrates": "swaprates"}.get(kind)
        found: list[dict[str, object]] = []
        for date in sorted(dates, reverse=True)[:MOST_PERIODS]:
            compact = date.replace("-", "")
            key = f"{PREFIX.removeprefix('/')}{folder}/{cadence}/{compact}/{name}-{kind}-{date}.zip"
            file = self._find(key, self._clock.now_ms()) if folder else None
            if file is None or "lost_file" in self._host.list_faults(file):
                continue
            start_ms, _ = find_span(date)
            stamp = "dataTs" if draw_number(self._market.seed, "stamp", key) % 2 else "dateTs"
            found.append(
                {
                    "filename": key.rpartition("/")[2],
                    "sizeMB": f"{len(self._host.make(file).body) / 1e6:.4f}",
                    "url": f"https://static.okx.com/{key}",
                    stamp: str(start_ms),
                }
            )
        if not found:
            return []
        size = sum(float(str(item["sizeMB"])) for item in found)
        family = name.removesuffix("-SWAP")
        named = {"instId": name, "instFamily": family, "instType": "SWAP"}
        span = {"dateRangeStart": str(begin_ms), "dateRangeEnd": str(end_ms)}
        return [{**named, **span, "groupSizeMB": f"{size:.4f}", "groupDetails": found}]

    def _find(self, key: str, now_ms: int) -> File | None:
        """Return the file of a key that has appeared by now."""
        path = key.removeprefix(PREFIX.removeprefix("/"))
        for pattern in (_CANDLES, _MONTH, _DAY, _OLD_DAY):
            match = pattern.fullmatch(path)
            if match:
                break
        else:
            return None
        date, is_old = match["date"], pattern is _OLD_DAY
        if not date.replace("-", "").startswith(match["folder"]):
            return None
        try:
            start_ms, end_ms = find_span(date)
        except ValueError:
            return None
        is_month = len(date) == len("2024-11")
        published_ms = find_published_ms(self._market.seed, key, end_ms + DAY_MS, is_month=is_month)
        if published_ms > now_ms or end_ms > now_ms:
            return None
        kinds = frozenset(ZIP_FAULTS)
        if pattern is _CANDLES:
            if ("monthly" in path) != is_month:
                return None
            instrument = self._swap(match["name"], start_ms, end_ms)
            if instrument is None or start_ms < CANDLES_SINCE_MS:
                return None
            swap = instrument
            kinds |= set(MINUTE_FAULTS if is_month else MINUTE_FAULTS[1:])

            def lines(active: frozenset[str]) -> Iterable[str]:
                rows = damage_lines(self._candles(swap, start_ms, end_ms), active, DAY_MS // MINUTE_MS)
                return [CANDLE_HEADER, *rows]

        else:
            if start_ms < FUNDING_SINCE_MS or (pattern is not _MONTH and is_old == (date >= NEW_LAYOUT_SINCE)):
                return None
            if pattern is _MONTH:
                instrument = self._swap(match["name"], start_ms, end_ms)
                if instrument is None:
                    return None
                swaps = [instrument]
            else:
                swaps = [each for each in self._market.world.list_instruments(self._name) if each.is_perpetual]

            def lines(active: frozenset[str]) -> Iterable[str]:
                header = OLD_FUNDING_HEADER if is_old else FUNDING_HEADER
                return [header, *(line for each in swaps for line in self._settlements(each, start_ms, end_ms, is_old))]

        stem = key.rpartition("/")[2].removesuffix(".zip")
        return File(key, stem, published_ms, kinds, lines, encoding="gbk" if is_old else "utf-8")

    def _swap(self, name: str, start_ms: int, end_ms: int) -> Instrument | None:
        """Return a contract that lived in a span."""
        instrument = self._market.world.find_instrument(self._name, name)
        if instrument is None or instrument.listed_ms >= end_ms:
            return None
        return instrument if instrument.delisted_ms is None or instrument.delisted_ms > start_ms else None

    def _candles(self, instrument: Instrument, start_ms: int, end_ms: int) -> list[str]:
        """Return the candles of a span, a few of them twice; in early files volumes may be missing."""
        lines: list[str] = []
        for day in range(start_ms // DAY_MS, -(-end_ms // DAY_MS)):
            bars = [bar for bar in self._market.candles.list_bars(instrument, day) if start_ms <= bar[0] < end_ms]
            dice = draw_number(self._market.seed, "volumes", instrument.key, day)
            missing = (None, "None", "0")[dice % 3] if day * DAY_MS < VOLUMES_SINCE_MS else None
            for text in encode_candles(instrument, bars):
                ts, *values, _ = text[1:-1].replace('"', "").split(",")
                if missing is not None:
                    values[5:] = [missing, missing]
                lines.append(f"{instrument.name},{','.join(values)},{ts},0")
            if dice % 7 == 0 and lines:
                lines.append(lines[-1])
        return lines

    def _settlements(self, instrument: Instrument, start_ms: int, end_ms: int, is_old: bool) -> list[str]:  # noqa: FBT001
        """Return the settlements of a span, each up to three seconds late."""
        lines = []
        for settled in self._market.funding.list_settlements(instrument, start_ms, end_ms):
            late_ms = draw_number(self._market.seed, "late", instrument.key, settled.ts) % 4 * 1_000
            rate = format_rate(settled.rate)
            if is_old:
                lines.append(f"{instrument.name},SWAP,{rate},{rate},{settled.ts + late_ms}")
            else:
                lines.append(f"{instrument.name},{rate},{settled.ts + late_ms}")
        return lines


def find_span(date: str) -> tuple[int, int]:
    """Return the span of a day or a month of UTC+8; raise ValueError for no date."""
    if len(date) > len("2024-11"):
        start_ms = int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()) * 1000 - ZONE_MS
        return start_ms, start_ms + DAY_MS
    year, month = map(int, date.split("-"))
    ends = [datetime(year, month, 1, tzinfo=UTC), datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)]
    start_ms, end_ms = (int(end.timestamp()) * 1000 - ZONE_MS for end in ends)
    return start_ms, end_ms
