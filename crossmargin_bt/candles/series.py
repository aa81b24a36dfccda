# SPDX-License-Identifier: GPL-3.0-or-later
"""Series of stored market data: one kind of data of one market in one timeframe, stored in one file per month."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, TypeGuard

from crossmargin_bt.candles.time_ranges import TimeRange
from crossmargin_bt.columns import PRICES
from crossmargin_bt.time_units import UNIT_MS, timeframe_ms

# Weekly candles open on Mondays; 1970-01-05 was the first one.
FIRST_MONDAY = 4 * UNIT_MS["d"]

SeriesKind = Literal["candles", "mark", "index", "funding"]

KIND_COLUMNS: dict[SeriesKind, tuple[str, ...]] = {
    "candles": (*PRICES, "volume"),
    "mark": PRICES,
    "index": PRICES,
    "funding": ("funding_rate",),
}
"""Columns of each kind of series, besides the time."""


class SeriesRow(NamedTuple):
    """One candle or funding settlement: its time in milliseconds since 1970-01-01 UTC and its column values."""

    time: int
    values: tuple[float, ...]


class Series(NamedTuple):
    """The key of a series: exchange (folder name, ccxt id), symbol, kind and timeframe; funding has no timeframe."""

    exchange: str
    symbol: str
    kind: SeriesKind
    timeframe: str = ""

    @property
    def step_ms(self) -> int:
        """Milliseconds between rows; 0 for funding, whose settlements follow no fixed grid."""
        return timeframe_ms(self.timeframe) if self.timeframe else 0

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names, besides the time."""
        return KIND_COLUMNS[self.kind]

    @property
    def name(self) -> str:
        """Folder name of the series below its symbol, for example `candles-1h` or `funding`."""
        return f"{self.kind}-{self.timeframe}" if self.timeframe else self.kind

    def folder(self, out: Path) -> Path:
        """Return the folder of the series below the download folder `out`."""
        return out / self.exchange / self.symbol / self.name

    def phase(self, time: int) -> int:
        """Return the distance of a time from the grid of the timeframe in milliseconds; weekly grids start on Mondays.

        Bars may have any phase (days that begin at 16:00 UTC), but all bars of a series have the same.
        """
        return (time - self._origin) % self.step_ms if self.step_ms else 0

    def align_up(self, time: int, phase: int = 0) -> int:
        """Return the first grid time at or after `time`, on the grid shifted by `phase`."""
        if not self.step_ms:
            return time
        first = self._origin + phase
        return -((first - time) // self.step_ms) * self.step_ms + first

    @property
    def _origin(self) -> int:
        return FIRST_MONDAY if self.timeframe.endswith("w") else 0


def is_series_kind(text: str) -> TypeGuard[SeriesKind]:
    """Return whether a text names a kind of series."""
    return text in KIND_COLUMNS


def month_of(time: int) -> str:
    """Return the UTC month of a time as text, for example 2024-01."""
    return f"{datetime.fromtimestamp(time / 1000, tz=UTC):%Y-%m}"


def month_range(month: str) -> TimeRange:
    """Return the time range of a UTC month.

    >>> month_range("2024-01")
    (1704067200000, 1706745600000)
    """
    year, number = (int(part) for part in month.split("-"))
    after = (year + 1, 1) if number == 12 else (year, number + 1)
    first, end = (datetime(*start, 1, tzinfo=UTC) for start in ((year, number), after))
    return round(first.timestamp() * 1000), round(end.timestamp() * 1000)


def months_in(time_range: TimeRange) -> Iterator[str]:
    """Yield the UTC months that a time range touches, in ascending order."""
    time = time_range[0]
    while time < time_range[1]:
        month = month_of(time)
        yield month
        time = month_range(month)[1]


def format_time(time: int) -> str:
    """Return a time as `YYYY-MM-DD HH:MM` in UTC."""
    return f"{datetime.fromtimestamp(time / 1000, tz=UTC):%Y-%m-%d %H:%M}"
