# SPDX-License-Identifier: GPL-3.0-or-later
"""Lengths of hours, days, years and timeframes. Crypto markets trade every day, so a year has 365 days."""

import re

from crossmargin_bt.errors import ConfigurationError

MS_PER_HOUR = 3_600_000
MS_PER_DAY = 24 * MS_PER_HOUR
DAYS_PER_YEAR = 365
MS_PER_YEAR = DAYS_PER_YEAR * MS_PER_DAY
HOURS_PER_YEAR = 24 * DAYS_PER_YEAR
UNIT_MS = {"s": 1_000, "m": 60_000, "h": MS_PER_HOUR, "d": MS_PER_DAY, "w": 7 * MS_PER_DAY}


def timeframe_ms(timeframe: str) -> int:
    """Return the length of a timeframe in milliseconds.

    Raises:
        ConfigurationError: the text is not a timeframe of fixed length.

    >>> timeframe_ms("15m")
    900000
    """
    match = re.fullmatch(r"([1-9][0-9]*)([smhdw])", timeframe)
    if match is None:
        raise ConfigurationError(f"{timeframe!r} is not a timeframe; write it as 1m, 15m, 1h, 4h, 1d or 1w")
    return int(match[1]) * UNIT_MS[match[2]]
