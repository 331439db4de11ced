"""Deterministic random numbers: the same seed and words always give the same number, in any order of access.

All numbers are integers from SHAKE-128, so they do not depend on the platform or the Python version.
"""

import hashlib
import struct
from functools import lru_cache

PPM = 1_000_000


def draw_bytes(seed: int, *words: object, size: int) -> bytes:
    """Return `size` random bytes for `words`."""
    return hashlib.shake_128("\x1f".join(map(str, (seed, *words))).encode()).digest(size)


def draw_number(seed: int, *words: object) -> int:
    """Return the random 64-bit number for `words`."""
    return int.from_bytes(draw_bytes(seed, *words, size=8), "little")


def draw_words(seed: int, *words: object, count: int, code: str) -> tuple[int, ...]:
    """Return `count` random integers of the struct type `code` ("H": 16 bit, "Q": 64 bit) for `words`."""
    return struct.unpack(f"<{count}{code}", draw_bytes(seed, *words, size=count * struct.calcsize(f"<{code}")))


def draw_smooth_noise(seed: int, *words: object, position: int, period: int, amplitude: int) -> int:
    """Return noise in [-amplitude, amplitude], linear between random knots every `period`."""
    number, step = divmod(position, period)
    left = _knot(seed, words, period, number) % (2 * amplitude + 1)
    if not step:
        return left - amplitude
    right = _knot(seed, words, period, number + 1) % (2 * amplitude + 1)
    return left - amplitude + (right - left) * step // period


@lru_cache(maxsize=65_536)
def _knot(seed: int, words: tuple[object, ...], period: int, number: int) -> int:
    """Return the random number of a knot; neighbouring positions use the same knots."""
    return draw_number(seed, *words, period, number)


def build_heavy_tail(size: int, lowest: int, growth_percent: int) -> tuple[int, ...]:
    """Return `size` factors, each `growth_percent` larger than the one before: a uniform pick has a heavy tail."""
    factors = [lowest]
    while len(factors) < size:
        factors.append(factors[-1] * (100 + growth_percent) // 100 + 1)
    return tuple(factors)
