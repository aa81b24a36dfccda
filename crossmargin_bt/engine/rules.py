# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue's rule book as the engine reads it: every answer is data, none of it is code."""

from typing import Literal

import msgspec

from crossmargin_bt.engine.rates import MaintenanceRule
from crossmargin_bt.errors import RuleError


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What differs between venues.

    Rates are plain fractions. `liquidation_fee` is charged on the value of a forced close, on top
    of the taker fee.

    Raises:
        RuleError: a fee is not a fraction.
    """

    maker: float
    taker: float
    liquidation_fee: float
    maintenance: MaintenanceRule
    order_offset: Literal["sum", "net", "opening"]
    """How resting orders and the position combine into order margin in cross mode."""
    hedge_margin: Literal["sum", "larger"]
    """How the long and the short leg of one contract combine into initial margin in cross mode."""
    hedge_maintenance: Literal["each", "added", "larger"]
    """How they combine into maintenance: each at its own tier, added for the tier, or the larger side alone."""
    orders_in_maintenance: Literal["none", "sum", "opening", "net", "gross"]
    """Which resting orders the venue counts in maintenance: none, all, all but what closes, or the worst net or
    gross quantity."""
    isolated_maintenance: Literal["mark", "entry"]
    """The price at which an isolated position's maintenance margin is counted."""
    order_fees_reserved: bool
    """Whether the opening fees of resting orders are in use."""
    order_fees_in_ratio: bool
    """Whether the opening fees of resting orders lower the collateral in the risk ratio."""
    closing_fee_in_requirement: bool
    """Whether the taker fee of closing everything is part of the requirement."""
    ratio: Literal["requirement_over_collateral", "collateral_over_requirement"]
    """Which way up the venue prints its risk ratio."""

    def __post_init__(self) -> None:
        for name in ("maker", "taker", "liquidation_fee"):
            if not abs(getattr(self, name)) < 1:
                raise RuleError(f"{name} is a fraction (0.0005 is 0.05 %), got {getattr(self, name)!r}")
