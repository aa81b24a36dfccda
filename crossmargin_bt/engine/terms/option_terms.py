# SPDX-License-Identifier: GPL-3.0-or-later
"""What options are charged and must be covered by outside portfolio margin.

Amounts are for one unit of the underlying, in the currency the option settles in: there the underlying is worth 1 where that is
the coin itself, and its index price otherwise. A long is paid for and keeps nothing, unless a venue says otherwise.
Source: docs/sources.md#option-margins.
"""

import msgspec

from crossmargin_bt.errors import RuleError


class OptionTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A venue's answers. Rates are parts of the underlying's value S.

    A short keeps initially max(`initial` x S - OTM, `initial_min` x S) x `factor`, OTM being how far the strike is out of the
    money, and then `maintenance` x S x `factor` + `closing_fee` x S, each with the mark on top where `mark_counts`. With
    `put_by_mark` a put takes `maintenance` of the larger of S and its mark, with `maintenance_by_mark` a call does too.
    `put_cap` bounds a put's initial margin at so many S. `long_share` is what longs lock: min(mark, that part of S).
    `fee_cap` bounds a fee, which is charged on S, at that part of the premium. `order_min` is what a sell to open
    locks at least, as a part of S, after its premium. With `capped_by_payoff` the options of one expiry never keep more than they can lose.

    Raises:
        RuleError: a rate is negative.

    >>> terms = OptionTerms(initial=0.15, initial_min=0.1, maintenance=0.03)
    >>> round(terms.short_initial(1.0, 100 / 5900, 0.0575, is_call=True), 6), terms.short_maintenance(1.0, 0.0575, is_call=True)
    (0.190551, 0.0875)
    """

    underlyings: tuple[str, ...] = ()
    """The coins they are for; none for all that have none of their own."""
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
    """Whether what options are worth is part of the collateral, as where a short's margin leaves its mark out."""

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
                raise RuleError(f"{name} of option terms is not negative, got {getattr(self, name)!r}")

    def short_initial(self, underlying: float, out_of_the_money: float, mark: float, *, is_call: bool) -> float:
        """Return the initial margin of a short; `out_of_the_money` is 0 or above."""
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
        """Return what a long locks."""
        return min(mark, self.long_share * underlying)

    def trading_fee(self, underlying: float, price: float, rate: float | None = None) -> float:
        """Return the fee of trading one unit at a premium of `price`; `rate` is the contract's own, where it has one.

        >>> OptionTerms(initial=0.15, initial_min=0.1, maintenance=0.03, fee=0.0003).trading_fee(42_000.0, 3_500.0)
        12.6
        """
        return min((self.fee if rate is None else rate) * underlying, self.fee_cap * price)

    def buy_to_open(self, price: float, fee: float) -> float:
        """Return what a buy that opens takes: its premium and fee."""
        return price + fee

    def sell_to_open(self, underlying: float, initial: float, price: float, fee: float) -> float:
        """Return what a sell that opens locks: the margin of the short, less the premium it brings."""
        return max(initial - price + fee, self.order_min * underlying)

    def sell_to_close(self, price: float, fee: float) -> float:
        """Return what a sell that closes locks: a fee above its premium."""
        return max(fee - price, 0.0)

    def buy_to_close(self, price: float, initial: float, fee: float) -> float:
        """Return what a buy that closes locks: the price beyond the margin it frees."""
        return max(price - initial + fee, 0.0)


def terms_for(underlying: str, terms: tuple[OptionTerms, ...]) -> OptionTerms:
    """Return the terms of options on a coin."""
    own = next((one for one in terms if underlying in one.underlyings), None)
    return own or next((one for one in terms if not one.underlyings), DEFAULT_TERMS)


DEFAULT_TERMS = OptionTerms(initial=0.15, initial_min=0.10, maintenance=0.075)
"""What holds at a venue without terms of its own."""
