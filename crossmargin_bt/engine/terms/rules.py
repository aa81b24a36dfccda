# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue's rule book as the engine reads it: every answer is data, none of it is code."""

from datetime import UTC, date, datetime
from functools import cached_property
from typing import Literal

import msgspec

from crossmargin_bt.engine.terms.borrowing import Borrowing
from crossmargin_bt.engine.terms.collateral import CollateralTerms
from crossmargin_bt.engine.terms.liquidation_steps import LiquidationStep
from crossmargin_bt.engine.terms.option_terms import OptionTerms
from crossmargin_bt.engine.terms.portfolio_terms import PortfolioTerms
from crossmargin_bt.engine.terms.rates import MaintenanceRule
from crossmargin_bt.engine.terms.volatility import VolatilityScaling
from crossmargin_bt.errors import RuleError

FeePrice = Literal["none", "mark", "entry", "bankruptcy"]
"""At which price a closing fee is counted, if it is: the bankruptcy price is where the initial margin is used up."""


class ContractTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a venue asks for particular contracts, from a date on; the terms without a date hold before all others."""

    symbols: tuple[str, ...]
    maintenance: MaintenanceRule
    source: str
    isolated: MaintenanceRule | None = None
    """The rule in isolated mode, where it is another."""
    since: date | None = None

    def __post_init__(self) -> None:
        if not self.symbols:
            raise RuleError("terms of contracts name at least one symbol")

    @property
    def rates(self) -> dict[str, MaintenanceRule]:
        """The maintenance rule by margin mode."""
        return {"cross": self.maintenance, "isolated": self.isolated or self.maintenance}

    @property
    def since_ms(self) -> int:
        """The start of that day in milliseconds since 1970-01-01 UTC, 0 without a date."""
        if self.since is None:
            return 0
        return int(datetime(self.since.year, self.since.month, self.since.day, tzinfo=UTC).timestamp() * 1000)


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
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
    """The rule of contracts that neither bring their own nor are among `contracts`."""
    tier_leverage_breach: Literal["raise", "refuse"]
    """What follows when a position would stand in a tier that allows less leverage than is set: a higher initial
    rate, or a refused order."""
    initial_price: Literal["mark", "entry", "last"]
    """The price at which a cross position's initial margin is counted."""
    order_offset: Literal["sum", "net", "net_value", "larger_side"]
    """How resting orders and the position combine into order margin in cross mode: added up; the largest position
    that fills can leave, at the mark, or with orders at their own prices; or the larger of |position + same side| and
    the opposite orders that open."""
    order_fees_reserved: bool
    """Whether the opening fees of resting orders are in use."""
    order_loss_reserved: bool
    """Whether what an order would lose at once, filled at its price and marked, is in use."""
    sell_order_markup: float | None = None
    """Sell orders are valued at the highest of their price, the mark and the last price plus this fraction; without
    one at their price."""
    closing_fee_reserved: FeePrice
    """Whether the fee of closing is part of the initial margin, and at which price it is counted."""
    hedge_margin: Literal["sum", "larger"]
    """How the long and the short leg of one contract combine into initial margin in cross mode."""
    hedge_maintenance: Literal["sum", "larger"]
    """How they combine into maintenance."""
    tier_exposure: Literal["each", "added", "larger", "net"]
    """Which exposure picks the tier of a leg in cross mode: its own, both legs added, the larger, or the net of them."""
    orders_in_tier: bool
    """Whether resting orders count for the tier that maintenance is taken from."""
    orders_in_maintenance: Literal["none", "sum", "opening", "net", "gross"]
    """Which resting orders the venue counts in maintenance: none, all, all but what closes, or the worst net or
    gross quantity."""
    maintenance_price: Literal["mark", "entry"]
    """The price at which a cross position's maintenance margin is counted."""
    closing_fee_in_maintenance: FeePrice
    """Whether the fee of closing is part of a shared pool's requirement, and at which price it is counted."""
    order_fees_in_ratio: bool
    """Whether the opening fees of resting orders lower the collateral in the risk ratio."""
    order_loss_in_ratio: bool
    """Whether what orders would lose at once, filled and marked, lowers it."""
    isolated_orders_in_ratio: bool
    """Whether what isolated orders lock lowers the collateral of the shared pool in its ratio."""
    isolated_maintenance_price: Literal["mark", "entry"]
    """The price at which an isolated position's maintenance margin is counted."""
    isolated_closing_fee: FeePrice
    """Whether the fee of closing is part of an isolated position's requirement, and at which price it is counted."""
    isolated_fee_in_margin: FeePrice
    """Whether the fee of closing is taken from the balance with an isolated position's margin and stands behind it."""
    profit_pays_for: tuple[Literal["cross_orders", "isolated_orders", "withdrawals"], ...]
    """What the floating profit of cross positions may be used for; floating losses always count."""
    order_size_share: float
    """The part of what fits that the venue lets a trader order at most (1 for all of it)."""
    order_size_fees: int
    """How many taker fees of the whole position the venue leaves room for in a maximum order size."""
    displayed_liquidation_price: Literal["account", "by_value", "one_underlying"]
    """The liquidation price the venue shows in cross mode: where the account gives out; where a share of the collateral
    in proportion to the position's value does; or the account's, and none while other underlyings are held."""
    ratio: Literal["requirement_over_collateral", "collateral_over_requirement"]
    """Which way up the venue prints its risk ratio."""
    warning_levels: tuple[float, ...]
    """The margin levels (3 is 300 %) at which the venue warns."""
    order_cancel_level: float | None = None
    """The margin level at which orders that add to the requirement are cancelled; None for only at a liquidation."""
    orders_cancelled_overdrawn: bool
    """Whether orders that add to what is in use are cancelled when more is in use than there is."""
    liquidation: tuple[LiquidationStep, ...]
    """The steps in which a pool is reduced before all of it is closed."""
    safe_level: float
    """The margin level above which a reduction ends."""
    volatility_scaling: VolatilityScaling | None = None
    """How initial and maintenance rates follow realised volatility; None where they do not."""
    collateral: tuple[CollateralTerms, ...] = ()
    """What currencies count for in a pool of many; without any the venue has no such pool."""
    borrowing: Borrowing | None = None
    """What debts cost and must be covered by; None where nothing can be borrowed."""
    options: tuple[OptionTerms, ...] = ()
    """What options are charged and keep outside portfolio margin; without any, what is usual."""
    portfolio: PortfolioTerms | None = None
    """What a portfolio account keeps; None where the venue has none."""
    contracts: tuple[ContractTerms, ...] = ()
    """Contracts with terms of their own, by date."""

    @cached_property
    def orders_lower_collateral(self) -> bool:
        """Whether resting orders lower the collateral in the risk ratio."""
        return self.order_fees_in_ratio or self.order_loss_in_ratio or self.isolated_orders_in_ratio

    @cached_property
    def orders_raise_risk(self) -> bool:
        """Whether a resting order can change how far a pool is from any threshold."""
        counted = self.orders_in_maintenance != "none" or self.orders_in_tier or self.orders_cancelled_overdrawn
        return counted or self.orders_lower_collateral

    @cached_property
    def values_orders_at_market(self) -> bool:
        """Whether an order counts for more than its value at its own price: at the market's, or for what it would lose."""
        return self.order_loss_reserved or self.order_loss_in_ratio or self.sell_order_markup is not None

    def __post_init__(self) -> None:
        for name in ("maker", "taker", "liquidation_fee", "sell_order_markup"):
            if not abs(getattr(self, name) or 0.0) < 1:
                raise RuleError(f"{name} is a fraction (0.0005 is 0.05 %), got {getattr(self, name)!r}")
        if not 0 < self.order_size_share <= 1 or self.order_size_fees < 0:
            raise RuleError("order_size_share lies above 0 and not above 1, order_size_fees is not negative")
        if self.safe_level < 1 or any(level <= 1 for level in (*self.warning_levels, self.order_cancel_level or 2.0)):
            raise RuleError("safe_level is at least 1, and warning_levels and order_cancel_level are above it")
        dated = [(symbol, terms.since_ms) for terms in self.contracts for symbol in terms.symbols]
        twice = next((pair for pair in dated if dated.count(pair) > 1), None)
        if twice:
            raise RuleError(f"contracts gives {twice[0]} two terms for the same date")

    def terms(self, symbol: str) -> list[ContractTerms]:
        """Return the terms of a contract, oldest first; empty when the default holds."""
        return sorted((one for one in self.contracts if symbol in one.symbols), key=lambda one: one.since_ms)
