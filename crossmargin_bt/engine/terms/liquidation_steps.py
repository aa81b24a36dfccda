# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a partial liquidation, as data: a rule book lists them in the venue's order.

Every step closes what makes the pool safe, in the quantities of the step, and stops there. If the pool is still unsafe
after all steps, its remaining positions are closed in full. Source: docs/sources.md#liquidation-steps.
"""

import msgspec

from crossmargin_bt.errors import RuleError


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="step"):
    """Base class of the liquidation steps."""


class Pairs(Step, frozen=True, tag="pairs"):
    """Close opposite legs of one contract in equal lots, highest maintenance margin first; only in hedge mode."""


class Hedges(Step, frozen=True, tag="hedges"):
    """Close delta-hedged positions in different contracts on one underlying, in equal deltas, highest maintenance margin first."""


class Reduce(Step, frozen=True, tag="reduce"):
    """Close leg by leg: first the leg whose closing leaves the largest excess of collateral; the minimum number of lots.

    Of a leg at least a value of `value_min` (settle currency) is closed, or all of it.
    """

    value_min: float = 0.0

    def __post_init__(self) -> None:
        if self.value_min < 0:
            raise RuleError("a reduce step needs a value_min of at least 0")


class Portion(Step, frozen=True, tag="portion"):
    """Close leg by leg in portions: `share` of the leg, or a value of `value_min` (settle currency) where that is more.

    The leg goes first whose closing leaves the largest excess of collateral.
    """

    share: float
    value_min: float

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and self.value_min >= 0):
            raise RuleError("a portion step needs 0 < share < 1 and value_min >= 0")


class Tiers(Step, frozen=True, tag="tiers"):
    """Reduce leg by leg by `down` tiers; a leg in a tier below `whole_below` (1 is the lowest) is closed in full."""

    down: int
    whole_below: int = 3

    def __post_init__(self) -> None:
        if self.down < 1 or self.whole_below < 1:
            raise RuleError("a tiers step needs down and whole_below of at least 1")


class Fraction(Step, frozen=True, tag="fraction"):
    """Close `share` of every position whose value exceeds `above` (settle currency), then wait `cooldown_s` seconds."""

    share: float
    above: float
    cooldown_s: float

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and self.above >= 0 and self.cooldown_s >= 0):
            raise RuleError("a fraction step needs 0 < share < 1, above >= 0 and cooldown_s >= 0")


class Above(Step, frozen=True, tag="above"):
    """Reduce a position to at most `value` (settle currency), by the minimum number of lots."""

    value: float

    def __post_init__(self) -> None:
        if not self.value > 0:
            raise RuleError("an above step needs a value above 0")


LiquidationStep = Pairs | Hedges | Reduce | Portion | Tiers | Fraction | Above
