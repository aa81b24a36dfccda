# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trader sets on the account: leverage and margin mode per instrument, margin of isolated positions."""

import math
from typing import Any

from crossmargin_bt.broker import execution
from crossmargin_bt.broker.previews import Previews
from crossmargin_bt.broker.run import Run
from crossmargin_bt.broker.settings import Settings
from crossmargin_bt.engine import admission, events
from crossmargin_bt.engine.refusal import Refusal
from crossmargin_bt.errors import ConfigurationError, suggestion


class Controls(Previews):
    """Settings before a run and during it; a change that cannot be is a `Refusal` with its reason."""

    _settings: Settings
    _running: bool

    def _refresh(self, run: Run) -> None:
        raise NotImplementedError

    def _apply_setting(self, run: Run, data: Any) -> None:
        book = run.books[data]
        margin_mode, leverage = self._settings.of(data._name)
        Settings.check(data._name, leverage=leverage, leverage_max=book.instrument.leverage_max)
        run.record(
            events.SettingChanged(
                time_ms=run.time_ms, symbol=book.instrument.symbol, margin_mode=margin_mode, leverage=leverage
            )
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
        refusal = execution.setting_refused(run, run.books[feed], leverage=leverage, margin_mode=margin_mode)
        if refusal is None:
            self._settings.set(name, leverage=leverage, margin_mode=margin_mode)
            self._infos.pop(feed, None)
            self._apply_setting(run, feed)
            self._refresh(run)
        return refusal

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
        if not isinstance(amount, int | float) or not math.isfinite(amount):
            raise ConfigurationError(f"the amount must be a number, got {amount!r}")
        feed = self._feed(run, data)
        book = run.books[feed]
        side = self._side(book, side)
        if book.margin_mode != "isolated" or side not in book.legs:
            return Refusal("rejected", f"feed {feed._name!r} has no isolated {side} position")
        refusal = admission.margin_move_refused(run.account, book, side, amount)
        if refusal is None:
            run.record(
                events.MarginMoved(time_ms=run.time_ms, symbol=book.instrument.symbol, side=side, amount=float(amount))
            )
            self._refresh(run)
        return refusal
