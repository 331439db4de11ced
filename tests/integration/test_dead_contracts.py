"""Dead contracts and earlier lives that only an archive's listing knows, against the simulator."""

import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import requests
from rq import Retry

from fademoe.archives.listing import Listed, Page
from fademoe.client import instruments, lives
from fademoe.client.archive import RefusedFile
from fademoe.clock import DAY_MS, HOUR_MS, MINUTE_MS, Window, ceil_to, floor_to
from fademoe.errors import RetryLater, StoreError
from fademoe.feeds import registry
from fademoe.jobs import dead, reconcile
from fademoe.jobs.dead import find_dead
from fademoe.runtime.job_context import use_services
from fademoe.signals import Stopped
from fademoe.store import instruments as store
from fademoe.store.coverage import ENDED, EXPIRED, NO_ROW, Absence, Covered, Series
from fademoe.store.read.terms import list_lives
from tests.support.clocks import settled_end
from tests.support.importing import month, to_ms

EXCHANGE = registry.load_exchanges()["binance"]


@pytest.fixture
def services(system, simulator):
    system.environment |= {
        "FADEMOE_EXCHANGES": "binance",
        "FADEMOE_ARCHIVES": "binance:cc-by-nc-sa",
        "FADEMOE_BINANCE_ARCHIVE_URL": simulator.url,
        "FADEMOE_BINANCE_ARCHIVE_LIST_URL": f"{simulator.url}/data.binance.vision",
    }
    services = system.context()
    use_services(services)
    instruments.refresh(EXCHANGE, services.rest, services.database)
    yield services
    services.close()


def read(services, name):
    with services.database.open_transaction() as cursor:
        return [life for life in list_lives(cursor, codes=["bin"]) if life.instrument == name]


def look_for(services, monkeypatch, *names):
    """Look for lives among some names of the archive only: each costs files."""
    archive = EXCHANGE.archive
    chosen = replace(archive, parse_contract=lambda name: archive.parse_contract(name) if name in names else None)
    monkeypatch.setitem(registry.load_exchanges(), "binance", replace(EXCHANGE, archive=chosen))
    return find_dead("binance")


@pytest.mark.long
def test_a_contract_that_is_on_no_list_any_more_is_known_by_its_files(services, system, monkeypatch):
    """Its end is its last trade: flat bars go on behind it. A second look finds nothing new."""
    name, ended_ms = "币安人生USDT", settled_end(DAY_MS) - 100 * DAY_MS + 5 * HOUR_MS
    change = {"exchange": "binance", "instrument": name}
    (listed,) = read(services, name)
    requests.post(f"{system.simulator.url}/sim/contracts", json=change | {"delisted_ms": ended_ms}, timeout=60)
    try:
        system.query("DELETE FROM perp_lives WHERE instrument IN (%s, 'BTCUSDT') RETURNING 1", name)
        assert look_for(services, monkeypatch, name, "BTCUSDT") == {"lives": 1}, "BTCUSDT trades on"
        (found,) = read(services, name)
        assert (found.symbol, found.evidence, found.life) == (listed.symbol, "archive", 1)
        assert abs(found.delisted_ms - ended_ms) <= HOUR_MS
        assert found.last_trade_ms == found.delisted_ms - MINUTE_MS
        assert found.first_trade_ms == found.listed_ms >= listed.listed_ms
        assert look_for(services, monkeypatch, name, "BTCUSDT") == {"lives": 0}
        assert [path for path in (services.settings.home / "archive").rglob("*") if path.is_file()] == []
    finally:
        requests.post(f"{system.simulator.url}/sim/contracts", json=change | {"delisted_ms": None}, timeout=60)


