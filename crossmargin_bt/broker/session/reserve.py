# SPDX-License-Identifier: GPL-3.0-or-later
"""A reserve beside the account, from which pools in danger are replenished."""

import math

import msgspec

from crossmargin_bt.errors import ConfigurationError


class Reserve(msgspec.Struct, frozen=True, kw_only=True):
    """Money that waits outside the account, in its currency, and when it comes.

    A pool whose margin level falls to `at_level` gets what brings it back to `to_level`: at most `each` at a
    time, and no more than is left of `amount`. The reserve is no part of equity; what comes counts as paid in.

    Raises:
        ConfigurationError: an amount is not above 0, or the levels are not 1 < at_level < to_level.
    """

    amount: float
    at_level: float
    to_level: float
    each: float = math.inf

    def __post_init__(self) -> None:
        if not (0 < self.amount < math.inf and self.each > 0):
            raise ConfigurationError("a reserve has an amount above 0, and each is above 0")
        if not 1 < self.at_level < self.to_level < math.inf:
            raise ConfigurationError("a reserve needs 1 < at_level < to_level (1.5 is 150 %)")
