# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue's rule book: every rule that differs between venues, as data."""

import math
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any, Literal, get_args, get_type_hints

import msgspec

from crossmargin_bt.engine.terms.borrowing import Borrowing
from crossmargin_bt.engine.terms.collateral import CollateralTerms
from crossmargin_bt.engine.terms.finite import check_finite
from crossmargin_bt.engine.terms.liquidation_steps import LiquidationStep
from crossmargin_bt.engine.terms.option_terms import OptionTerms
from crossmargin_bt.engine.terms.portfolio_terms import PortfolioTerms
from crossmargin_bt.engine.terms.rates import MaintenanceRule
from crossmargin_bt.engine.terms.volatility import VolatilityScaling
from crossmargin_bt.errors import RuleError, suggestion

FeePrice = Literal["none", "mark", "entry", "bankruptcy"]
"""The price at which a closing fee is estimated, "none" if it is not counted. At the bankruptcy price the loss equals
value / leverage, also where a tier raises the initial rate."""


class ContractTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Contract-specific maintenance rules of a venue, in force from a date; undated terms apply before all dated ones."""

    symbols: tuple[str, ...]
    maintenance: MaintenanceRule
    source: str
    isolated: MaintenanceRule | None = None
    """The rule in isolated mode, if it differs."""
    since: date | None = None

    def __post_init__(self) -> None:
        if not self.symbols:
            raise RuleError("contract terms need at least one symbol")

    @property
    def rates(self) -> dict[str, MaintenanceRule]:
        """The maintenance rule by margin mode."""
        return {"cross": self.maintenance, "isolated": self.isolated or self.maintenance}

    @cached_property
    def since_ms(self) -> int:
        """The start of the day `since` in milliseconds since 1970-01-01 UTC, 0 if undated."""
        return 0 if self.since is None else start_ms(self.since)


def start_ms(since: date) -> int:
    """Return a time, or the start of a day, in UTC as milliseconds since 1970-01-01.

    >>> start_ms(date(1970, 1, 2)), start_ms(datetime(1970, 1, 1, 0, 0, 1))
    (86400000, 1000)
    """
    at = since if isinstance(since, datetime) else datetime(since.year, since.month, since.day)  # noqa: DTZ001 - UTC below
    return int(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1000)


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The margin, fee and liquidation rules of a venue. Field names are the keys of its TOML file.

    Rates are plain fractions. `maker` and `taker` are fee rates; `liquidation_fee` is charged on the value of a
    forced close, in addition to the taker fee.

    Raises:
        RuleError: a fee is not a fraction, a level or share is out of range, or two terms of a contract share a date.
    """

    maker: float
    taker: float
    liquidation_fee: float
    maintenance: MaintenanceRule
    """The default maintenance rule, for contracts without one of their own (`Instrument.maintenance`, `contracts`)."""
    tier_leverage_breach: Literal["raise", "refuse"]
    """The consequence if a position would enter a tier whose maximum leverage is below the leverage set: "raise" raises
    the initial rate to 1 / maximum leverage, "refuse" refuses the order."""
    initial_price: Literal["mark", "entry", "last"]
    """The price at which the initial margin of a cross position is computed."""
    order_offset: Literal["sum", "net", "net_value", "larger_side"]
    """How position and resting orders combine into initial margin in cross mode. "sum": no offset. "net": margin of the
    largest position that fills can produce, at the mark; "net_value": the same with orders at their own prices.
    "larger_side": max(|position + same-side orders|, |opposite orders that open|)."""
    order_fees_reserved: bool
    """Whether the margin in use includes the opening fees of resting orders."""
    order_loss_reserved: bool
    """Whether the margin in use includes the open loss of resting orders: the loss against the mark at an immediate
    fill at the order's price."""
    sell_order_markup: float | None = None
    """Sell orders are valued at max(order price, mark, last price x (1 + markup)); at the order price if None."""
    closing_fee_reserved: FeePrice
    """The price at which the closing fee is added to the initial margin, "none" if it is not."""
    hedge_margin: Literal["sum", "larger"]
    """How the long and the short leg of one contract combine into initial margin in cross mode: the sum, or the larger."""
    hedge_maintenance: Literal["sum", "larger"]
    """How the long and the short leg of one contract combine into maintenance margin in cross mode."""
    tier_exposure: Literal["each", "added", "larger", "net"]
    """The exposure that selects the tier of a leg in cross mode: its own, the sum of both legs, the larger, or the net."""
    orders_in_tier: bool
    """Whether resting orders count in the exposure that selects the maintenance tier."""
    orders_in_maintenance: Literal["none", "sum", "opening", "net", "gross"]
    """The resting orders that count in maintenance margin: "none", "sum" (all), "opening" (all but the quantity that
    closes), "net" (max(|position + buys|, |position - sells|)) or "gross" (max(|position + same side|, |opposite side|))."""
    maintenance_price: Literal["mark", "entry"]
    """The price at which the maintenance margin of a cross position is computed."""
    closing_fee_in_maintenance: FeePrice
    """The price at which the closing fee is added to the requirement of a shared pool, "none" if it is not."""
    order_fees_in_ratio: bool
    """Whether the opening fees of resting orders reduce the collateral in the risk ratio."""
    order_loss_in_ratio: bool
    """Whether the open loss of resting orders reduces the collateral in the risk ratio."""
    isolated_orders_in_ratio: bool
    """Whether the margin of resting isolated orders reduces the collateral of the shared pool in its risk ratio."""
    isolated_maintenance_price: Literal["mark", "entry"]
    """The price at which the maintenance margin of an isolated position is computed."""
    isolated_closing_fee: FeePrice
    """The price at which the closing fee is added to the requirement of an isolated position, "none" if it is not."""
    isolated_fee_in_margin: FeePrice
    """The price at which the closing fee is moved from the balance into the margin of an isolated position, where it
    is collateral; "none" if it is not."""
    profit_pays_for: tuple[Literal["cross_orders", "isolated_orders", "withdrawals"], ...]
    """The permitted uses of the unrealised profit of cross positions; unrealised losses always count."""
    withdrawal_notional_share: float | None = None
    """The share of the notional value of cross positions that a withdrawal must leave, where that exceeds the margin in
    use; the same of an isolated position when margin is taken out of it. None for none."""
    order_size_share: float
    """The maximum order size as a fraction of the size that available margin covers (1 for all of it)."""
    order_size_fees: int
    """The number of taker fees of the whole position that a maximum order size reserves."""
    displayed_liquidation_price: Literal["account", "by_value", "one_underlying"]
    """The liquidation price the venue displays in cross mode. "account": the mark at which the account is liquidated.
    "by_value": computed with a share of the collateral in proportion to the position's value. "one_underlying": that of
    the account, or none while contracts on other underlyings are held."""
    ratio: Literal["requirement_over_collateral", "collateral_over_requirement"]
    """The definition of the venue's risk ratio."""
    warning_levels: tuple[float, ...]
    """The margin levels (3 is 300 %) at which the venue sends a warning."""
    order_cancel_level: float | None = None
    """The margin level at which orders that increase the requirement are cancelled; None for only at a liquidation."""
    orders_cancelled_overdrawn: bool
    """Whether orders that increase the margin in use are cancelled when it exceeds balance + unrealised profit."""
    liquidation: tuple[LiquidationStep, ...]
    """The steps of a partial liquidation, in order; the remainder is closed in full."""
    safe_level: float
    """The margin level above which a partial liquidation stops."""
    delisting_fee: float | None = None
    """The fee of the settlement of positions in a delisted contract, as a fraction of their value; None for the taker fee."""
    isolated_leverage: Literal["kept", "raised", "checked", "topped_up", "moves_margin"] = "kept"
    """What a change of leverage does to an open isolated position. "kept": it is refused. "raised": the leverage may only
    rise, the margin stays. "checked": it may change as far as the position's margin covers the new initial margin, and
    stays. "topped_up": what the margin lacks of the new initial margin is added from the balance; a rise frees nothing.
    "moves_margin": the difference between the old and the new initial margin moves to or from the balance."""
    volatility_scaling: VolatilityScaling | None = None
    """The scaling of initial and maintenance rates with realised volatility; None if there is none."""
    collateral: tuple[CollateralTerms, ...] = ()
    """Collateral rates (haircuts) by currency; empty if the venue has no multi-currency pool."""
    borrowing: Borrowing | None = None
    """Interest and margin of debts; None if the venue does not lend."""
    options: tuple[OptionTerms, ...] = ()
    """Option margins and fees under standard margin; `option_terms.DEFAULT_TERMS` if empty."""
    portfolio: PortfolioTerms | None = None
    """Portfolio margin; None if the venue does not offer it."""
    contracts: tuple[ContractTerms, ...] = ()
    """Contract-specific terms, by date."""

    def changed(self, values: Mapping[str, Any]) -> "Rules":
        """Return the rules with new values for some keys, given as a TOML file gives them.

        A table changes key by key, unless it is of another kind (its `rule` or `step` differs); a list is replaced whole;
        "none" ends a rule that may be absent.

        Raises:
            RuleError: a key or value violates the schema.
        """
        types = get_type_hints(Rules)
        unknown = [key for key in values if key not in types]
        if unknown:
            raise RuleError(f"{unknown[0]!r} is not a rule{suggestion(unknown[0], types)}")
        converted = {}
        for key, value in values.items():
            try:
                is_removed = value == "none" and type(None) in get_args(types[key])
                converted[key] = None if is_removed else msgspec.convert(_merged(getattr(self, key), value), types[key])
            except msgspec.ValidationError as error:
                raise RuleError(f"{key}: {error}") from error
        return Rules(**{**{key: getattr(self, key) for key in self.__struct_fields__}, **converted})

    @cached_property
    def orders_lower_collateral(self) -> bool:
        """Whether resting orders reduce the collateral in the risk ratio."""
        return self.order_fees_in_ratio or self.order_loss_in_ratio or self.isolated_orders_in_ratio

    @cached_property
    def orders_raise_risk(self) -> bool:
        """Whether a resting order can change the distance of a pool from any risk threshold."""
        counted = self.orders_in_maintenance != "none" or self.orders_in_tier or self.orders_cancelled_overdrawn
        return counted or self.orders_lower_collateral

    @cached_property
    def values_orders_at_market(self) -> bool:
        """Whether the margin of an order depends on market prices: open loss, or sells valued above their own price."""
        return self.order_loss_reserved or self.order_loss_in_ratio or self.sell_order_markup is not None

    def __post_init__(self) -> None:
        check_finite(self, without=("contracts", "maintenance"))
        for name in ("maker", "taker", "liquidation_fee", "sell_order_markup"):
            if not abs(getattr(self, name) or 0.0) < 1:
                raise RuleError(f"{name} is a fraction (0.0005 is 0.05 %), got {getattr(self, name)!r}")
        if not 0 < self.order_size_share <= 1 or self.order_size_fees < 0:
            raise RuleError("order_size_share must lie in (0, 1], and order_size_fees must not be negative")
        if not 0 <= (self.delisting_fee or 0.0) < 1:
            raise RuleError("delisting_fee is a fraction (0.0005 is 0.05 %)")
        if not 0 <= (self.withdrawal_notional_share or 0.0) < 1:
            raise RuleError("withdrawal_notional_share must lie in [0, 1)")
        cancel = () if self.order_cancel_level is None else (self.order_cancel_level,)
        if not 1 <= self.safe_level < math.inf or not all(
            1 < one < math.inf for one in (*self.warning_levels, *cancel)
        ):
            raise RuleError("safe_level must be at least 1, and warning_levels and order_cancel_level above 1")
        dated = Counter((symbol, terms.since_ms) for terms in self.contracts for symbol in terms.symbols)
        twice = next((symbol for (symbol, _), count in dated.items() if count > 1), None)
        if twice:
            raise RuleError(f"contracts gives {twice} two terms for the same date")

    def of_contracts(self, symbols: Collection[str]) -> "Rules":
        """Return the rules without the terms of other contracts."""
        kept = tuple(one for one in self.contracts if not set(one.symbols).isdisjoint(symbols))
        return self if len(kept) == len(self.contracts) else msgspec.structs.replace(self, contracts=kept)

    def terms(self, symbol: str) -> list[ContractTerms]:
        """Return the dated terms of a contract, oldest first; empty if only the default applies."""
        return sorted((one for one in self.contracts if symbol in one.symbols), key=lambda one: one.since_ms)


