# SPDX-License-Identifier: GPL-3.0-or-later
"""Option margins and fees under standard (not portfolio) margin.

Amounts are per unit of the underlying, in the option's settle currency. The value S of the underlying is 1 for an option settled
in the coin itself, else the index price. A long pays its premium in full and has no margin requirement, unless a venue charges one.
Source: docs/sources.md#option-margins.
"""

import msgspec

from crossmargin_bt.errors import RuleError


class OptionTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The option margin formula of a venue. Rates are fractions of the value S of the underlying.

    Short, initial margin: max(`initial` x S - OTM, `initial_min` x S) x `factor`, with OTM the out-of-the-money amount.
    Short, maintenance margin: `maintenance` x S x `factor` + `closing_fee` x S. With `mark_counts` both add the mark.
    `put_by_mark`: in the maintenance margin of a put, S is replaced by the larger of S and the mark, and its initial margin is
    at least its maintenance margin; `maintenance_by_mark` does the former for calls and puts. `put_cap`: upper bound of a put's initial margin before the mark, as a
    multiple of S. `long_share`: a long locks min(mark, `long_share` x S). `fee` is charged on S, and capped at `fee_cap` x premium.
    `order_min`: minimum margin of a sell-to-open order after its premium, as a fraction of S. `capped_by_payoff`: the margin of
    the options of one expiry is capped at their maximum loss.

    Raises:
        RuleError: a rate is negative.

    >>> terms = OptionTerms(initial=0.15, initial_min=0.1, maintenance=0.03)
    >>> round(terms.short_initial(1.0, 100 / 5900, 0.0575, is_call=True), 6), terms.short_maintenance(1.0, 0.0575, is_call=True)
    (0.190551, 0.0875)
    """

    underlyings: tuple[str, ...] = ()
    """The coins these terms apply to; empty for the default of all other coins."""
    initial: float
    initial_min: float
    maintenance: float
    factor: float = 1.0
    mark_counts: bool = True
    put_by_mark: bool = False
    maintenance_by_mark: bool = False
    put_cap: float | None = None
    closing_fee: float = 0.0
    long_share: float = 0.0
    fee: float = 0.0003
    fee_cap: float = 0.125
    order_min: float = 0.0
    capped_by_payoff: bool = False
    value_counts: bool = False
    """Whether option value is part of the collateral: the case of venues whose short margin excludes the mark."""

    def __post_init__(self) -> None:
        for name in (
            "initial",
            "initial_min",
            "maintenance",
            "factor",
            "closing_fee",
            "long_share",
            "fee_cap",
            "order_min",
        ):
            if getattr(self, name) < 0:
                raise RuleError(f"{name} of option terms must not be negative, got {getattr(self, name)!r}")

    def short_initial(self, underlying: float, out_of_the_money: float, mark: float, *, is_call: bool) -> float:
        """Return the initial margin of a short; `out_of_the_money` is the OTM amount, 0 or above."""
        base = max(self.initial * underlying - out_of_the_money, self.initial_min * underlying) * self.factor
        if self.put_cap is not None and not is_call:
            base = min(base, self.put_cap * underlying)
        initial = base + (mark if self.mark_counts else 0.0)
        return (
            initial
            if is_call or not self.put_by_mark
            else max(initial, self.short_maintenance(underlying, mark, is_call=False))
        )

    def short_maintenance(self, underlying: float, mark: float, *, is_call: bool) -> float:
        """Return the maintenance margin of a short."""
        by_mark = self.maintenance_by_mark or (self.put_by_mark and not is_call)
        base = max(self.maintenance * underlying, self.maintenance * mark if by_mark else 0.0) * self.factor
        return base + (mark if self.mark_counts else 0.0) + self.closing_fee * underlying

    def long_initial(self, underlying: float, mark: float) -> float:
        """Return the initial margin of a long: min(mark, long_share x underlying)."""
        return min(mark, self.long_share * underlying)

    def trading_fee(self, underlying: float, price: float, rate: float | None = None) -> float:
        """Return the trading fee of one unit at a premium of `price`: min(rate x underlying, fee_cap x price).

        `rate` is the instrument's own fee rate, None for the venue's.

        >>> OptionTerms(initial=0.15, initial_min=0.1, maintenance=0.03, fee=0.0003).trading_fee(42_000.0, 3_500.0)
        12.6
        """
        return min((self.fee if rate is None else rate) * underlying, self.fee_cap * price)

    def buy_to_open(self, price: float, fee: float) -> float:
        """Return the margin of a buy order that opens: premium + fee."""
        return price + fee

    def sell_to_open(self, underlying: float, initial: float, price: float, fee: float) -> float:
        """Return the margin of a sell order that opens: initial margin - premium + fee, at least order_min x S."""
        return max(initial - price + fee, self.order_min * underlying)

    def sell_to_close(self, price: float, fee: float) -> float:
        """Return the margin of a sell order that closes: max(fee - premium, 0)."""
        return max(fee - price, 0.0)

    def buy_to_close(self, price: float, initial: float, fee: float) -> float:
        """Return the margin of a buy order that closes: max(premium - released initial margin + fee, 0)."""
        return max(price - initial + fee, 0.0)


def terms_for(underlying: str, terms: tuple[OptionTerms, ...]) -> OptionTerms:
    """Return the option terms of a coin: its own, else the venue's default, else `DEFAULT_TERMS`."""
    own = next((one for one in terms if underlying in one.underlyings), None)
    return own or next((one for one in terms if not one.underlyings), DEFAULT_TERMS)


DEFAULT_TERMS = OptionTerms(initial=0.15, initial_min=0.10, maintenance=0.075)
"""The terms at a venue that defines none."""
