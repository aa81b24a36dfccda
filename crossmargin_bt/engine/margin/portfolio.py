# SPDX-License-Identifier: GPL-3.0-or-later
"""Portfolio margin: all contracts on one coin form a risk unit and are revalued together under the venue's scenarios.

With resting orders the margin of a unit is the maximum of three cases: no order filled, all buys filled, all sells filled.
Assumption: no venue publishes how resting orders combine. Spot orders count through their potential debt.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.book import Book
from crossmargin_bt.engine.margin import options, scenarios
from crossmargin_bt.engine.margin.scenarios import LinearPosition, OptionPosition, RiskUnit, ScenarioMargin
from crossmargin_bt.engine.math import pricing
from crossmargin_bt.engine.terms.collateral import collateral_terms


class UnitMargin(NamedTuple):
    """Initial and maintenance margin of one risk unit, resting orders included, in the account's currency."""

    underlying: str
    initial: float
    maintenance: float
    without_orders: ScenarioMargin
    """The margin of the positions alone, with its components."""


def units(account: Account, *, with_orders: bool) -> list[UnitMargin]:
    """Return the margin of every risk unit of a portfolio account."""
    found = []
    for underlying, books in books_by_underlying(account).items():
        without_orders = _unit_margin(account, underlying, books, direction=0)
        initial, maintenance = without_orders.initial, without_orders.maintenance
        if with_orders and any(book.orders for book in books):
            for direction in (1, -1):
                filled = _unit_margin(account, underlying, books, direction=direction)
                initial = max(initial, filled.initial)
                if account.rules.orders_in_maintenance != "none":
                    maintenance = max(maintenance, filled.maintenance)
        found.append(UnitMargin(underlying, initial, maintenance, without_orders))
    return found


def books_by_underlying(account: Account) -> dict[str, list[Book]]:
    """Return the derivative books with a position or orders, grouped by underlying coin.

    A coin without derivatives has an empty group if the venue's scenarios include all coins.
    """
    found: dict[str, list[Book]] = {}
    for symbol, book in account.books.items():
        if (book.legs or book.orders) and book.margin_mode != "spot":
            found.setdefault(book.instrument.base_currency or symbol, []).append(book)
    assert account.rules.portfolio is not None
    for currency, balance in account.balances.items():
        alone = account.rules.portfolio.unit_terms(currency).coins == "all" and currency not in found
        if balance and alone and collateral_terms(currency, account.rules.collateral).in_scenarios:
            found[currency] = []
    return found


def _unit_margin(account: Account, underlying: str, books: Iterable[Book], *, direction: int) -> ScenarioMargin:
    """Return the margin of a unit after its orders in `direction` have filled: 1 for buys, -1 for sells, 0 for none."""
    assert account.rules.portfolio is not None
    terms = account.rules.portfolio.unit_terms(underlying)
    linears: list[LinearPosition] = []
    options: list[OptionPosition] = []
    spot = 0.0
    for book in books:
        spot = spot or book.index or book.long_mark
        if book.margin_mode == "option":
            options.extend(_option_positions(account, book, direction))
        else:
            linears.extend(_linear_positions(account, book, direction))
    if account.valuation.knows(underlying):
        spot = account.price(underlying) or spot
    unit = RiskUnit(spot, tuple(linears), tuple(options))
    if terms.peg:
        unit = unit._replace(peg_hedges=_peg_hedges(account, books, direction))
    unit = unit._replace(coins=_counted_coins(account, underlying, unit, terms.coins))
    return scenarios.scenario_margin(terms, unit, initial_factor=_initial_factor(account, terms.initial_factor))


def _initial_factor(account: Account, factor: float) -> float:
    """Return the initial factor, raised if the account's currency trades below the peg threshold."""
    terms = account.rules.portfolio
    assert terms is not None
    if not terms.peg_factor:
        return factor
    dollars = account.valuation.fixed.get("USD")
    stable = 1 / dollars if dollars else 1.0
    return factor + max(0.0, terms.peg_threshold - stable) * terms.peg_factor


