# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trader sets on the account: leverage and margin mode per instrument, margin of isolated positions."""

from typing import Any

from crossmargin_bt.broker.api.previews import Previews
from crossmargin_bt.broker.api.settings import Settings, finite_of, one_of
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.admission import order_admission, settings_changes
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.book import SIDES
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.terms.instrument import HEDGE_MODE_KINDS
from crossmargin_bt.errors import ConfigurationError, suggestion


class Controls(Previews):
    """Settings before a run and during it; a change that cannot be is a `Refusal` with its reason."""

    _settings: Settings
    _running: bool

    def _refresh(self, run: BrokerSession) -> None:
        raise NotImplementedError

    def _apply_setting(self, run: BrokerSession, data: Any) -> None:
        book = run.books[data]
        margin_mode, leverage = self._settings.of(data._name)
        Settings.check(data._name, leverage=leverage, leverage_max=book.instrument.leverage_max)
        run.record(
            events.SettingChanged(
                time_ms=run.time_ms, symbol=book.instrument.symbol, margin_mode=margin_mode, leverage=leverage
            )
        )

    def setcommission(self, *args: Any, **keywords: Any) -> None:
        """Set the stock broker's fees, in cash mode; see `bt.BrokerBase.setcommission`.

        Raises:
            ConfigurationError: a margin account takes its fees from the venue, or from the instrument.
        """
        self._refuse_commission("setcommission()")
        super().setcommission(*args, **keywords)

    def addcommissioninfo(self, comminfo: Any, name: str | None = None) -> None:
        """Set the stock broker's fees, in cash mode; see `bt.BrokerBase.addcommissioninfo`.

        Raises:
            ConfigurationError: as `setcommission`.
        """
        self._refuse_commission("addcommissioninfo()")
        super().addcommissioninfo(comminfo, name=name)

    def _refuse_commission(self, called: str) -> None:
        if self.p.mode != "cash":
            raise ConfigurationError(
                f"{called} is the stock broker's: a margin account takes fees from the venue, or from the instrument "
                "(Instrument(maker=0.0002, taker=0.0005)); leave the call out, or use mode='cash'"
            )

    def set_leverage(self, data: Any, leverage: float) -> Refusal | None:
        """Set the leverage of a feed (or feed name), before the run or during it; cash mode takes no notice.

        During a run an instrument with an isolated position keeps its leverage, and a lower one
        must fit the free margin; otherwise the reason is returned and nothing changes.

        Raises:
            ConfigurationError: the leverage is below 1 or above the instrument's maximum.
        """
        return self._change(data, leverage=leverage)

    def set_margin_mode(self, data: Any, margin_mode: str) -> Refusal | None:
        """Set "cross" or "isolated" for a feed (or feed name); an instrument in use keeps its mode.

        Returns the reason when it could not be changed.

        Raises:
            ConfigurationError: the mode is neither of the two.
        """
        return self._change(data, margin_mode=margin_mode)

    def _change(self, data: Any, *, leverage: float | None = None, margin_mode: str | None = None) -> Refusal | None:
        name = data if isinstance(data, str) else data._name
        run = self._run
        feed = (
            None if run is None or not self._running else next((feed for feed in run.books if feed._name == name), None)
        )
        if run is not None and self._running and feed is None:
            known = [known._name for known in run.books]
            raise ConfigurationError(f"{name!r} is no feed with an instrument{suggestion(name, known)}")
        if run is None or feed is None:
            self._settings.set(name, leverage=leverage, margin_mode=margin_mode)
            return None
        highest = run.books[feed].instrument.leverage_max
        Settings.check(name, leverage=leverage, margin_mode=margin_mode, leverage_max=highest)
        book = run.books[feed]
        refusal = None if margin_mode is None else settings_changes.margin_mode_refusal(run.account, book, margin_mode)
        if leverage is not None:
            refusal = settings_changes.leverage_refusal(run.account, book, leverage)
        if refusal is None:
            self._settings.set(name, leverage=leverage, margin_mode=margin_mode)
            self._infos.pop(feed, None)
            self._apply_setting(run, feed)
            self._refresh(run)
        return refusal

    def set_position_mode(self, position_mode: str) -> Refusal | None:
        """Change between "one_way" and "hedge" for the rest of the run; only while nothing is open. Returns why not.

        Raises:
            ConfigurationError: the mode is neither of the two, or the account is in cash mode.
        """
        one_of("position_mode", position_mode, tuple(SIDES))
        run = self._margin_run()
        waiting = next((o for o in (*self.submitted, *self.pending) if o.alive() and o.data in run.books), None)
        refusal = settings_changes.position_mode_refusal(run.account)
        if refusal is None and waiting is not None and run.books[waiting.data].instrument.kind in HEDGE_MODE_KINDS:
            symbol = run.books[waiting.data].instrument.symbol
            refusal = Refusal("rejected", f"{symbol} has orders; cancel them before changing the position mode")
        if refusal is None and (position_mode == "hedge") != run.account.hedged:
            run.record(events.PositionModeChanged(time_ms=run.time_ms, position_mode=position_mode))
        return refusal

    def transfer(self, currency: str, amount: float) -> Refusal | None:
        """Pay `amount` of a currency in, or out when it is negative, at once. Returns why not: more than is withdrawable.

        Raises:
            ConfigurationError: the amount is no number, nothing prices the currency, or the account is in cash mode.
        """
        run, amount = self._money(currency, amount)
        refusal = None if amount >= 0 else settings_changes.money_refusal(run.account, currency, -amount, aside=False)
        if refusal is None:
            self.count_paid_in(amount * run.account.price(currency))
            run.record(events.CashTransferred(time_ms=run.time_ms, currency=currency, amount=float(amount)))
            self._refresh(run)
        return refusal

    def set_aside(self, currency: str, amount: float, reason: str = "allocation") -> Refusal | None:
        """Count `amount` more of a currency as in use (less, when negative): a bot's allocation. Returns why not.

        Raises:
            ConfigurationError: the amount is no number or releases more than was set aside, nothing prices the
                currency, or the account is in cash mode.
        """
        run, amount = self._money(currency, amount)
        held = run.account.set_aside.get(currency, 0.0)
        if held + amount < 0:
            raise ConfigurationError(f"{-amount:g} {currency} are to be released, {held:g} are set aside")
        refusal = None if amount <= 0 else settings_changes.money_refusal(run.account, currency, amount, aside=True)
        if refusal is None:
            entry = events.SetAside(time_ms=run.time_ms, currency=currency, amount=float(amount), reason=reason)
            run.record(entry)
            self._refresh(run)
        return refusal

    def _money(self, currency: str, given: Any) -> tuple[BrokerSession, float]:
        run, amount = self._margin_run(), finite_of("the amount", given)
        if currency not in run.account.balances:
            known = suggestion(currency, run.account.balances)
            raise ConfigurationError(f"the account has no {currency!r}{known}")
        return run, amount

    def add_margin(self, data: Any, amount: float, side: str | None = None) -> Refusal | None:
        """Move `amount` from the balance to an isolated position's margin, or back when it is negative.

        Returns None when it was moved, otherwise a `Refusal` that says why not: no isolated position, more than the
        available balance, or a margin that would sink below the position's initial margin at its entry or below
        what is required.

        Raises:
            ConfigurationError: the amount is no number, there is no such feed or side, or the account is in cash mode.
        """
        run = self._run
        if run is None:
            raise ConfigurationError("cash mode has no margin to move")
        amount = finite_of("the amount", amount)
        feed = self._feed(run, data)
        book = run.books[feed]
        side = self._side(book, side)
        if book.margin_mode != "isolated" or side not in book.legs:
            return Refusal("rejected", f"feed {feed._name!r} has no isolated {side} position")
        refusal = order_admission.margin_move_refusal(run.account, book, side, amount)
        if refusal is None:
            run.record(
                events.IsolatedMarginAdjusted(
                    time_ms=run.time_ms, symbol=book.instrument.symbol, side=side, amount=float(amount)
                )
            )
            self._refresh(run)
        return refusal
