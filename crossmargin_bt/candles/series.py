# SPDX-License-Identifier: GPL-3.0-or-later
"""What is stored of a market: one series a kind and timeframe, a file a month."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from crossmargin_bt.candles.time_ranges import TimeRange
from crossmargin_bt.columns import PRICES
from crossmargin_bt.errors import ConfigurationError

UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
# Weeks begin on Mondays; 1970-01-05 was the first.
FIRST_MONDAY = 4 * UNIT_MS["d"]

KIND_COLUMNS = {
    "candles": (*PRICES, "volume"),
    "mark": PRICES,
    "index": PRICES,
    "funding": ("funding_rate",),
}
"""By kind, the columns beside the time."""


class SeriesRow(NamedTuple):
    """A candle or a funding settlement: its time in milliseconds since 1970 (UTC), and the values of its columns."""

    time: int
    values: tuple[float, ...]


class Series(NamedTuple):
    """The rows of one kind of one market; funding has no timeframe."""

    exchange: str
    symbol: str
    kind: str
    timeframe: str = ""

    @property
    def step_ms(self) -> int:
        """Milliseconds from one row to the next; 0 where rows come when they come."""
        return timeframe_ms(self.timeframe) if self.timeframe else 0

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns beside the time."""
        return KIND_COLUMNS[self.kind]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.kind}-{self.timeframe}" if self.timeframe else self.kind

    def folder(self, out: Path) -> Path:
        """Return where it is kept below the folder of all."""
        return out / self.exchange / self.symbol / self.name

    def is_aligned(self, time: int) -> bool:
        """Return whether a row may stand at a time."""
        return not self.step_ms or self.align_up(time) == time

    def align_up(self, time: int) -> int:
        """Return the first time at or after one at which a row may stand."""
        if not self.step_ms:
            return time
        first = FIRST_MONDAY if self.timeframe.endswith("w") else 0
        return -((first - time) // self.step_ms) * self.step_ms + first


def path_safe_symbol(symbol: str) -> str:
    """Return a unified symbol without the signs that file names may not have.

    >>> path_safe_symbol("BTC/USDT:USDT-250328")
    'BTC-USDT-USDT-250328'
    """
    return symbol.replace("/", "-").replace(":", "-")


def timeframe_ms(timeframe: str) -> int:
    """Return how long a timeframe is.

    Raises:
        ConfigurationError: it is none of fixed length.

    >>> timeframe_ms("15m")
    900000
    """
    match = re.fullmatch(r"([1-9][0-9]*)([smhdw])", timeframe)
    if match is None:
        raise ConfigurationError(f"{timeframe!r} is no timeframe; write it as 1m, 15m, 1h, 4h, 1d or 1w")
    return int(match[1]) * UNIT_MS[match[2]]


def month_of(time: int) -> str:
    """Return the month of a time, 2024-01."""
    return f"{datetime.fromtimestamp(time / 1000, tz=UTC):%Y-%m}"


def month_range(month: str) -> TimeRange:
    """Return a month's first millisecond and that of the next.

    >>> month_range("2024-01")
    (1704067200000, 1706745600000)
    """
    year, number = (int(part) for part in month.split("-"))
    after = (year + 1, 1) if number == 12 else (year, number + 1)
    first, end = (datetime(*start, 1, tzinfo=UTC) for start in ((year, number), after))
    return round(first.timestamp() * 1000), round(end.timestamp() * 1000)


def months_in(time_range: TimeRange) -> Iterator[str]:
    """Yield the months a time_range touches."""
    time = time_range[0]
    while time < time_range[1]:
        month = month_of(time)
        yield month
        time = month_range(month)[1]


def format_time(time: int) -> str:
    """Return a time for people."""
    return f"{datetime.fromtimestamp(time / 1000, tz=UTC):%Y-%m-%d %H:%M}"
