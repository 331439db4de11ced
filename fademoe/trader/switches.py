"""What turns an account off: the switch of all accounts, its kill switches, the dead man's switch.

Off: what rests or is on its way ends as expiry `off`, the strategy is not called, funding and margin go on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any, Self

from fademoe.account.ledger import LedgerRow
from fademoe.account.numbers import ZERO
from fademoe.account.state import Account
from fademoe.clock import DAY_MS, MINUTE_MS, floor_to
from fademoe.errors import ConfigError

HOLD, CLOSE = "hold", "close"
RESUME, WAIT = "resume", "wait"
DEAD_AFTER_MS = 3 * MINUTE_MS  # without a heartbeat of the collector, or without data
DEAD_MAN = "dead man"
STALE = "stale data"


@dataclass(frozen=True, kw_only=True)
class TraderSettings:
    """How an account behaves beside its plan. Shares are fractions; None: no such switch.

    `when_off`: hold positions, or close them at the next open. `after_stale`: resume by itself when data are there
    again, or wait for a person. `max_stale_minutes`: minutes in a row that were stepped without all of their data.
    """

    when_off: str = HOLD
    after_stale: str = RESUME
    max_daily_loss: str | None = None
    max_drawdown: str | None = None
    max_exposure: str | None = None
    max_stale_minutes: int | None = None
    max_rejections: int | None = None
    channels: tuple[str, ...] = ()
    path: str = ""

    def __post_init__(self) -> None:
        """Raise ConfigError that names a wrong value and the valid ones."""
        for name, value, valid in (
            ("when-off", self.when_off, (HOLD, CLOSE)),
            ("after-stale", self.after_stale, (RESUME, WAIT)),
        ):
            if value not in valid:
                raise ConfigError(f"--{name} is {value!r}: valid are {', '.join(valid)}")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as values that JSON can hold."""
        return asdict(self) | {"channels": list(self.channels)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return what `to_json` wrote."""
        return cls(**{**stored, "channels": tuple(stored["channels"])})


@dataclass(kw_only=True)
class SwitchCounts:
    """What the kill switches compare with: equity at the start of the day, its peak, rejections and stale minutes.

    `is_tripped`: the account turned itself off; when a person resets that, all counts restart.
    """

    day: int
    day_equity: Decimal
    peak: Decimal
    last: Decimal  # equity after the minute before
    rejections: int = 0
    stale_minutes: int = 0
    is_tripped: bool = False

    def restart(self) -> None:
        """Count from the last minute on."""
        self.peak = self.day_equity = self.last
        self.rejections = self.stale_minutes = 0
        self.is_tripped = False

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON can hold them."""
        return {name: str(value) if isinstance(value, Decimal) else value for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return what `to_json` wrote."""
        return cls(
            **{
                **stored,
                "day_equity": Decimal(stored["day_equity"]),
                "peak": Decimal(stored["peak"]),
                "last": Decimal(stored["last"]),
            }
        )


@dataclass
class Trip:
    """Why an account turned itself off."""

    kind: str
    reason: str
    details: dict[str, str] = field(default_factory=dict)


def check_minute(
    counts: SwitchCounts,
    settings: TraderSettings,
    account: Account,
    ts: int,
    rows: Sequence[LedgerRow],
    *,
    is_stale: bool,
) -> Trip | None:
    """Note the end of a minute in `counts`; return the kill switch that it trips."""
    equity = account.equity
    day = floor_to(ts, DAY_MS)
    if day != counts.day:
        counts.day, counts.day_equity, counts.rejections = day, counts.last, 0
    counts.peak, counts.last = max(counts.peak, equity), equity
    counts.rejections += sum(row.kind == "rejection" for row in rows)
    counts.stale_minutes = counts.stale_minutes + 1 if is_stale else 0
    loss = _share(counts.day_equity - equity, counts.day_equity)
    drawdown = _share(counts.peak - equity, counts.peak)
    exposure = sum((abs(held.quantity * held.price) for held in account.positions.values()), ZERO)
    gross = exposure / equity if equity > 0 else (Decimal("Infinity") if exposure else ZERO)
    for kind, value, limit in (
        ("daily loss", loss, settings.max_daily_loss),
        ("drawdown", drawdown, settings.max_drawdown),
        ("gross exposure", gross, settings.max_exposure),
    ):
        if limit is not None and value > Decimal(limit):
            return Trip(kind, f"{kind} {value:.4f} is above {limit}")
    if settings.max_stale_minutes is not None and counts.stale_minutes > settings.max_stale_minutes:
        return Trip(STALE, f"{counts.stale_minutes} minutes in a row without all of their data")
    if settings.max_rejections is not None and counts.rejections > settings.max_rejections:
        return Trip("rejections", f"{counts.rejections} rejected orders today are more than {settings.max_rejections}")
    return None


def _share(part: Decimal, whole: Decimal) -> Decimal:
    if part <= 0:
        return ZERO
    return part / whole if whole > 0 else Decimal(1)
