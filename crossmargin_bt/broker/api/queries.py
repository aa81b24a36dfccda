# SPDX-License-Identifier: GPL-3.0-or-later
"""What backtrader and a trader read off the broker: value, cash, positions, margin, the journal.

In cash mode the figures are the stock broker's.
"""

import math
from collections.abc import Mapping
from typing import Any

import backtrader as bt

from crossmargin_bt.broker.api.commission import ContractCommission, FillCommission
from crossmargin_bt.broker.api.settings import finite_of, one_of
from crossmargin_bt.broker.orders.order_manager import OrderManager
from crossmargin_bt.broker.session.session import LEVEL_NOTED, BrokerSession
from crossmargin_bt.broker.skip.lazy_snapshot import ClosingFigures
from crossmargin_bt.engine.explain.account_view import CurrencyView, LoanView, currency_view, loan_view
from crossmargin_bt.engine.explain.explanations import account_before, explain, is_explainable
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.book import SIDES, Book
from crossmargin_bt.engine.ledger.journal import Journal
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.estimates import Distance, Estimate, aggregate_distance, liquidation_price
from crossmargin_bt.engine.margin.modes import MODES
from crossmargin_bt.engine.margin.options import option_greeks
from crossmargin_bt.engine.math.pricing import Greeks
from crossmargin_bt.errors import ConfigurationError, suggestion