@pytest.mark.long
def test_a_file_that_is_broken_short_or_refused_hides_no_life(services, system, simulator, monkeypatch):
    """What a month's file does not tell of the end of a life, the files of its days do."""
    name, month_ms = "RUNEUSDT", settled_end(DAY_MS) - 130 * DAY_MS
    month = datetime.fromtimestamp(month_ms / 1000, UTC).replace(day=1, hour=0, minute=0)
    last_ms = int((month + timedelta(days=31)).replace(day=1).timestamp()) * 1000 - DAY_MS
    ended_ms = last_ms + 5 * HOUR_MS
    change = {"exchange": "binance", "instrument": name}
    requests.post(f"{simulator.url}/sim/contracts", json=change | {"delisted_ms": ended_ms}, timeout=60)
    folder = f"/data/futures/um/monthly/klines/{name}/1m/{name}-1m"
    try:
        system.query("DELETE FROM perp_lives WHERE instrument = %s RETURNING 1", name)
        simulator.fault(kind="error_503", exchange="binance", path=folder, count=1)
        again = look_for(services, monkeypatch, name)
        assert isinstance(again, Retry), "a host that does not answer is asked again before the next day"
        assert again.intervals[0] >= 15
        for kind in ("short_month", "conflicting_rows", "wrong_checksum"):
            simulator.fault(kind=kind, exchange="binance", path=f"{folder}-{month:%Y-%m}")
            system.query("DELETE FROM perp_lives WHERE instrument = %s RETURNING 1", name)
            assert look_for(services, monkeypatch, name) == {"lives": 1}, kind
            (found,) = read(services, name)
            assert abs(found.delisted_ms - ended_ms) <= HOUR_MS, kind
            simulator.clear()
        assert [path for path in (services.settings.home / "archive").rglob("*") if path.is_file()] == []
    finally:
        simulator.clear()
        requests.post(f"{simulator.url}/sim/contracts", json=change | {"delisted_ms": None}, timeout=60)


@pytest.mark.parametrize(("factor", "symbols"), [(1, ["ZEC", "ZEC"]), (7, ["ZEC_2", "ZEC"])])
def test_the_life_before_a_listing_again_is_the_first_one(services, system, monkeypatch, factor, symbols):
    """The stored symbol keeps its meaning: where the earlier life was another coin, that one gets another symbol."""
    day_ms = settled_end(DAY_MS)
    again = {"halted_from_ms": day_ms - 70 * DAY_MS, "halted_until_ms": day_ms - 65 * DAY_MS}
    change = {"exchange": "binance", "instrument": "ZECUSDT"}

    def put(**members):
        requests.post(f"{system.simulator.url}/sim/contracts", json=change | members, timeout=60).raise_for_status()

    try:
        put(**again, shown_listed_ms=again["halted_until_ms"], relisted_factor=factor)
        system.query("DELETE FROM perp_lives WHERE instrument = 'ZECUSDT' RETURNING 1")
        instruments.refresh(EXCHANGE, services.rest, services.database)
        assert look_for(services, monkeypatch, "ZECUSDT") == {"lives": 1}
        earlier, newest = sorted(read(services, "ZECUSDT"), key=lambda life: life.life)
        assert [earlier.symbol, newest.symbol] == symbols
        assert (earlier.life, newest.life, newest.listed_ms) == (1, 2, again["halted_until_ms"])
        assert abs(earlier.delisted_ms - again["halted_from_ms"]) <= HOUR_MS
        assert earlier.successor == (None if factor == 1 else "ZEC")
        instruments.refresh(EXCHANGE, services.rest, services.database)
        assert sorted(life.life for life in read(services, "ZECUSDT")) == [1, 2]
        terms = system.query("SELECT DISTINCT life FROM perp_terms WHERE instrument = 'ZECUSDT'")
        assert terms == [(2,)], "the terms stay with the life that they are of"
        assert look_for(services, monkeypatch, "ZECUSDT") == {"lives": 0}
    finally:
        names = ("halted_from_ms", "halted_until_ms", "shown_listed_ms")
        put(**dict.fromkeys(names), relisted_factor=1)