def _lots(book: Book, direction: int) -> int:
    """Return the net lots of a book after its orders in `direction` have filled; reduce-only orders do not count."""
    held = sum(leg.lots for leg in book.legs.values())
    return held + sum(
        order.lots for order in book.orders.values() if order.lots * direction > 0 and not order.reduce_only
    )


def _linear_positions(account: Account, book: Book, direction: int) -> Iterator[LinearPosition]:
    """Yield a book's position as a quantity of coins at a price in the account's currency; nothing if it is flat."""
    lots = _lots(book, direction)
    if not lots:
        return
    instrument, mark = book.instrument, book.mark_of(lots)
    coins = math.copysign(instrument.base_quantity(lots, mark), lots)
    rate = account.conversion_rate(instrument.quote_currency if not instrument.inverse else instrument.settle)
    years = pricing.years_to_expiry(instrument.expiry_ms, account.now_ms) if instrument.expiry else 0.0
    # The coins of an inverse contract are its value in coin: their price is that of the coin.
    yield LinearPosition(coins, mark * rate if not instrument.inverse else rate, years)


def _option_positions(account: Account, book: Book, direction: int) -> Iterator[OptionPosition]:
    lots = _lots(book, direction)
    instrument = book.instrument
    if not lots or not book.index:
        return
    assert instrument.strike is not None
    volatility = options.option_volatility(book, account.now_ms)
    years = pricing.years_to_expiry(instrument.expiry_ms, account.now_ms)
    rate = account.conversion_rate(instrument.quote_currency) if instrument.quote_currency in account.balances else 1.0
    yield OptionPosition(
        coins=lots * instrument.units_per_lot,
        strike=instrument.strike * rate,
        sign=1 if instrument.is_call else -1,
        forward=book.index * rate,
        years=years,
        volatility=0.0 if math.isnan(volatility) else volatility,
        discount=math.exp(-book.interest_rate * years),
        rate=book.interest_rate,
    )


# Pairs of quote currencies whose deltas are matched, in this order. Source: docs/sources.md#portfolio-margin.
PEG_PAIRS = (("USDT", "USD"), ("USDT", "USDC"), ("USDC", "USD"))


def _peg_hedges(account: Account, books: Iterable[Book], direction: int) -> tuple[float, ...]:
    """Return, per pair of quote currencies, the value of the deltas in one that offset deltas in the other."""
    deltas: dict[str, float] = {}
    for book in books:
        quote = book.instrument.quote_currency
        for one in _linear_positions(account, book, direction) if book.margin_mode != "option" else ():
            deltas[quote] = deltas.get(quote, 0.0) + one.coins * one.price
        for held in _option_positions(account, book, direction) if book.margin_mode == "option" else ():
            delta = pricing.greeks(held.forward, held.strike, held.years, held.volatility, held.sign).delta
            deltas[quote] = deltas.get(quote, 0.0) + held.coins * delta * held.forward
    matched = []
    for first, second in PEG_PAIRS:
        a, b = deltas.get(first, 0.0), deltas.get(second, 0.0)
        size = min(abs(a), abs(b)) if a * b < 0 else 0.0
        if size:
            deltas[first], deltas[second] = a - math.copysign(size, a), b - math.copysign(size, b)
        matched.append(size)
    return tuple(matched)


def _counted_coins(
    account: Account, underlying: str, unit: RiskUnit, counted: Literal["none", "offset", "all"]
) -> float:
    """Return the coin balance that counts in a unit: none, all of it, or the part that offsets the unit's delta."""
    # The unrealised profit of coin-settled contracts is part of the coin balance.
    held = account.balances.get(underlying, 0.0) + sum(
        book.unrealised() for book in account.books.values() if book.instrument.settle == underlying and book.legs
    )
    if counted == "none" or not held or not collateral_terms(underlying, account.rules.collateral).in_scenarios:
        return 0.0
    if counted == "all":
        return held
    delta = sum(one.coins for one in unit.linears)
    for one in unit.options:
        delta += one.coins * pricing.greeks(one.forward, one.strike, one.years, one.volatility, one.sign).delta
    if held * delta >= 0:
        return 0.0
    return math.copysign(min(abs(held), abs(delta)), held)
