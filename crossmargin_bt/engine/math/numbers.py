# SPDX-License-Identifier: GPL-3.0-or-later
"""Conversion of foreign numeric types (NumPy, Decimal, Fraction) to Python's own."""

from decimal import Decimal
from numbers import Integral, Real

# Whole numbers with this many bits or more are beyond the largest float.
FLOAT_BITS = 1024


def to_python_number(value: object) -> float | None:
    """Return a number as a float, or as an int if its type is integral; None if it is not a number, or beyond the largest float.

    Booleans are not numbers. A single-precision float is converted through its decimal representation: NumPy's
    float32 of 0.7 becomes 0.7, not 0.699999988.

    >>> to_python_number(Decimal("0.1")), to_python_number(3), to_python_number("3")
    (0.1, 3, None)
    """
    if type(value) is float:
        return value
    if type(value) is int:
        return value if value.bit_length() < FLOAT_BITS else None
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return None
    if isinstance(value, Integral):
        return to_python_number(int(value))
    try:
        return float(str(value))
    except ValueError:  # str(Fraction) is "numerator/denominator"
        return float(value)