@pytest.mark.parametrize(("source", "reason"), [("bin-ohlcv", ENDED), ("bin-oi", NO_ROW), ("bin-pfr", EXPIRED)])
def test_a_contract_that_vanished_while_the_host_was_off_ends_with_its_last_trade(
    importer, monkeypatch, source, reason
):
    """The list that lacks it is days younger. REST serves nothing of it, and flat bars go on in the files."""
    services, system, contract = importer.services, importer.system, "RUNEUSDT"
    use_services(services)
    ended_ms = settled_end(DAY_MS) - 20 * DAY_MS + 5 * HOUR_MS
    seen_ms, missing_ms = ended_ms - 4 * DAY_MS, ended_ms + 9 * DAY_MS
    change = {"exchange": "binance", "instrument": contract}
    series, wanted = Series(source, "RUNE"), Window(seen_ms - 2 * DAY_MS, missing_ms + DAY_MS)
    vanish = (
        "UPDATE perp_lives SET evidence = 'missing', delisted_ms = %s, seen_at = to_timestamp(%s) WHERE instrument = %s"
    )
    requests.post(f"{system.simulator.url}/sim/contracts", json=change | {"delisted_ms": ended_ms}, timeout=60)
    try:
        system.query(f"{vanish} RETURNING 1", missing_ms, seen_ms / 1000, contract)
        importer.want(wanted, series)
        unserved = Window(seen_ms, wanted.end_ms)
        services.writer.write([], [Covered(series, [unserved], [Absence(unserved, reason)])])
        seen_day_ms = floor_to(seen_ms, DAY_MS)
        assert import_planned(importer, series) == Window(wanted.start_ms, seen_day_ms), "its end is not known yet"
        assert look_for(services, monkeypatch, contract) == {"lives": 0}
        (life,) = read(services, contract)
        assert (life.delisted_ms, life.evidence) == (ended_ms, "archive")
        assert life.last_trade_ms == ended_ms - MINUTE_MS
        assert import_planned(importer, series) == Window(seen_day_ms, ceil_to(ended_ms, DAY_MS))
        assert import_planned(importer, series) is None, "nothing is asked for twice"
        assert importer.differences(*series, Window(wanted.start_ms, ended_ms)) == []
        assert importer.missing(series, wanted) == []
        behind = "SELECT count(*) FROM perp_data WHERE symbol = 'RUNE' AND ts >= %s"
        assert system.query(behind, ended_ms) == [(0,)]
        assert look_for(services, monkeypatch, contract) == {"lives": 0}
    finally:
        requests.post(f"{system.simulator.url}/sim/contracts", json=change | {"delisted_ms": None}, timeout=60)


def test_the_end_of_a_vanished_contract_waits_for_a_file_behind_it(importer, monkeypatch):
    """A day's file that ends with few trades tells of no end: that of the next day may have more."""
    services, query, contract = importer.services, importer.system.query, "RUNEUSDT"
    use_services(services)
    vanish = "UPDATE perp_lives SET evidence = 'missing', delisted_ms = %s WHERE instrument = %s RETURNING 1"
    missing_ms = to_ms("2024-06-03T01:00")
    query(vanish, missing_ms, contract)
    keep_under(monkeypatch, services, contract, {contract: ["2024-04", "2024-05"]})
    for now_ms, known in (
        (to_ms("2024-06-07"), (missing_ms, "missing")),
        (to_ms("2024-06-08"), (to_ms("2024-06-01"), "archive")),
    ):
        monkeypatch.setattr(services.clocks, "now_ms", lambda _, at_ms=now_ms: at_ms)
        assert look_for(services, monkeypatch, contract) == {"lives": 0}
        (life,) = read(services, contract)
        assert (life.delisted_ms, life.evidence) == known


def test_the_newest_life_of_a_name_is_dated_where_an_earlier_one_has_no_folder_of_its_own(importer, monkeypatch):
    services, query, contract = importer.services, importer.system.query, "RUNEUSDT"
    use_services(services)
    columns = "exchange, code, symbol, multiplier, contract_value, seen_at, instrument"
    query("UPDATE perp_lives SET delisted_ms = %s WHERE instrument = %s RETURNING 1", to_ms("2024-04-10"), contract)
    query(
        f"INSERT INTO perp_lives ({columns}, life, listed_ms, delisted_ms, evidence)"
        f" SELECT {columns}, 2, %s, %s, 'missing' FROM perp_lives WHERE instrument = %s RETURNING 1",
        to_ms("2024-04-20"),
        to_ms("2024-06-09"),
        contract,
    )
    keep_under(monkeypatch, services, contract, {contract: ["2024-04", "2024-05"]})
    assert look_for(services, monkeypatch, contract) == {"lives": 0}
    lives = sorted(read(services, contract), key=lambda life: life.life)
    assert [(life.delisted_ms, life.evidence) for life in lives] == [
        (to_ms("2024-04-10"), "list"),
        (to_ms("2024-06-01"), "archive"),
    ]


