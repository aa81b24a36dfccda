# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that several commands take: which candles, what account, what to write."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from crossmargin_bt.cli.words import words
from crossmargin_bt.errors import ConfigurationError, suggestion

if TYPE_CHECKING:
    from crossmargin_bt.candles.market import Candles
    from crossmargin_bt.compare import Settings

Command = Callable[..., None]

_MARKET = (
    click.option(
        "--data",
        type=click.Path(path_type=Path),
        help="Folder of downloads, or of one CSV or Parquet file a symbol; without it the generated sample.",
    ),
    click.option("--symbols", help="Symbols of that folder, in this order, separated by commas; without it all."),
    click.option("--timeframe", help="Which of the downloaded timeframes, where there are several."),
    click.option("--start", help="First date, for example 2020-03-01 (UTC)."),
    click.option("--end", help="Date to stop before (UTC)."),
)
_ACCOUNT = (
    click.option(
        "--cash",
        type=float,
        default=10_000.0,
        show_default=True,
        help="Starting balance, in the currency the contracts settle in.",
    ),
    click.option(
        "--leverage", type=float, default=5.0, show_default=True, help="Leverage where the strategy sets none."
    ),
    click.option(
        "--path",
        default="path",
        show_default=True,
        help="What is read into a candle: path (nearer extreme first), adverse (stress), close.",
    ),
    click.option(
        "--slippage",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.0,
        show_default=True,
        help="Part of the price that market orders, stops and forced closes give away (0.001 is 0.1 %).",
    ),
)


class MarketOptions(NamedTuple):
    """Which candles."""

    data: Path | None
    symbols: str | None
    timeframe: str | None
    start: str | None
    end: str | None

    @property
    def folder(self) -> Path:
        """The folder that is meant."""
        return self.data or shipped("data")

    def read(self) -> "list[Candles]":
        """Return the candles.

        Raises:
            FeedError: see `folder.read`.
        """
        from crossmargin_bt.candles import folder

        return folder.read(
            self.folder,
            symbols=words(self.symbols) if self.symbols else None,
            timeframe=self.timeframe,
            start=self.start,
            end=self.end,
            downloads=self.data is not None,  # the sample's folder may hold downloads too
        )


class AccountOptions(NamedTuple):
    """What account."""

    cash: float
    leverage: float
    path: str
    slippage: float

    def settings(self, candles: "Sequence[Candles]") -> "Settings":
        """Return what every run on these candles has alike.

        Raises:
            ConfigurationError: the contracts settle in several currencies.
        """
        from crossmargin_bt.compare import Settings

        settles = sorted({one.instrument.settle for one in candles})
        if len(settles) > 1:
            raise ConfigurationError(
                f"the contracts settle in {', '.join(settles)}; choose those of one with --symbols"
            )
        return Settings(
            cash=self.cash, leverage=self.leverage, path=self.path, currency=settles[0], slippage=self.slippage
        )


def _bundled(name: str, kind: Any, options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Return a decorator that adds options to a command and hands their values to it as one."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def called(**values: Any) -> None:
            bundle = kind(**{key: values.pop(key) for key in kind._fields})
            command(**{name: bundle}, **values)

        decorated: Command = called
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


market_options = _bundled("market", MarketOptions, _MARKET)
account_options = _bundled("account", AccountOptions, _ACCOUNT)


def tier_files(given: Sequence[str], venue_names: Sequence[str]) -> "dict[str, Path | None]":
    """Return the file of dated tiers of every venue, None for those without.

    Raises:
        ConfigurationError: no venue is named, two are alike, or a file is for none of them.
    """
    from crossmargin_bt import venues as books

    if not venue_names:
        raise ConfigurationError("--venue names no venue; `crossmargin venues` lists them")
    files: dict[str, Path | None] = dict.fromkeys(venue_names)
    for text in given:
        venue, _, file = text.partition("=")
        if not file:
            raise ConfigurationError(f"--tiers {text} names no venue; write --tiers {venue_names[0]}={text}")
        if venue not in files:
            raise ConfigurationError(f"--tiers {text}: {venue!r} is not compared{suggestion(venue, venue_names)}")
        files[venue] = Path(file)
    names = [books.load(venue).name for venue in files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigurationError(f"two of the venues are named {twice!r}; give yours another name in its file")
    return files


def shipped(name: str) -> Path:
    """Return the project's folder of that name: beside the package, else in the working directory."""
    for base in (Path(__file__).parents[2], Path.cwd()):
        if (base / name).is_dir():
            return base / name
    raise ConfigurationError(f"there is no folder {name!r} here; run this in the project's folder, or name your own")
