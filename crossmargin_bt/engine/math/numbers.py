# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers as Python's own, whatever library they come from."""

from decimal import Decimal
from numbers import Integral, Real


def to_python_number(value: object) -> float | None:
    """Return a number as a float, or as an int where it is whole by its type; None of what is no number, as true and false.

    A number of single precision is what it prints as: NumPy's float32 of 0.7 is 0.7, not 0.699999988.

    >>> to_python_number(Decimal("0.1")), to_python_number(3), to_python_number("3")
    (0.1, 3, None)
    """
    if type(value) is float or type(value) is int:
        return value
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return None
    if isinstance(value, Integral):
        return int(value)
    try:
        return float(str(value))
    except ValueError:  # a fraction prints as two numbers
        return float(value)
