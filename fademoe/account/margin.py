"""Maintenance margin in marginal slices, and the point on the way to the extreme where an account is liquidated."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from fademoe.account.market import Terms
from fademoe.account.numbers import ZERO, round_fraction


class Path(NamedTuple):
    """A position and the way of its price from the open of a minute to the adverse extreme."""

    quantity: Decimal
    start: Decimal
    extreme: Decimal
    terms: Terms


def compute_maintenance(quantity: Decimal, price: Decimal, terms: Terms) -> Decimal:
    """Return the maintenance margin of a position at a price: each slice at its own rate, as taxes are."""
    size = abs(quantity) if terms.tiers_in_coins else abs(quantity) * price
    bound, rate = terms.tiers[0]
    if bound is None or size <= bound:
        return size * rate * price if terms.tiers_in_coins else size * rate
    total, lower = ZERO, ZERO
    for bound, rate in terms.tiers:
        if bound is None or size <= bound:
            total += (size - lower) * rate
            break
        total += (bound - lower) * rate
        lower = bound
    else:  # beyond the last bound its rate goes on
        total += (size - lower) * terms.tiers[-1].rate
    return total * price if terms.tiers_in_coins else total


def find_liquidation(margin: Decimal, paths: Sequence[Path]) -> list[Decimal] | None:
    """Return the prices at which positions are liquidated, None where they survive the minute.

    All prices move together from start to extreme; equity is `margin` + sum of quantity * price, where `margin` is the
    cash of a cross account, or of one isolated position its margin - quantity * entry. The answer is the first point
    where equity <= maintenance, solved exactly and rounded to 18 places.
    """
    equity = margin + sum((path.quantity * path.extreme for path in paths), ZERO)
    needed = sum((compute_maintenance(path.quantity, path.extreme, path.terms) for path in paths), ZERO)
    if equity > needed:
        equity = margin + sum((path.quantity * path.start for path in paths), ZERO)
        needed = sum((compute_maintenance(path.quantity, path.start, path.terms) for path in paths), ZERO)
        if equity > needed:
            return None
    share = _find_share(Fraction(margin), paths)
    return [
        round_fraction(Fraction(path.start) + share * (Fraction(path.extreme) - Fraction(path.start))) for path in paths
    ]


def _find_share(margin: Fraction, paths: Sequence[Path]) -> Fraction:
    """Return the smallest share of the way at which equity <= maintenance; it is linear between the tiers' bounds."""
    last, last_room = Fraction(0), _compute_room(margin, paths, Fraction(0))
    if last_room <= 0:
        return last
    for share in sorted({*_find_bends(paths), Fraction(1)}):
        room = _compute_room(margin, paths, share)
        if room <= 0:
            return last + (share - last) * last_room / (last_room - room)
        last, last_room = share, room
    return Fraction(1)  # equal at the extreme but for the 35th digit


def _find_bends(paths: Sequence[Path]) -> list[Fraction]:
    """Return the shares of the way at which the notional of a position crosses a bound of its tiers."""
    bends = []
    for path in paths:
        way = Fraction(path.extreme) - Fraction(path.start)
        if not way or path.terms.tiers_in_coins:
            continue
        for bound, _ in path.terms.tiers:
            if bound is not None:
                share = (Fraction(bound) / abs(Fraction(path.quantity)) - Fraction(path.start)) / way
                if 0 < share < 1:
                    bends.append(share)
    return bends


def _compute_room(margin: Fraction, paths: Sequence[Path], share: Fraction) -> Fraction:
    """Return equity - maintenance at a share of the way."""
    room = margin
    for path in paths:
        price = Fraction(path.start) + share * (Fraction(path.extreme) - Fraction(path.start))
        room += Fraction(path.quantity) * price - _compute_exact_maintenance(path, price)
    return room


def _compute_exact_maintenance(path: Path, price: Fraction) -> Fraction:
    quantity = abs(Fraction(path.quantity))
    size = quantity if path.terms.tiers_in_coins else quantity * price
    total, lower = Fraction(0), Fraction(0)
    for bound, rate in path.terms.tiers:
        upper = size if bound is None else min(size, Fraction(bound))
        total += (upper - lower) * Fraction(rate)
        lower = upper
    total += (size - lower) * Fraction(path.terms.tiers[-1].rate)
    return total * price if path.terms.tiers_in_coins else total
