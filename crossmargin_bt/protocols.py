# SPDX-License-Identifier: GPL-3.0-or-later
"""What the run loop of `crossmargin_bt.cerebro`, the feeds, the analyzers and the broker know of each other.

Each may meet a stranger instead: our Cerebro runs any broker, our broker runs under any Cerebro, on any feed. So each asks by
these names whether the other offers more than backtrader's contract; the functions below are the only places that ask.
"""

from collections.abc import Collection, Sequence
from typing import Any, Protocol


class QuietBars(Protocol):
    """Loaded bars in which nothing can happen in the broker, so that it need not be called in each."""

    is_run_through: bool
    """Whether the loop is running through them; the broker ends it by setting False, when anything is read or changed."""

    def run_through(self) -> int:
        """Begin to run through the bars; return how many more of them there are."""
        ...


class SkippingBroker(Protocol):
    """A broker whose quiet bars a loop may run without calling it."""

    passes_bars: bool
    """Whether its own `next` is in place and it skips bars at all in this run."""
    _cash_addition: Collection[float]
    """Cash paid in or out that the next bar books; backtrader's name."""

    def unseen(self) -> QuietBars | None:
        """Return the quiet bars that follow the current one, None where there are none."""
        ...

    def count_run_through(self) -> None:
        """Count the bars that were run through since `unseen`, as far as the feeds have advanced."""
        ...


class OrderStateListener(Protocol):
    """A broker that may leave out notifications nobody handles."""

    notifies_order_states: bool
    """Whether anybody handles the states of orders beside their fills."""


class BlockFeed(Protocol):
    """A feed that was loaded in one block, whose lines advance by a shared cursor alone."""

    _is_block: bool
    """Whether it was loaded so in this run."""
    _is_delivered: bool
    """Whether its ticks are those of its last bar; False while it advances without copying them."""


class PerpetualFeed(Protocol):
    """A feed with lines for mark prices and funding rates."""

    has_mark: bool
    """Whether the lines `mark_open` to `mark_close` hold prices; the candle's own are the marks otherwise."""
    has_funding: bool
    """Whether the line `funding_rate` holds the rates due at the bars' opens."""

    has_volume: bool
    """Whether the line `volume` holds traded volumes."""

    def bar_days(self) -> Sequence[float]:
        """Return the times of all bars that it will deliver, in backtrader's day numbers."""
        ...


class CursorLine(Protocol):
    """A line that shares the index of its current bar with others, while our loop runs."""

    _cursor: Any
    """The object whose `at` is the index."""


class DeferrableAnalyzer(Protocol):
    """An analyzer that says what it needs not be called for."""

    @property
    def hears_orders(self) -> bool:
        """Whether it handles the states of orders beside their fills."""
        ...

    def read_at_the_end(self) -> bool:
        """Return whether it reads its figures at the end of the run, so that no bar needs to call it."""
        ...


def skipping_broker(broker: Any) -> SkippingBroker | None:
    """Return the broker if a loop may run its quiet bars without calling it, else None."""
    found: SkippingBroker | None = broker if getattr(broker, "passes_bars", False) else None
    return found


def order_state_listener(broker: Any) -> OrderStateListener | None:
    """Return the broker if it may leave out order states nobody handles, else None."""
    found: OrderStateListener | None = broker if hasattr(broker, "notifies_order_states") else None
    return found


def block_feed(data: Any) -> BlockFeed | None:
    """Return the feed if it was loaded in one block, else None."""
    found: BlockFeed | None = data if getattr(data, "_is_block", False) else None
    return found


def shared_cursor(line: Any) -> Any:
    """Return the cursor a line shares with others, None for a line with an index of its own."""
    return getattr(line, "_cursor", None)


def perpetual_feed(data: Any) -> PerpetualFeed | None:
    """Return the feed if it has lines for marks and funding, else None."""
    found: PerpetualFeed | None = data if hasattr(data, "has_mark") else None
    return found


def hears_orders(analyzer: Any) -> bool:
    """Return whether an analyzer that handles orders handles their states beside their fills; a stranger does."""
    return bool(getattr(analyzer, "hears_orders", True))


def reads_at_the_end(analyzer: Any) -> bool:
    """Return whether an analyzer needs no call in any bar; a stranger may need one."""
    return bool(hasattr(analyzer, "read_at_the_end") and analyzer.read_at_the_end())
