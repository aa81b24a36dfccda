# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings a trader changes during a run: leverage and margin mode per instrument, margin of isolated positions, money."""

from typing import Any

from crossmargin_bt.broker.api.commission import CommissionBook
from crossmargin_bt.broker.api.queries import feed_of, side_of
from crossmargin_bt.broker.api.settings import Settings, finite_of, one_of
from crossmargin_bt.broker.bar.reference_engine import BarEngine
from crossmargin_bt.broker.session.host import BrokerHost
from crossmargin_bt.engine.admission import order_admission, settings_changes
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.book import SIDES, Book
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.terms.instrument import HEDGE_MODE_KINDS
from crossmargin_bt.errors import ConfigurationError, suggestion


class AccountControls:
    """Changes of settings and money on a margin account; a change that cannot be made is a `Refusal` with its reason."""

    def __init__(self, host: BrokerHost, engine: BarEngine, settings: Settings, commissions: CommissionBook) -> None:
        self._host, self._engine, self._settings, self._commissions = host, engine, settings, commissions
        self._session = engine.session

    def apply_setting(self, data: Any) -> None:
        """Put the margin mode and leverage set for a feed in force."""
        session = self._session
        book = session.books[data]
        margin_mode, leverage = self._settings.of(data._name)
        Settings.check(data._name, leverage=leverage, leverage_max=book.instrument.leverage_max)
        session.record(
            events.SettingChanged(
                time_ms=session.time_ms, symbol=book.instrument.symbol, margin_mode=margin_mode, leverage=leverage
            )
        )

    def change(self, name: str, *, leverage: float | None = None, margin_mode: str | None = None) -> Refusal | None:
        """Change the leverage or margin mode of a feed during the run, or return why not."""
        session = self._session
        feed = next((feed for feed in session.books if feed._name == name), None)
        if feed is None:
            known = [known._name for known in session.books]
            raise ConfigurationError(f"{name!r} is no feed with an instrument{suggestion(name, known)}")
        book, account = session.books[feed], session.account
        highest = book.instrument.leverage_max
        Settings.check(name, leverage=leverage, margin_mode=margin_mode, leverage_max=highest)
        refusal = None if margin_mode is None else settings_changes.margin_mode_refusal(account, book, margin_mode)
        if leverage is not None:
            refusal = settings_changes.leverage_refusal(account, book, leverage)
        if refusal is None:
            moves = {} if leverage is None else settings_changes.margin_moves(book, leverage)
            self._settings.set(name, leverage=leverage, margin_mode=margin_mode)
            self._commissions.forget(feed)
            self.apply_setting(feed)
            for side, amount in moves.items():
                self._move_margin(book, side, amount)
            self._engine.refresh()
        return refusal

    def _move_margin(self, book: Book, side: str, amount: float) -> None:
        """Record a move of margin to an isolated leg, or back."""
        session, symbol = self._session, book.instrument.symbol
        session.record(
            events.IsolatedMarginAdjusted(time_ms=session.time_ms, symbol=symbol, side=side, amount=float(amount))
        )

    def set_position_mode(self, position_mode: str) -> Refusal | None:
        """Change between "one_way" and "hedge"; see `CrossMarginBroker.set_position_mode`."""
        one_of("position_mode", position_mode, tuple(SIDES))
        session, host = self._session, self._host
        waiting = next((o for o in (*host.submitted, *host.pending) if o.alive() and o.data in session.books), None)
        refusal = settings_changes.position_mode_refusal(session.account)
        if refusal is None and waiting is not None and session.books[waiting.data].instrument.kind in HEDGE_MODE_KINDS:
            symbol = session.books[waiting.data].instrument.symbol
            refusal = Refusal(
                "rejected", "orders_open", f"{symbol} has orders; cancel them before changing the position mode"
            )
        if refusal is None and (position_mode == "hedge") != session.account.hedged:
            session.record(events.PositionModeChanged(time_ms=session.time_ms, position_mode=position_mode))
        return refusal

    def transfer(self, currency: str, amount: float) -> Refusal | None:
        """Pay an amount of a currency in, or out; see `CrossMarginBroker.transfer`."""
        session, amount = self._session, self._amount_of(currency, amount)
        refusal = None
        if amount < 0:
            refusal = settings_changes.money_refusal(session.account, currency, -amount, aside=False)
        if refusal is None:
            self._host.count_paid_in(amount * session.account.price(currency))
            session.record(events.CashTransferred(time_ms=session.time_ms, currency=currency, amount=float(amount)))
            self._engine.refresh()
        return refusal

    def set_aside(self, currency: str, amount: float, reason: str) -> Refusal | None:
        """Set an amount of a currency aside, or release it; see `CrossMarginBroker.set_aside`."""
        session, amount = self._session, self._amount_of(currency, amount)
        held = session.account.set_aside.get(currency, 0.0)
        if held + amount < 0:
            raise ConfigurationError(f"{-amount:g} {currency} are to be released, {held:g} are set aside")
        refusal = None
        if amount > 0:
            refusal = settings_changes.money_refusal(session.account, currency, amount, aside=True)
        if refusal is None:
            session.record(
                events.SetAside(time_ms=session.time_ms, currency=currency, amount=float(amount), reason=reason)
            )
            self._engine.refresh()
        return refusal

    def _amount_of(self, currency: str, given: Any) -> float:
        amount = finite_of("the amount", given)
        if currency not in self._session.account.balances:
            known = suggestion(currency, self._session.account.balances)
            raise ConfigurationError(f"the account has no {currency!r}{known}")
        return amount

    def add_margin(self, data: Any, amount: float, side: str | None) -> Refusal | None:
        """Move margin to an isolated position, or back; see `CrossMarginBroker.add_margin`."""
        session, amount = self._session, finite_of("the amount", amount)
        feed = feed_of(session, data)
        book = session.books[feed]
        leg = side_of(book, side)
        if book.margin_mode != "isolated" or leg not in book.legs:
            return Refusal("rejected", "no_isolated_position", f"feed {feed._name!r} has no isolated {leg} position")
        refusal = order_admission.margin_move_refusal(session.account, book, leg, amount)
        if refusal is None:
            self._move_margin(book, leg, amount)
            self._engine.refresh()
        return refusal