def _merged(before: Any, value: Any) -> Any:
    """Return a value with the keys of the table before it that it does not give."""
    if not isinstance(value, dict):
        return value
    known = msgspec.to_builtins(before) if isinstance(before, msgspec.Struct) else before
    if not isinstance(known, dict) or any(known.get(tag) != value.get(tag, known.get(tag)) for tag in ("rule", "step")):
        return value
    return {**known, **{key: _merged(known.get(key), one) for key, one in value.items()}}


class RuleChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dated change of a venue's rules: the new values of some keys, laid over the rules before it.

    Raises:
        RuleError: it has no date, source, sentence or key, or changes `contracts`, which have dates of their own.
    """

    since: Any
    """The day or time (UTC) from which it is in force: `date` or `datetime`, in TOML without quotes."""
    source: str
    says: str
    """The change in one sentence."""
    rules: dict[str, Any]
    """The new values by key of `Rules`, as a TOML file gives them."""
    positions: Literal["all", "opened_since"] = "all"
    """Whether positions that are open at the change keep the rules before it until they are closed. Rules of the account
    as a whole (thresholds, ratio, liquidation) change at once."""

    def __post_init__(self) -> None:
        if not isinstance(self.since, date):
            raise RuleError(f"since is {self.since!r}; write the date without quotes (since = 2025-09-02)")
        for name in ("source", "says"):
            if not getattr(self, name).strip():
                raise RuleError(f"the change of {self.since} has no {name}")
        if not self.rules:
            raise RuleError(f"the change of {self.since} changes no rule; give [changes.rules]")
        if "contracts" in self.rules:
            raise RuleError(
                f"the change of {self.since} names contracts; give each of [[rules.contracts]] its own since"
            )

    @property
    def since_ms(self) -> int:
        """The start of `since` in milliseconds since 1970-01-01 UTC."""
        return start_ms(self.since)