def test_a_contract_that_a_list_lacks_before_its_announced_end_ends_as_announced(services, system):
    """A list of a minute before its end lacked it, and no later one looked for it again."""
    missing = "UPDATE perp_lives SET delisted_ms = %s, missing_ms = %s WHERE instrument = 'RUNEUSDT' RETURNING 1"
    ended_ms = settled_end(DAY_MS)
    with services.database.open_transaction() as cursor:
        for delisted_ms, is_undated in ((ended_ms, False), (ended_ms + 5 * DAY_MS, True)):
            system.query(missing, delisted_ms, ended_ms - MINUTE_MS)
            assert (("RUNEUSDT", 1) in store.find_undated(cursor, ["bin"])) == is_undated
            assert store.count_missing(cursor, ["bin"]) == is_undated


def import_planned(importer, series):
    """Import what a reconcile run plans of a series' files; return what it covers, None where that is nothing."""
    _, periods = reconcile.plan_missing(importer.services, EXCHANGE)
    windows = [item.task.window for item in periods if item.task.series == series]
    for window in windows:
        importer.run(series, window)
    return Window(min(windows).start_ms, max(window.end_ms for window in windows)) if windows else None


def keep_under(patch, services, contract, months):
    """Let the archive have months of a contract's candles under other names, and nothing under its own.

    `months`: by name; each name is a life, which ends with its last month.
    """
    client, real = services.archive_client, services.archive_client.fetch
    klines = "data/futures/um/monthly/klines"
    paths = {f"{klines}/{name}/1m/{name}-1m-{each}.zip": each for name, each_of in months.items() for each in each_of}

    def list_page(archive, prefix, marker="", **_):
        files = [Listed(path, "", 1, 0) for path in sorted(paths) if path.startswith(prefix) and path > marker]
        return Page(files=files, folders=[], marker=None)

    def fetch(archive, path, *, use="import"):
        if path not in paths:
            return None
        own = f"{klines}/{contract}/1m/{contract}-1m-{paths[path]}"
        download = real(archive, f"{own}.zip", use=use)
        with zipfile.ZipFile(download.path) as packed:
            (member,) = packed.namelist()
            content = packed.read(member)
        with zipfile.ZipFile(download.path, "w") as packed:
            packed.writestr(f"{path.rpartition('/')[2].removesuffix('.zip')}.csv", content)
        return download

    patch.setattr(client, "list_folders", lambda archive, prefix: list(months))
    patch.setattr(client, "list_page", list_page)
    patch.setattr(client, "fetch", fetch)


@pytest.mark.parametrize("name", ["RUNEUSDTSETTLED", "RUNEUSDT_SETTLED2"])
def test_a_dead_contract_may_lie_under_the_name_of_an_earlier_life_alone(importer, monkeypatch, name):
    query, contract = importer.system.query, "RUNEUSDT"
    use_services(importer.services)
    query("DELETE FROM perp_lives WHERE instrument = %s RETURNING 1", contract)
    keep_under(monkeypatch, importer.services, contract, {name: ["2024-04", "2024-05"]})
    assert look_for(importer.services, monkeypatch, contract) == {"lives": 1}
    (found,) = read(importer.services, contract)
    assert (found.symbol, found.life, found.evidence) == ("RUNE", 1, "archive")
    assert (found.listed_ms, found.delisted_ms) == (to_ms("2024-04-01"), to_ms("2024-06-01"))
    assert look_for(importer.services, monkeypatch, contract) == {"lives": 0}
    series, window = Series("bin-ohlcv", "RUNE"), Window(to_ms("2024-05-30"), to_ms("2024-06-01"))
    importer.take(series, window)
    assert importer.differences(*series, window) == []
    assert importer.missing(series, window) == []


