# SPDX-License-Identifier: GPL-3.0-or-later
"""Option groups shared by several commands: market data and account."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from crossmargin_bt.cli.parsing import split_list
from crossmargin_bt.errors import ConfigurationError, suggestion
from crossmargin_bt.readers.options import TimeOptions

if TYPE_CHECKING:
    from crossmargin_bt.candles.market import Candles
    from crossmargin_bt.compare import Settings

Command = Callable[..., None]

_TIMES = (
    click.option(
        "--time-format", help="Format of times that are text, for example '%d/%m/%Y %H:%M'; default: ISO 8601."
    ),
    click.option("--allow-unusual-times", is_flag=True, help="Accept times before 2009 and after tomorrow."),
)
_MARKET = (
    click.option(
        "--data",
        type=click.Path(path_type=Path),
        help="Folder of downloads, of one CSV or Parquet file per symbol, or of another program's files; default: the generated sample.",
    ),
    click.option("--symbols", help="Symbols to load, in this order, separated by commas; default: all."),
    click.option("--timeframe", help="Timeframe to load if several were downloaded."),
    click.option("--start", help="First date, for example 2020-03-01 (UTC)."),
    click.option("--end", help="End date, exclusive (UTC)."),
    *_TIMES,
)
_ACCOUNT = (
    click.option(
        "--cash",
        type=float,
        default=10_000.0,
        show_default=True,
        help="Starting balance in the settlement currency of the contracts.",
    ),
    click.option(
        "--leverage", type=float, default=5.0, show_default=True, help="Leverage unless the strategy sets its own."
    ),
    click.option(
        "--path",
        default="path",
        show_default=True,
        help="Intrabar price path: path (nearer extreme first), adverse (worst case), close.",
    ),
    click.option(
        "--slippage",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.0,
        show_default=True,
        help="Slippage of market orders, stops and forced closes as a fraction of the price (0.001 = 0.1 %).",
    ),
)


class MarketOptions(NamedTuple):
    """The market data options."""

    data: Path | None
    symbols: str | None
    timeframe: str | None
    start: str | None
    end: str | None
    time_format: str | None
    allow_unusual_times: bool

    @property
    def folder(self) -> Path:
        """The folder of market data; default: the sample."""
        return self.data or project_folder("data")

    def read(self) -> "list[Candles]":
        """Return the candles.

        Raises:
            FeedError: see `folder.read`.
        """
        from crossmargin_bt.candles import folder

        return folder.read(
            self.folder,
            symbols=split_list(self.symbols) if self.symbols else None,
            timeframe=self.timeframe,
            start=self.start,
            end=self.end,
            downloads=self.data is not None,  # the sample's folder may contain downloads too
            times=TimeOptions(self.time_format, self.allow_unusual_times),
        )


class AccountOptions(NamedTuple):
    """The account options."""

    cash: float
    leverage: float
    path: str
    slippage: float

    def settings(self, candles: "Sequence[Candles]") -> "Settings":
        """Return the settings common to all runs on these candles.

        Raises:
            ConfigurationError: the contracts have several settlement currencies.
        """
        from crossmargin_bt.compare import Settings

        settles = sorted({one.instrument.settle for one in candles})
        if len(settles) > 1:
            raise ConfigurationError(
                f"the contracts settle in {', '.join(settles)}; choose contracts of one currency with --symbols"
            )
        return Settings(
            cash=self.cash, leverage=self.leverage, path=self.path, currency=settles[0], slippage=self.slippage
        )


def _option_group(
    name: str, kind: Any, options: Sequence[Callable[[Command], Command]]
) -> Callable[[Command], Command]:
    """Return a decorator that adds options to a command and passes their values as one object."""

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


time_options = _option_group("times", TimeOptions, _TIMES)
market_options = _option_group("market", MarketOptions, _MARKET)
account_options = _option_group("account", AccountOptions, _ACCOUNT)


def parse_tier_files(given: Sequence[str], venue_names: Sequence[str]) -> "dict[str, Path | None]":
    """Return the file of dated tier tables per venue, None without one.

    Raises:
        ConfigurationError: there is no venue, a duplicate venue, or a file for a venue that is not compared.
    """
    from crossmargin_bt import venues as books

    if not venue_names:
        raise ConfigurationError("--venue contains no venue; `crossmargin venues` lists them")
    files: dict[str, Path | None] = dict.fromkeys(venue_names)
    for text in given:
        venue, _, file = text.partition("=")
        if not file:
            raise ConfigurationError(f"--tiers {text} has no venue; write --tiers {venue_names[0]}={text}")
        if venue not in files:
            raise ConfigurationError(f"--tiers {text}: {venue!r} is not compared{suggestion(venue, venue_names)}")
        files[venue] = Path(file)
    names = [books.load(venue).name for venue in files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigurationError(f"two venues are named {twice!r}; change the name in your venue file")
    return files


def project_folder(name: str) -> Path:
    """Return a folder of the project, next to the package or else in the working directory."""
    for base in (Path(__file__).parents[2], Path.cwd()):
        if (base / name).is_dir():
            return base / name
    raise ConfigurationError(f"folder {name!r} not found; run the command in the project's folder, or give your own")
