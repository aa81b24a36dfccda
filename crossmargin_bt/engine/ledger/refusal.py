# SPDX-License-Identifier: GPL-3.0-or-later
"""A refusal as a value: an outcome with a stable code and a reason, never an exception."""

from typing import Literal

import msgspec

RefusalKind = Literal["margin", "rejected"]
"""The status a refused order ends in: backtrader's `Order.Margin` or `Order.Rejected`."""

RefusalCode = Literal[
    "insufficient_margin",
    "insufficient_balance",
    "insufficient_cash",
    "withdrawal_above_available",
    "removal_above_spare_margin",
    "above_tier_leverage",
    "above_open_size",
    "below_minimum_value",
    "not_a_number",
    "size_below_one_lot",
    "price_not_positive",
    "price_below_tick",
    "unknown_keyword",
    "side_missing",
    "side_unknown",
    "side_unavailable",
    "no_instrument",
    "contract_expired",
    "market_ended",
    "no_bar_yet",
    "no_index_price",
    "parent_refused",
    "guard",
    "margin_mode_unavailable",
    "position_open",
    "orders_open",
    "leverage_of_isolated_position",
    "no_isolated_position",
]
"""One word per cause of a refusal; `Refusal` has the table of their meanings."""


class Refusal(msgspec.Struct, frozen=True):
    """Why an order, or a change of a setting, was refused.

    `kind` is the status the order ends in: "margin" (`Order.Margin`) or "rejected" (`Order.Rejected`). `code` names the
    cause and does not change between versions; `reason` is a sentence for people and may be reworded. `needed` and
    `available` are amounts of `currency`, 0 where no amount is the cause. `guard` is the name of the guard that refused.

    =============================  ============================================================================
    code                           cause
    =============================  ============================================================================
    insufficient_margin            the margin an order or a lower leverage needs is above the free margin
    insufficient_balance           what is paid out of the available balance (coins, long options, isolated
                                   positions, allocations) is above it
    insufficient_cash              cash mode: the stock broker's cash does not cover the order
    withdrawal_above_available     more is to leave the account than may be withdrawn
    removal_above_spare_margin     more margin is to leave an isolated position than it has above its initial
                                   margin
    above_tier_leverage            the position would be in a tier of lower maximum leverage than is set
    above_open_size                the position would be above the largest the venue lets the capital open
    below_minimum_value            the order opens less than the instrument's minimum value
    not_a_number                   the size or a price is no number, or the size is not finite
    size_below_one_lot             the size is less than one lot
    price_not_positive             a price is 0, negative or not finite
    price_below_tick               a price rounds to 0 on the instrument's tick
    unknown_keyword                `buy()` or `sell()` has a keyword that the broker does not know
    side_missing                   hedge mode: the order names no `position_side`
    side_unknown                   hedge mode: `position_side` is neither "long" nor "short"
    side_unavailable               the order names a `position_side` where the position has no sides
    no_instrument                  the order's feed has no instrument
    contract_expired               the contract has expired
    market_ended                   the market has no more bars, as after a delisting
    no_bar_yet                     the feed has not delivered a bar yet
    no_index_price                 the underlying of an option has no price yet
    parent_refused                 the order of which this one is an exit was refused or has ended
    guard                          one of the account's guards refused the order
    margin_mode_unavailable        the account or the instrument has no isolated mode
    position_open                  the setting cannot change while a position is open
    orders_open                    the setting cannot change while orders are open
    leverage_of_isolated_position  the leverage of an open isolated position cannot change
    no_isolated_position           there is no isolated position to move margin to or from
    =============================  ============================================================================
    """

    kind: RefusalKind
    code: RefusalCode
    reason: str
    needed: float = 0.0
    available: float = 0.0
    currency: str = ""
    guard: str = ""

    def __str__(self) -> str:
        return self.reason
