# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps in which a pool is reduced, as data: a venue's rule book lists them in its order.

Every step closes no more than it needs to make the pool safe, and ends when it is; what the steps
leave is closed whole. Source: docs/sources.md#liquidation-steps.
"""

import msgspec

from crossmargin_bt.errors import RuleError


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="step"):
    """One step of a liquidation."""


class Pairs(Step, frozen=True, tag="pairs"):
    """Opposite legs of one contract, in equal lots, the pair that keeps most margin first; needs hedge mode."""


class Hedges(Step, frozen=True, tag="hedges"):
    """Opposite positions of one underlying in different contracts, in equal base coins, the set that keeps most margin first."""


class Reduce(Step, frozen=True, tag="reduce"):
    """Leg by leg, the one first whose closing leaves the pool safest, in as few lots as needed."""


class Tiers(Step, frozen=True, tag="tiers"):
    """Leg by leg, down by `down` tiers; from the tiers below `whole_below` (1 is the lowest) closed whole."""

    down: int
    whole_below: int = 3

    def __post_init__(self) -> None:
        if self.down < 1 or self.whole_below < 1:
            raise RuleError("a step of tiers needs down and whole_below of at least 1")


class Fraction(Step, frozen=True, tag="fraction"):
    """`share` of every position worth more than `above` (settle currency), then nothing for `cooldown_s` seconds."""

    share: float
    above: float
    cooldown_s: float

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and self.above >= 0 and self.cooldown_s >= 0):
            raise RuleError("a fraction step needs a share between 0 and 1, and above and cooldown_s not negative")


class Above(Step, frozen=True, tag="above"):
    """What of a position is worth more than `value` (settle currency), in as few lots as needed."""

    value: float

    def __post_init__(self) -> None:
        if not self.value > 0:
            raise RuleError("a step above a value needs a value above 0")


LiquidationStep = Pairs | Hedges | Reduce | Tiers | Fraction | Above
