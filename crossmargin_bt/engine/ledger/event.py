# SPDX-License-Identifier: GPL-3.0-or-later
"""What every entry of the journal has."""

import msgspec

Prices = dict[str, tuple[float, ...]]
"""By symbol, the mark of a long, the mark of a short (different only on the adverse path) and the last price; of an option
also the price of its underlying, its volatility and its interest rate."""


class Event(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag=True, kw_only=True):
    """Something that happened to the account."""

    time_ms: int
