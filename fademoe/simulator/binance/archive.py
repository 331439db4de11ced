"""Binance's archive of files, and the listing of its bucket. All lines come from the truth that REST is made of."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from fademoe.simulator.binance.rows import convert_marks, convert_premiums, encode_klines, encode_premiums
from fademoe.simulator.clock import DAY_MS, HOUR_MS, MINUTE_MS
from fademoe.simulator.decimals import rescale, to_fixed
from fademoe.simulator.exchange import Call, Reply, Simulation
from fademoe.simulator.files import MAX_KEYS, File, Host, damage_lines, encode_listing, find_published_ms
from fademoe.simulator.market.candles import BarTuple
from fademoe.simulator.market.funding import RATE_DECIMALS
from fademoe.simulator.market.gauges import RATIO_DECIMALS
from fademoe.simulator.market.instrument import Instrument
from fademoe.simulator.market.marks import find_mark_decimals
from fademoe.simulator.market.noise import draw_number
from fademoe.simulator.market.truth import compute_account_ratio

PREFIX = "/data/futures/um/"
BUCKET = "/data.binance.vision"
FOLDER = "data/futures/um"
KLINE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
FUNDING_HEADER = "calc_time,funding_interval_hours,last_funding_rate"
METRICS_HEADER = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
    "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio"
)
HEADERS_SINCE = "2022-08-11"
HEADER_ISLANDS = (  # days before that have a header, too
    ("2020-09-15", "2020-09-21"),
    ("2020-09-28", "2020-09-28"),
    ("2020-12-28", "2021-01-01"),
    ("2021-07-09", "2021-07-13"),
    ("2021-12-28", "2022-01-01"),
    ("2022-03-28", "2022-04-03"),
)
SAMPLE_MS = 5 * MINUTE_MS
METRICS_SINCE_MS, BTC_METRICS_SINCE_MS = 1_638_316_800_000, 1_598_918_400_000
KLINES_SINCE_MS = 1_577_750_400_000
DATASETS = ("klines", "premiumIndexKlines", "markPriceKlines", "fundingRate", "metrics")
ZIP_FAULTS = ("wrong_checksum", "lost_checksum", "cut_zip", "bad_crc", "two_members", "html_file", "lost_file")
MINUTE_FAULTS = ("short_month", "doubled_rows", "conflicting_rows", "unsorted_rows")
METRICS_FAULTS = (
    "doubled_rows",
    "unsorted_rows",
    "late_stamps",
    "midnight_row",
    "blank_cells",
    "zero_rows",
    "short_day",
    "old_form",
    "mixed_label",
    "few_values",
)
_KEY = re.compile(
    r"data/futures/um/(?P<cadence>daily|monthly)/(?P<dataset>\w+)/(?P<name>[^/]+)/(?:1m/)?"
    r"(?P=name)-(?:1m|fundingRate|metrics)-(?P<date>\d{4}-\d\d(?:-\d\d)?)\.zip"
)


class BinanceArchive:
    """The files of every contract that Binance ever listed."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        """Serve the files of the contracts of exchange `name`."""
        options = simulation.options
        self._simulation = simulation
        self._market = simulation.market
        self._name = name
        self._host = Host(
            name,
            seed=simulation.market.seed,
            faults=simulation.faults,
            clock=simulation.clock,
            sprinkle=options.archive_faults,
            rate=options.archive_rate,
            has_checksums=True,
            find=self._find,
        )

    def answer(self, call: Call) -> Reply:
        """Answer a request for a file, a checksum or a page of the listing."""
        if call.path.startswith(BUCKET):
            return Reply(self._list(call.query, call.now_ms), content_type="application/xml")
        answer = self._host.answer(call.path.removeprefix("/"), call.ip, dict(call.headers))
        return Reply(answer.body, answer.status, answer.headers, answer.content_type)

    def _find(self, key: str, now_ms: int) -> File | None:
        """Return the file of a key that has appeared by now."""
        match = _KEY.fullmatch(key)
        if match is None or match["dataset"] not in DATASETS:
            return None
        dataset, is_month = match["dataset"], match["cadence"] == "monthly"
        if (dataset == "fundingRate" and not is_month) or (dataset == "metrics" and is_month):
            return None
        life = self._find_life(match["name"])
        if life is None or (len(match["date"]) == len("2024-11")) != is_month:
            return None
        try:
            start_ms, end_ms = find_span(match["date"])
        except ValueError:
            return None
        instrument, from_ms, until_ms = life
        from_ms = max(from_ms, find_since_ms(dataset, instrument))
        published_ms = find_published_ms(self._market.seed, key, end_ms, is_month=is_month)
        if published_ms > now_ms or end_ms <= from_ms or start_ms >= until_ms:
            return None
        span = max(start_ms, from_ms), min(end_ms, until_ms)
        kinds = ZIP_FAULTS + {"metrics": METRICS_FAULTS, "fundingRate": ()}.get(dataset, MINUTE_FAULTS)
        if not is_month:
            kinds = tuple(kind for kind in kinds if kind != "short_month")

        def lines(active: frozenset[str]) -> Iterable[str]:
            return self._lines(dataset, instrument, span, match["date"], active)

        return File(
            key=key,
            stem=key.rpartition("/")[2].removesuffix(".zip"),
            published_ms=published_ms,
            kinds=frozenset(kinds),
            lines=lines,
            is_multipart=is_month and dataset != "fundingRate",
        )

    def _find_life(self, folder: str) -> tuple[Instrument, int, int] | None:
        """Return the contract of a folder, with the span of its life that the folder holds.

        The life before a relisting lies in a folder with SETTLED behind the name; bars go on after every end.
        """
        now_ms = self._simulation.clock.now_ms()
        match = re.match(r"^(.+?)((?:_?SETTLED)+)$", folder)
        name = match[1] if match else folder
        instrument = self._market.world.find_instrument(self._name, name)
        if instrument is None or instrument.listed_ms > now_ms:
            return None
        halted_ms, again_ms = instrument.halted_from_ms, instrument.halted_until_ms
        is_relisted = halted_ms is not None and again_ms is not None and again_ms <= now_ms
        if match:
            settled = find_settled_suffix(instrument)
            if not is_relisted or again_ms is None or match[2] != settled:
                return None
            return instrument, instrument.listed_ms, again_ms
        if is_relisted and again_ms is not None:
            return instrument, again_ms, now_ms
        return instrument, instrument.listed_ms, now_ms

    def _folders(self) -> list[str]:
        """Return the folders of all contracts."""
        names = [instrument.name for instrument in self._market.world.list_instruments(self._name)]
        settled = [
            f"{instrument.name}{find_settled_suffix(instrument)}"
            for instrument in self._market.world.list_instruments(self._name)
            if instrument.halted_until_ms is not None
        ]
        return [name for name in (*names, *settled) if self._find_life(name)]

    def _list(self, query: Mapping[str, str], now_ms: int) -> bytes:
        """Return a page of the listing."""
        prefix, delimiter, marker = query.get("prefix", ""), query.get("delimiter", ""), query.get("marker", "")
        if query.get("list-type") == "2":
            marker = query.get("continuation-token", query.get("start-after", ""))
        most = min(MAX_KEYS, int(query.get("max-keys", MAX_KEYS)))
        folders: list[str] = []
        files: list[File] = []
        match = re.fullmatch(rf"{FOLDER}/(daily|monthly)/(\w+)/(?:([^/]+)/(?:1m/)?)?([^/]*)", prefix)
        if match and match[2] in DATASETS:
            cadence, dataset, name, begin = match.groups()
            if name is None and delimiter:
                folders = [
                    f"{FOLDER}/{cadence}/{dataset}/{each}/" for each in self._folders() if each.startswith(begin)
                ]
            elif name is not None:
                files = self._files(cadence, dataset, name, max(marker, prefix), most, now_ms)
                files = [file for file in files if file.key.startswith(prefix)]
        return encode_listing(self._host, files, folders, prefix=prefix, marker=marker, delimiter=delimiter, most=most)

    def _files(self, cadence: str, dataset: str, name: str, marker: str, most: int, now_ms: int) -> list[File]:
        """Return the files of a folder behind a marker, a few more than a page holds."""
        life = self._find_life(name)
        if life is None:
            return []
        kind = dataset if dataset in ("fundingRate", "metrics") else "1m"
        inner = "1m/" if kind == "1m" else ""
        start_ms = max(life[1], find_since_ms(dataset, life[0]))
        dates = list_months(start_ms, now_ms) if cadence == "monthly" else list_days(start_ms, now_ms)
        found: list[File] = []
        for date in dates:
            key = f"{FOLDER}/{cadence}/{dataset}/{name}/{inner}{name}-{kind}-{date}.zip"
            if f"{key}.CHECKSUM" <= marker:
                continue
            file = self._find(key, now_ms)
            if file is not None and "lost_file" not in self._host.list_faults(file):
                found.append(file)
            if len(found) > most:
                break
        return found

    def _lines(
        self, dataset: str, instrument: Instrument, span: tuple[int, int], date: str, active: frozenset[str]
    ) -> list[str]:
        """Return all lines of a file."""
        if dataset == "metrics":
            return [METRICS_HEADER, *self._samples(instrument, span[0], active)]
        if dataset == "fundingRate":
            return [FUNDING_HEADER, *self._settlements(instrument, span)]
        lines = self._minutes(dataset, instrument, span)
        header = [KLINE_HEADER] if has_header(date) else []
        return [*header, *damage_lines(lines, active, DAY_MS // MINUTE_MS)]

    def _minutes(self, dataset: str, instrument: Instrument, span: tuple[int, int]) -> list[str]:
        """Return the lines of a span of minutes; after the contract's end they are flat."""
        start_ms, end_ms = span
        texts: list[str] = []
        for day in range(start_ms // DAY_MS, -(-end_ms // DAY_MS)):
            if dataset == "klines":
                bars: list[BarTuple] = self._market.candles.list_bars(instrument, day)
            elif dataset == "markPriceKlines":
                bars = convert_marks(self._market.marks.list_marks(instrument, day))
            else:
                bars = convert_premiums(self._market.gauges.list_premiums(instrument, day))
            bars = [bar for bar in bars if start_ms <= bar[0] < end_ms]
            bars += self._flat_bars(dataset, instrument, max(start_ms, day * DAY_MS), min(end_ms, (day + 1) * DAY_MS))
            if dataset == "klines":
                encoded = encode_klines(instrument, bars)
            elif dataset == "markPriceKlines":
                encoded = encode_premiums(bars, MINUTE_MS, find_mark_decimals(instrument))
            else:
                encoded = encode_premiums(bars)
            texts += [text[1:-1].replace('"', "") for text in encoded]
        return texts

    def _flat_bars(self, dataset: str, instrument: Instrument, start_ms: int, end_ms: int) -> list[BarTuple]:
        """Return the bars that go on after a settlement, with nothing traded."""
        ends = [
            (from_ms, until_ms)
            for from_ms, until_ms in (
                (instrument.delisted_ms, None),
                (instrument.halted_from_ms, instrument.halted_until_ms),
            )
            if from_ms is not None
        ]
        bars: list[BarTuple] = []
        for from_ms, until_ms in ends:
            first_ms, last_ms = max(start_ms, from_ms), min(end_ms, until_ms or end_ms)
            price = 0 if dataset == "premiumIndexKlines" else self._market.candles.read_price(instrument, from_ms)
            if dataset == "markPriceKlines":
                price = rescale(price, instrument.price_decimals, find_mark_decimals(instrument))
            bars += [(ts, price, price, price, price, 0, 0, 0, 0, 0) for ts in range(first_ms, last_ms, MINUTE_MS)]
        return sorted(bars)

    def _settlements(self, instrument: Instrument, span: tuple[int, int]) -> list[str]:
        """Return the settlements of a span; after the contract's end the base rate goes on."""
        funding = self._market.funding
        lines = []
        for settled in funding.list_settlements(instrument, *span):
            at_ms = settled.ts + funding.draw_jitter_ms(instrument, settled.ts)
            lines.append(f"{at_ms},{settled.hours},{to_fixed(settled.rate, RATE_DECIMALS)}")
        end_ms = instrument.delisted_ms
        if end_ms is not None:
            first_ms = -(-max(span[0], end_ms) // (8 * HOUR_MS)) * 8 * HOUR_MS
            lines += [f"{ts},8,0.00010000" for ts in range(first_ms, span[1], 8 * HOUR_MS)]
        return lines

    def _samples(self, instrument: Instrument, day_ms: int, active: frozenset[str]) -> list[str]:
        """Return the samples of a day.

        Until --binance-label-change-ms a line is the sample at its time, from then on the one five minutes later. In
        the old form of the files, times run from 00:05 to midnight of the next day and each is that of its sample.
        """
        day_ms = day_ms // DAY_MS * DAY_MS
        is_old, change_ms = "old_form" in active, self._simulation.options.binance_label_change_ms
        first = 1 if is_old else 0
        lines: list[str] = []
        for number in range(first, DAY_MS // SAMPLE_MS + first):
            stamp_ms = day_ms + number * SAMPLE_MS
            shift_ms = SAMPLE_MS if not is_old and stamp_ms >= change_ms else 0
            if "mixed_label" in active and number < DAY_MS // SAMPLE_MS // 2:
                shift_ms = SAMPLE_MS - shift_ms
            line = self._sample(instrument, stamp_ms, stamp_ms + shift_ms, active)
            if line:
                lines.append(line)
        if "midnight_row" in active and not is_old:
            stamp_ms = day_ms + DAY_MS
            line = self._sample(instrument, stamp_ms, stamp_ms + (SAMPLE_MS if stamp_ms >= change_ms else 0), active)
            lines += [line] if line else []
        if "short_day" in active:
            del lines[-1:]
        return damage_lines(lines, active, DAY_MS // SAMPLE_MS)

    def _sample(self, instrument: Instrument, stamp_ms: int, at_ms: int, active: frozenset[str]) -> str:
        """Return one line, "" where the exchange has no sample of the instant."""
        dice = draw_number(self._market.seed, "metrics line", instrument.key, stamp_ms)
        late_ms = (1 + dice % 5) * 1_000 if "late_stamps" in active and dice % 9 == 0 else 0
        text = datetime.fromtimestamp((stamp_ms + late_ms) // 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        is_over = instrument.delisted_ms is not None and at_ms >= instrument.delisted_ms
        if is_over:
            return f"{text},{instrument.name},0.0000000000000000,0.0000000000000000,,,,"
        if not self._market.gauges.has_sample(instrument, at_ms):
            return ""
        gauges = self._market.gauges
        interest = gauges.read_open_interest(instrument, at_ms)
        value = gauges.read_open_interest_value(instrument, at_ms)
        ratio = compute_account_ratio(gauges.read_long_share(instrument, at_ms))
        cells = [
            to_fixed(rescale(interest, instrument.lot_decimals, 16), 16),
            to_fixed(rescale(value, instrument.quote_decimals, 16), 16),
            "1.5120000000000000",
            "1.2011000000000000",
            to_fixed(rescale(ratio, RATIO_DECIMALS, 16), 16),
            "0.9731000000000000",
        ]
        if "zero_rows" in active and dice % 40 == 0:
            cells[:2] = ["0.0000000000000000", "0.0000000000000000"]
        if "few_values" in active and dice % 12:
            cells[1] = ""
        if "blank_cells" in active:
            cells[2] = cells[3] = ""
            if dice % 30 == 1:
                cells[4] = ""
            if dice % 30 == 2:
                cells[1] = ""
        return ",".join([text, instrument.name, *cells])


def find_settled_suffix(instrument: Instrument) -> str:
    """Return what stands behind a contract's name in the folder of its earlier life."""
    return ("SETTLED", "_SETTLED", "SETTLEDSETTLED")[draw_number(0, "settled", instrument.name) % 3]


def find_since_ms(dataset: str, instrument: Instrument) -> int:
    """Return from when on there are files of a dataset."""
    if dataset != "metrics":
        return KLINES_SINCE_MS
    return BTC_METRICS_SINCE_MS if instrument.name == "BTCUSDT" else METRICS_SINCE_MS


def find_span(date: str) -> tuple[int, int]:
    """Return the span of a day (2024-11-03) or a month (2024-11); raise ValueError for no date."""
    if len(date) > len("2024-11"):
        start_ms = int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()) * 1000
        return start_ms, start_ms + DAY_MS
    year, month = map(int, date.split("-"))
    ends = [datetime(year, month, 1, tzinfo=UTC), datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)]
    start_ms, end_ms = (int(end.timestamp()) * 1000 for end in ends)
    return start_ms, end_ms


def list_days(start_ms: int, end_ms: int) -> list[str]:
    """Return the days of a span as keys have them."""
    days = range(start_ms // DAY_MS, -(-end_ms // DAY_MS))
    return [datetime.fromtimestamp(day * DAY_MS // 1000, UTC).strftime("%Y-%m-%d") for day in days]


def list_months(start_ms: int, end_ms: int) -> list[str]:
    """Return the months of a span as keys have them."""
    return sorted({day[:7] for day in list_days(start_ms, end_ms)})


def has_header(date: str) -> bool:
    """Tell whether a file of minutes begins with the names of its columns."""
    if len(date) == len("2024-11"):
        return date >= HEADERS_SINCE[:7]
    return date >= HEADERS_SINCE or any(first <= date <= last for first, last in HEADER_ISLANDS)
