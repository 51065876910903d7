"""gemmlowp's fixed-point arithmetic on Python's integers, as far as tflite-micro's tables rest on it.

A value of `bits` integer bits is raw * 2^(bits - 31). Only the operations' exact roundings matter here; speed does not.
"""

from __future__ import annotations

_ONE = 2**31 - 1
_INT32 = (-(2**31), 2**31 - 1)
_EXP_FACTORS = {
    -2: 1672461947,
    -1: 1302514674,
    0: 790015084,
    1: 290630308,
    2: 39332535,
    3: 720401,
    4: 242,
}
"""exp(-2^power) in Q0.31."""


def saturate(value: int) -> int:
    """Clamped to 32 bits."""
    return max(_INT32[0], min(_INT32[1], value))


def product(a: int, b: int) -> int:
    """Rounding, doubling high product."""
    return _ONE if a == b == _INT32[0] else (a * b + (1 << 30)) >> 31


def round_shift(value: int, shift: int) -> int:
    """value / 2^shift, halves away from zero."""
    mask = (1 << shift) - 1
    return (value >> shift) + ((value & mask) > (mask >> 1) + (value < 0))


def rescale(value: int, mantissa: int, right_shift: int) -> int:
    """value * mantissa * 2^(-31 - right_shift), rounded twice; a left shift comes first and wraps."""
    shifted = value << max(-right_shift, 0)
    wrapped = (shifted + 2**31) % 2**32 - 2**31
    return round_shift(product(wrapped, mantissa), max(right_shift, 0))


def _half_of_one_plus(a: int) -> int:
    total = a + _ONE
    return (total + 1) // 2 if total >= 0 else -((1 - total) // 2)


def _newton(half: int) -> int:
    """About 1 / half in Q2.29: three steps from 48/17 - 32/17 * half."""
    x = 1515870810 + product(half, -1010580540)
    for _ in range(3):
        x += saturate(product(x, (1 << 29) - product(half, x)) * 4)
    return x


def one_over_one_plus(a: int) -> int:
    """1 / (1 + a) for a in [0, 1), Q0.31."""
    return saturate(_newton(_half_of_one_plus(a)) * 2)


def one_minus_over_one_plus(a: int) -> int:
    """(1 - a) / (1 + a) for a in [0, 1), Q0.31."""
    return saturate((_newton(_half_of_one_plus(a)) - (1 << 29)) * 4)


def exp_of_negative(a: int, bits: int) -> int:
    """exp(a) for a <= 0 with `bits` integer bits (at most 5), as Q0.31."""
    if a == 0:
        return _ONE
    fraction = 31 - bits
    quarter = 1 << (fraction - 2)
    rest = (a & (quarter - 1)) - quarter
    result, whole = _exp_of_quarter(saturate(rest << bits)), rest - a
    for power, factor in _EXP_FACTORS.items():
        if bits > power and whole >> (fraction + power) & 1:
            result = product(result, factor)
    return result


def _exp_of_quarter(a: int) -> int:
    """exp(a) for a in [-1/4, 0): a polynomial around -1/8."""
    at = 1895147668
    x = a + (1 << 28)
    x2 = product(x, x)
    x3, x4 = product(x2, x), product(x2, x2)
    tail = round_shift(product(round_shift(x4, 2) + x3, 715827883) + x2, 1)
    return at + product(at, x + tail)


def logistic(a: int, bits: int) -> int:
    """1 / (1 + exp(-a)), Q0.31."""
    if a == 0:
        return 1 << 30
    positive = one_over_one_plus(exp_of_negative(-abs(a), bits))
    return positive if a > 0 else _ONE - positive


def tanh(a: int, bits: int) -> int:
    """tanh(a), Q0.31."""
    if a == 0:
        return 0
    size = one_minus_over_one_plus(exp_of_negative(-abs(a), bits + 1))
    return size if a > 0 else -size