def test_a_search_that_a_lost_database_or_a_stop_ends_goes_on(importer, monkeypatch):
    """It is due once a day, and was over for that day."""
    use_services(importer.services)
    importer.system.query("DELETE FROM perp_lives WHERE instrument = 'RUNEUSDT' RETURNING 1")
    keep_under(monkeypatch, importer.services, "RUNEUSDT", {"RUNEUSDT": ["2024-05"]})
    for error in (StoreError("PostgreSQL is away"), Stopped()):
        with monkeypatch.context() as patched:
            patched.setattr(dead, "_find_window", raise_it(error))
            assert isinstance(look_for(importer.services, monkeypatch, "RUNEUSDT"), Retry)
    assert look_for(importer.services, monkeypatch, "RUNEUSDT") == {"lives": 1}


def raise_it(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize(
    ("refused", "end"), [(["2024-05"], "2024-05-01"), (["2024-05", "2024-05-01"], "2024-05-02"), (["20"], None)]
)
def test_a_file_that_is_always_refused_hides_no_life(importer, monkeypatch, refused, end):
    """It was asked for for ever, and its contract never found. A refused day beside the trades may have been traded."""
    services, contract = importer.services, "RUNEUSDT"
    use_services(services)
    importer.system.query("DELETE FROM perp_lives WHERE instrument = %s RETURNING 1", contract)
    keep_under(monkeypatch, services, contract, {contract: ["2024-04", "2024-05"]})
    kept = services.archive_client.fetch

    def fetch(archive, path, *, use="import"):
        if any(path.endswith(f"-{date}.zip") or date == "20" for date in refused):
            raise RefusedFile(f"the archive answers 503 for {path}", retry_after_s=1)
        return kept(archive, path, use=use)

    monkeypatch.setattr(services.archive_client, "fetch", fetch)
    found = [look_for(services, monkeypatch, contract) for _ in range(2 * dead.REFUSALS)]
    if end is None:
        assert all(isinstance(each, Retry) for each in found), "no file was answered: all are waited for"
        assert read(services, contract) == []
        return
    files = len(refused)
    assert all(isinstance(each, Retry) for each in found[: files * (dead.REFUSALS - 1)])
    assert {"lives": 1} in found
    (life,) = read(services, contract)
    assert life.delisted_ms == to_ms(end)


def test_lives_are_counted_by_their_times_whatever_their_names_say(importer, monkeypatch):
    """The first one has the shorter name here; which one has it is not documented."""
    query, contract = importer.system.query, "RUNEUSDT"
    use_services(importer.services)
    query("UPDATE perp_lives SET listed_ms = %s WHERE instrument = %s RETURNING 1", to_ms("2025-01-01"), contract)
    months = {"RUNEUSDTSETTLED": ["2024-01"], "RUNEUSDTSETTLEDSETTLED": ["2024-05"]}
    keep_under(monkeypatch, importer.services, contract, months)
    assert look_for(importer.services, monkeypatch, contract) == {"lives": 2}
    lives = sorted(read(importer.services, contract), key=lambda life: life.life)
    assert [life.life for life in lives] == [1, 2, 3]
    starts = [to_ms(text) for text in ("2024-01-01", "2024-05-01", "2025-01-01")]
    assert [life.listed_ms for life in lives] == starts
    assert len({life.symbol for life in lives}) == 3
    assert lives[2].symbol == "RUNE"
    assert look_for(importer.services, monkeypatch, contract) == {"lives": 0}
    for life, text in zip(lives, ("2024-01", "2024-05"), strict=False):
        window = Window(month(text).start_ms, month(text).start_ms + DAY_MS)
        importer.take(Series("bin-ohlcv", life.symbol), window)
        assert importer.system.differences("binance", "bin-ohlcv", life.symbol, *window, contract=contract) == []


def test_the_name_under_which_a_stored_life_lies_is_noted(importer, monkeypatch):
    """It ended while it was on the list; its files were moved since."""
    query, contract = importer.system.query, "RUNEUSDT"
    use_services(importer.services)
    ended = "UPDATE perp_lives SET delisted_ms = %s WHERE instrument = %s RETURNING 1"
    query(ended, to_ms("2024-06-01T09:00"), contract)
    keep_under(monkeypatch, importer.services, contract, {"RUNEUSDTSETTLED": ["2024-05"]})
    assert look_for(importer.services, monkeypatch, contract) == {"lives": 0}
    (life,) = read(importer.services, contract)
    assert life.evidence == "list"
    series, window = Series("bin-ohlcv", "RUNE"), Window(to_ms("2024-05-30"), to_ms("2024-06-01"))
    importer.take(series, window)
    assert importer.differences(*series, window) == []


def test_a_life_that_the_list_tells_as_one_with_others_keeps_its_name(importer, monkeypatch):
    query, contract = importer.system.query, "RUNEUSDT"
    use_services(importer.services)
    keep_under(monkeypatch, importer.services, contract, {"RUNEUSDTSETTLED": ["2024-05"]})
    assert look_for(importer.services, monkeypatch, contract) == {"lives": 0}
    assert query("SELECT count(*) FROM perp_lives WHERE archive_name IS NOT NULL") == [(0,)]


@pytest.mark.parametrize(("pause_days", "factor", "symbol"), [(5, 1, "RUNE"), (5, 50, "RUNE_2"), (200, 1, "RUNE_2")])
def test_a_dead_contract_of_a_symbol_that_another_name_has_is_the_same_coin_or_gets_another(
    importer, monkeypatch, pause_days, factor, symbol
):
    """1000RUNEUSDT was listed after RUNEUSDT had ended: at its price, at another one, or long after."""
    query, contract = importer.system.query, "RUNEUSDT"
    use_services(importer.services)
    keep_under(monkeypatch, importer.services, contract, {contract: ["2024-04", "2024-05"]})
    rename = "UPDATE perp_lives SET instrument = %s, listed_ms = %s WHERE instrument = %s RETURNING 1"
    query(rename, f"1000{contract}", to_ms("2024-06-01") + pause_days * DAY_MS, contract)
    price = importer.system.simulator.truth("binance", "ohlcv", contract, to_ms("2024-05-31"), to_ms("2024-06-01"))
    first = Decimal(price[max(price)]["c"]) * factor
    answers = [RetryLater("busy", retry_after_s=1)] if pause_days == 5 else []

    def request_price(*_):
        if answers:
            raise answers.pop()
        return first

    monkeypatch.setattr(lives, "_request_price", request_price)
    if answers:
        assert isinstance(look_for(importer.services, monkeypatch, contract), Retry), "nothing is decided without it"
        assert read(importer.services, contract) == []
    assert look_for(importer.services, monkeypatch, contract) == {"lives": 1}
    (found,) = read(importer.services, contract)
    (other,) = read(importer.services, f"1000{contract}")
    assert (found.symbol, other.symbol) == (symbol, "RUNE")


def test_other_files_of_an_earlier_life_may_lie_under_the_name_of_the_contract(importer):
    """Its candles were moved to LTCUSDTSETTLED, its marks were not."""
    query, ended_ms = importer.system.query, to_ms("2025-09-19T09:00")
    columns = "exchange, code, symbol, multiplier, contract_value, seen_at, evidence, instrument"
    query(
        f"INSERT INTO perp_lives ({columns}, life, listed_ms) SELECT {columns}, 2, %s"
        " FROM perp_lives WHERE instrument = 'LTCUSDT' RETURNING 1",
        ended_ms + 9 * DAY_MS,
    )
    moved = "UPDATE perp_lives SET delisted_ms = %s, archive_name = %s WHERE instrument = 'LTCUSDT' AND life = 1"
    query(f"{moved} RETURNING 1", ended_ms, "LTCUSDTSETTLED")
    series, window = Series("bin-mark", "LTC"), Window(to_ms("2025-09-18"), to_ms("2025-09-20"))
    importer.take(series, window)
    assert importer.differences(*series, Window(window.start_ms, ended_ms)) == []
    assert query("SELECT count(*) FROM perp_data WHERE ts >= %s", ended_ms) == [(0,)]