class Readings(ClosingFigures, OrderManager):
    """The broker's figures; those of the account are those of the last bar's end."""

    def init(self) -> None:
        """Forget the figures of the run before."""
        self._forget_figures()
        super().init()
        self._infos: dict[Any, ContractCommission] = {}

    @property
    def journal(self) -> Journal:
        """The journal of this run, oldest first; empty in cash mode."""
        return Journal() if self._run is None else self._run.journal

    @property
    def fills(self) -> int:
        """How often an order of a margin account was filled, in full or in part."""
        return 0 if self._run is None else self._run.fills

    @property
    def refused(self) -> int:
        """How many orders a margin account refused."""
        return 0 if self._run is None else self._run.refused

    @property
    def account(self) -> Any:
        """The engine's account, for reading; None in cash mode. Who has asked for it sees it move with every bar."""
        return None if self._run is None else self._run.hand_out()

    @property
    def equity(self) -> float:
        """What the account is worth at the end of the last bar, to the last digit; `getvalue()` never says 0."""
        figures = self.figures
        return float(self._value) if figures is None else figures.equity

    @property
    def margin_used(self) -> float:
        """Margin locked by positions and orders at the end of the last bar; in cash mode the value of all positions, unsigned."""
        run, figures = self._run, self.figures
        if run is not None and figures is not None and run.is_one_pool:
            return figures.margin_used
        if run is not None:
            return metrics.total_margin_used(run.account)
        held = ((data, position) for data, position in self.positions.items() if position.size)
        return math.fsum(abs(self.getcommissioninfo(d).getvaluesize(p.size, d.close[0])) for d, p in held)

    @property
    def margin_level(self) -> float:
        """The lowest collateral over requirement of all pools now; infinity with nothing required or in cash mode."""
        run = self._run
        if run is None:
            return math.inf
        levels = [metrics.risk(run.account, pool).margin_level for pool in metrics.pools(run.account)]
        return min(levels, default=math.inf)

    @property
    def lowest_margin_level(self) -> float:
        """The lowest margin level of the run so far, the corners of every bar's path included; infinity above 1,000,000 %."""
        run = self._run
        return math.inf if run is None or run.lowest_level >= LEVEL_NOTED else run.lowest_level

    @property
    def lowest_margin_level_ms(self) -> int | None:
        """The bar of that, by its label in milliseconds; None while there was none."""
        run = self._run
        return None if run is None or run.lowest_level >= LEVEL_NOTED else run.lowest_level_ms

    def liquidation_price(self, data: Any, side: str | None = None) -> Estimate:
        """Return the mark of a feed (or feed name) at which its position would be liquidated, as `Estimate(price, reason)`.

        In hedge mode `side` names the leg. `price` is None with a `reason` where there is none, as in cash mode.

        Raises:
            ConfigurationError: there is no such feed, or it has no such side.
        """
        run = self._run
        if run is None:
            return Estimate(None, "cash mode never liquidates")
        feed = self._feed(run, data)
        book = run.books[feed]
        return liquidation_price(run.account, book.instrument.symbol, self._side(book, side))

    def _feed(self, run: BrokerSession, data: Any) -> Any:
        """Return the feed with an instrument that is meant, by itself or by its name."""
        named = isinstance(data, str)  # a feed compares by its prices
        feed = next((feed for feed in run.books if (feed._name == data if named else feed is data)), None)
        if feed is None:
            name = data if named else getattr(data, "_name", data)
            known = [feed._name for feed in run.books]
            raise ConfigurationError(f"{name!r} is no feed with an instrument{suggestion(str(name), known)}")
        return feed

    def sides(self, data: Any) -> tuple[str, ...]:
        """Return the sides on which a feed's position may stand: ("net",), or ("long", "short") in hedge mode; none without an instrument."""
        run = self._run
        if run is None:
            return SIDES[self.p.position_mode]
        return run.books[data].sides if data in run.books else ()

    def _side(self, book: Book, side: str | None) -> str:
        sides = book.sides
        if side is None and len(sides) == 1:
            return sides[0]
        if side not in sides:
            raise ConfigurationError(
                f"hedge mode has two legs: name side='long' or side='short', got {side!r}"
                if len(sides) > 1
                else f"a one-way position has no side {side!r}; leave it out"
            )
        return str(side)

    def aggregate_distance(self, betas: Mapping[str, float] | None = None) -> Distance:
        """Return how far all marks must move together until something is liquidated, as `Distance(fall, rise)`.

        `fall` is a fraction below 0 (-0.2 for a fall of 20 %), `rise` one above; None where no move that way liquidates
        anything, as in cash mode. `betas` says by feed name how far a price moves with the market, 1 where it names none.

        Raises:
            ConfigurationError: `betas` names what is no feed with an instrument, or holds no number.
        """
        run = self._run
        if run is None:
            return Distance(None, None)
        symbols = {data._name: book.instrument.symbol for data, book in run.books.items()}
        if betas is not None and not isinstance(betas, Mapping):
            raise ConfigurationError(f"betas is a dict by feed name, got {type(betas).__name__}")
        for name in betas or {}:
            if name not in symbols:
                raise ConfigurationError(f"betas names {name!r}, which is no feed{suggestion(name, list(symbols))}")
        moves = {symbols[name]: finite_of(f"the beta of {name}", beta) for name, beta in (betas or {}).items()}
        return aggregate_distance(run.account, moves)

    def explain(self, event: events.JournalEntry) -> str:
        """Return the whole arithmetic of a refusal, a state or a liquidation of this run's journal, as text.

        Raises:
            ConfigurationError: the event is none of these, or not in the journal.
        """
        run = self._run
        equal = [n for n, one in enumerate(self.journal) if one == event]
        if run is None or not equal or not is_explainable(event):
            raise ConfigurationError(
                "explain takes an OrderRefused, RiskState, Liquidated, InsuranceFundTakeover or CollateralToppedUp of broker.journal for which "
                "prices were looked at"
            )
        instruments = {symbol: book.instrument for symbol, book in run.account.books.items()}
        at = next((n for n in equal if run.journal[n] is event), equal[0])
        before = account_before(run.journal, at, run.account.rules, instruments, **run.account.setup)
        return "\n".join(explain(before, event))

    def total_equity(self, unit: str | None = None) -> float:
        """Return what the whole account is worth now, in its currency or in another that its feeds price.

        Raises:
            FeedError: nothing prices the unit.
            ConfigurationError: its feeds have delivered no bar yet.
        """
        run = self._run
        if run is None:
            return self.equity
        equity = metrics.total_equity(run.account)
        if unit in (None, run.currency):
            return equity
        price = run.account.price(str(unit))
        if not price:
            raise ConfigurationError(f"{unit} has no price yet; its feeds have delivered no bar")
        return equity / price

    def currency(self, name: str) -> CurrencyView:
        """Return what the account holds, owes and has free in a currency now.

        Raises:
            ConfigurationError: the account has no such currency, or is in cash mode.
        """
        run = self._run
        if run is None or name not in run.account.balances:
            known = [] if run is None else list(run.account.balances)
            raise ConfigurationError(f"the account has no {name!r}{suggestion(name, known)}")
        return currency_view(run.account, name)

    def loan(self, data: Any, side: str | None = None) -> LoanView | None:
        """Return assets, liability and interest of a margin pair's position; None without one.

        Raises:
            ConfigurationError: the feed trades no margin pair.
        """
        run = self._run
        book = None if run is None else run.books[self._feed(run, data)]
        if run is None or book is None or book.instrument.kind != "margin":
            raise ConfigurationError("loan is that of a margin pair in a margin account")
        leg = book.legs.get(self._side(book, side))
        return None if leg is None else loan_view(run.account, book, leg)

    def greeks(self, data: Any) -> Greeks:
        """Return the Greeks of one unit of an option's underlying, by its volatility or the one its mark implies.

        Raises:
            ConfigurationError: the feed is no option, or there is no volatility at which it is worth its mark.
        """
        run = self._run
        book = None if run is None else run.books[self._feed(run, data)]
        if run is None or book is None or book.margin_mode != "option":
            raise ConfigurationError("greeks are those of an option in a margin account")
        found = option_greeks(book, run.time_ms)
        if found is None:
            raise ConfigurationError(
                f"no volatility makes {book.instrument.symbol} worth its mark of {book.long_mark:g}; give its feed a "
                f"volatility column"
            )
        return found

    def get_leverage(self) -> float:
        """Return the value of all positions, long and short added, over equity."""
        run = self._run
        if run is None:
            return float(super().get_leverage())
        return metrics.account_exposure(run.account) / self.equity if self.equity > 0 else 0.0

    def get_value(self, datas: Any = None, mkt: bool = False, lever: bool = False) -> float:  # noqa: FBT001, FBT002 - backtrader's signature
        """Return equity, or the signed value of the positions in `datas`; with `mkt` the value of all positions."""
        run = self._run
        if run is not None and datas is None and not mkt and not lever:
            return float(self._value)
        if run is None or not mkt:
            return float(super().get_value(datas, mkt, lever))
        return metrics.account_exposure(run.account)

    getvalue = get_value

    def getcommissioninfo(self, data: Any) -> Any:
        """Return the commission info of a feed: of its contract, or the stock broker's in cash mode."""
        run = self._run
        if run is None or data not in run.books:
            return super().getcommissioninfo(data)
        if data not in self._infos:
            book = run.books[data]
            info: Any = ContractCommission
            settle = book.instrument.settle
            several = len(run.account.balances) > 1 and settle != run.currency
            price = (lambda: run.account.price(settle)) if several else None
            leverage = 1.0 if MODES[book.margin_mode].FULLY_FUNDED else book.leverage
            self._infos[data] = info(instrument=book.instrument, leverage=leverage, commission=book.taker, price=price)
        return self._infos[data]

    def fill_commission(self, data: Any, entry: float) -> ContractCommission:
        """Return the commission info that tells a trade of a fill, its part of the leg having been held at `entry`."""
        info: ContractCommission = self.getcommissioninfo(data)
        if info.p.price is None and not info.instrument.is_curved:
            return info
        own: Any = FillCommission
        made: ContractCommission = own(
            instrument=info.instrument,
            leverage=info.p.leverage,
            commission=info.p.commission,
            entry=entry,
            at_rate=info.rate,
        )
        return made

    def getposition(self, data: Any, side: str | None = None) -> Any:
        """Return a copy of the position; in hedge mode of the leg that `side` names.

        Raises:
            ConfigurationError: the account is in hedge mode and no leg is named, or the side does not exist.
                The `close()` and `order_target_*` of a plain `bt.Strategy` end here, because they know only one position.
        """
        run = self._run
        book = None if run is None else run.books.get(data)
        if book is not None and book.hedged and side is None:
            raise ConfigurationError(
                "hedge mode has two positions: read broker.getposition(data, 'long') or 'short'; with a "
                "crossmargin_bt.HedgeStrategy close(position_side='long') and order_target_size(position_side=...) name the leg"
            )
        if side is not None and (run is None or book is not None):
            one_of("position side", side, self.sides(data))
        if run is None:
            net = super().getposition(data)
            return net if side is None else bt.Position(self.cash_leg(data, side), net.price)
        if side is None or book is None:
            return self.positions[data].clone()
        leg = book.leg(side)
        return bt.Position(book.instrument.size(leg.lots), leg.entry)

    def _get_value(self, datas: Any = None, lever: bool = False) -> float:  # noqa: FBT001, FBT002 - backtrader's signature
        if self._run is None:
            value: float = super()._get_value(datas=datas, lever=lever)
            return value
        held = ((data, self.positions[data].size) for data in datas or ())
        return float(sum(self.getcommissioninfo(data).getvaluesize(size, data.close[0]) for data, size in held if size))
