# SPDX-License-Identifier: GPL-3.0-or-later
"""`CrossMarginBroker`: backtrader's matching with an exchange's money."""

import math
from pathlib import Path
from typing import Any

from crossmargin_bt import guards
from crossmargin_bt.broker.api import instruments, settings
from crossmargin_bt.broker.api.controls import Controls
from crossmargin_bt.broker.bar import intrabar
from crossmargin_bt.broker.bar.risk_monitor import RiskMonitor
from crossmargin_bt.broker.orders.pre_trade_checks import PreTradeChecks
from crossmargin_bt.broker.session.order_queue import OrderQueue
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.broker.skip import quiet_interval
from crossmargin_bt.engine.admission import settings_changes
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import POOLINGS, Account
from crossmargin_bt.engine.ledger.book import SIDES
from crossmargin_bt.engine.ledger.valuation import DOLLARS
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.math import intrabar_path
from crossmargin_bt.errors import ConfigurationError, suggestion
from crossmargin_bt.venues import tiers


class CrossMarginBroker(Controls):
    """A broker that keeps backtrader's matching and replaces its money with a margin account.

    Params (beyond those of `bt.brokers.BackBroker`):
        cash: starting balance, in `currency`, above 0.
        venue: name of a shipped rule book, the path of a TOML file, or a `crossmargin_bt.venues.Venue`.
        mode: "cross", "isolated", "portfolio" (one pool of many currencies whose positions keep what the venue's scenarios ask),
            or "cash" (backtrader's own money, unchanged).
        leverage: for every instrument, or a dict by feed name; see also `set_leverage`.
        position_mode: "one_way", or "hedge" (a long and a short leg per instrument; orders then
            name theirs with `position_side`).
        path: what is read into a candle: "path", "adverse" or "close" (docs/concepts.md).
        currency: what the account is counted in; the starting `cash` is in it.
        pooling: "single_currency" (every settle currency is a pool of its own) or "multi_currency" (one pool of all of them,
            valued in `currency`, at what the venue counts each for).
        deposits: dict by currency of what is paid in beside `cash`.
        prices: dict by currency of prices in `currency`, for what no feed prices; a dollar coin is taken for a dollar.
        interest_rates: dict by currency of yearly interest rates (0.1 is 10 %) in place of the venue's.
        instruments: dict of `Instrument` by feed name, for feeds that carry none.
        finer: dict by feed name of frames with candles of a smaller timeframe (and their mark_ columns), which tell what
            happened inside the bars; labelled by their opens, as the bars are.
        tiers: path of a file of tier tables by date (docs/concepts.md), in force at each bar in place of
            the venue's own for the contracts it names.
        warning_levels: margin levels (3.0 is 300 %) to be warned at, beside the venue's own.
        on_liquidation: what follows when a pool was closed out: "continue", "stop" the run after that bar, or "refill"
            the balance to the starting cash.
        reserve: a `Reserve` from which pools in danger are replenished.
        insurance_fund: what the venue's fund holds for losses beyond the collateral.
        negative_balance_protection: whether such losses are made up for when the fund is empty; otherwise the debt stays.
        auto_deleveraging: whether the account's own profitable positions are closed against what the empty fund cannot
            take over: the opposite legs of the same contract, in other pools.
        liquidation_slippage: the part of the price that forced closes give away, beyond `slip_perc`.
        liquidation_impact: what they give away besides when they are as large as the bar's volume, in proportion.
        strict: in cash mode, mend what is wrong in the stock broker (docs/differences.md); the margin modes always do.
        guards: list of guards (`crossmargin_bt.guards`), your own discipline: what they refuse or do is journaled.
        check: assert the engine's invariants after every journal entry (slow).

    `getvalue()` is equity, `getcash()` the free margin, `getvalue([data])` the signed notional of
    one position. A refused order arrives in `notify_order` as Margin or Rejected with
    `order.info.reject` (a `Refusal`) saying what was needed, what was free and why.

    Raises:
        ConfigurationError: a param has a value that cannot be used.
        FeedError: (at the start of a run) no feed has an instrument, or one with an instrument has no name.
    """

    params = (
        ("venue", "generic"),
        ("mode", "cross"),
        ("leverage", 10.0),
        ("position_mode", "one_way"),
        ("path", "path"),
        ("currency", "USDT"),
        ("pooling", "single_currency"),
        ("deposits", None),
        ("prices", None),
        ("interest_rates", None),
        ("instruments", None),
        ("finer", None),
        ("tiers", None),
        ("warning_levels", ()),
        ("on_liquidation", "continue"),
        ("reserve", None),
        ("insurance_fund", math.inf),
        ("negative_balance_protection", True),
        ("auto_deleveraging", False),
        ("liquidation_slippage", 0.0),
        ("liquidation_impact", 0.0),
        ("guards", ()),
        ("strict", False),
        ("check", False),
    )

    def __init__(self, **unknown: Any) -> None:
        for name in unknown:
            raise ConfigurationError(f"unknown broker setting {name!r}{suggestion(name, self.p._getkeys())}")
        if self.p.mode in POOLINGS:
            raise ConfigurationError(f"{self.p.mode} is no mode; use mode='cross', pooling={self.p.mode!r}")
        settings.one_of("mode", self.p.mode, settings.MODES)
        settings.one_of("position_mode", self.p.position_mode, tuple(SIDES))
        settings.one_of("path", self.p.path, intrabar_path.POLICIES)
        settings.one_of("pooling", self.p.pooling, POOLINGS)
        for name in ("deposits", "prices", "interest_rates"):
            setattr(self.p, name, settings.amounts_of(name, getattr(self.p, name)))
        settings.one_of("on_liquidation", self.p.on_liquidation, ("continue", "stop", "refill"))
        self.p.cash = settings.cash_of(self.p.cash)
        settings.take_risk_control(self.p)
        self._refuse_unchecked(self.p.checksubmit)
        settings.check_instruments(self.p.instruments)
        self.venue = tiers.load_with(self.p.venue, None if self.p.tiers is None else Path(self.p.tiers))
        if self.p.mode == "portfolio" and self.venue.rules.portfolio is None:
            raise ConfigurationError(
                f"venue {self.venue.name!r} has no portfolio margin (no rules.portfolio); choose another venue or mode"
            )
        if (self.p.pooling == "multi_currency" or self.p.mode == "portfolio") and not self.venue.rules.collateral:
            raise ConfigurationError(
                f"venue {self.venue.name!r} has no pool of many currencies (no rules.collateral); use pooling='single_currency'"
            )
        if guards.checked(self.p.guards) and self.p.mode == "cash":
            raise ConfigurationError("guards look at a margin account; use them with mode='cross' or 'isolated'")
        self._settings = settings.Settings(self.p.mode, self.p.leverage)
        super().__init__()

    def init(self) -> None:
        """Reset to the start of a run."""
        super().init()
        self._run: BrokerSession | None = None
        self._running = False
        self._unvalued: dict[str, float] = {}
        """Coins paid in at the start whose feeds have no price yet."""
        if self.p.mode != "cash":
            account = Account(
                self.venue.rules,
                position_mode=self.p.position_mode,
                insurance_fund=self.p.insurance_fund,
                protected=self.p.negative_balance_protection,
                pooling=self.p.pooling,
                unit=self.p.currency,
                prices=self.fixed_prices,
                portfolio=self.p.mode == "portfolio",
            )
            account.interest_rates.update(self.p.interest_rates or {})
            self._run = BrokerSession(account, currency=self.p.currency, check=self.p.check)
            self.pending = OrderQueue()

    def start(self) -> None:
        """Open a book for every feed with an instrument, and pay the cash in."""
        super().start()
        self._running = True
        if self.p.on_liquidation == "stop":
            self.cerebro._event_stop = False  # that of an optimisation's run before this one
        self._settings.begin_run()
        run = self._run
        if run is None:
            instruments.refuse_unpayable(self.cerebro.datas)
            return
        for data, instrument in instruments.instruments(self, run):
            run.list_feed(data, run.account.list_instrument(instrument))
        for data in run.books:
            self._apply_setting(run, data)
        instruments.check_names(self, run, self._settings.declared)
        run.watch = RiskMonitor(self, run)
        run.record(events.CashTransferred(time_ms=0, currency=run.currency, amount=float(self.p.cash)))
        for currency, amount in (self.p.deposits or {}).items():
            run.record(events.CashTransferred(time_ms=0, currency=currency, amount=float(amount)))
            self._unvalued[currency] = float(amount)
        run.discipline = PreTradeChecks(self, run, self.p.guards)
        for currency in run.account.balances:
            run.account.price(currency)  # an error says now what cannot be priced, not in the middle of a run
        self._refresh(run)

    def stop(self) -> None:
        """End the run; settings made during it end with it."""
        self._settle_figures()
        super().stop()
        self._running = False
        self._settings.end_run()

    def refresh(self) -> None:
        """Take in what was changed since the bar ended."""
        if self._run is not None:
            self._refresh(self._run)

    @property
    def discipline(self) -> Any:
        """What lets guards act; None in cash mode."""
        run = self._run
        if run is None:
            return None
        run.hand_out()  # it looks at the account as well
        return run.discipline

    # Cash

    def set_cash(self, cash: float) -> None:
        """Set the starting balance, or during a margin run pay in (out) the difference to the balance."""
        run = self._run
        if run is None or not self._running:
            super().set_cash(cash)
        else:
            self.add_cash(cash - run.account.balances[run.currency] - sum(self._cash_addition))

    setcash = set_cash

    def set_checksubmit(self, checksubmit: bool) -> None:  # noqa: FBT001 - backtrader's signature
        """Switch the check of orders off, in cash mode; a margin account always checks."""
        self._refuse_unchecked(checksubmit)
        super().set_checksubmit(checksubmit)

    @property
    def fixed_prices(self) -> dict[str, float]:
        """Prices of currencies that no feed need price: what was given, and dollar coins in a dollar account.

        Assumption: a dollar coin is worth a dollar where no feed prices it.
        """
        dollars = {coin: 1.0 for coin in DOLLARS if self.p.currency in DOLLARS and coin != self.p.currency}
        return {**dollars, **(self.p.prices or {})}

    def _refuse_unchecked(self, checksubmit: Any) -> None:
        if not checksubmit and self.p.mode != "cash":
            raise ConfigurationError("a margin account admits every order; checksubmit=False needs mode='cash'")

    def set_fund_history(self, fund: Any) -> None:
        """Set a fund history; only cash mode knows one."""
        if self.p.mode != "cash":
            raise ConfigurationError("a fund history fixes the account's value; use it with mode='cash'")
        super().set_fund_history(fund)

    # The bar

    @property
    def passes_bars(self) -> bool:
        """Whether bars may pass without a call of `next`: not where somebody has written another."""
        return type(self).next is CrossMarginBroker.next and "next" not in self.__dict__

    def next(self) -> None:
        """Work through one bar; see `crossmargin_bt.broker.bar.intrabar`. Most bars of most runs are calm, and pass."""
        left_alone = self._left_alone
        if left_alone is not None and not self._cash_addition and left_alone.calm.foresaw():
            self._bars += 1
            self._waiting += 1
            return
        run = self._run
        if run is None:
            super().next()
            return
        self._bars += 1
        if run.calm is not None and not (self.submitted or self._toactivate or self._cash_addition):
            if run.calm.foresees():
                self._leave_alone(run)
                return
            if run.calm.passes():
                self._put_off_figures(run, run.calm)
                return
        run.before_change()
        self._is_new_bar = True
        if run.closed and not self._goes_on(run):
            return
        run.journal.pack()
        bars = run.new_bars()
        while self._toactivate:
            self._activate(run, self._toactivate.popleft())
        self.check_submitted()
        self._process_order_history()
        intrabar.through(self, run, bars)
        run.scale_rates(bars)
        if self._becomes_calm(run):
            return
        self._refresh(run)
        run.discipline.end_bar(bars)
        if run.notices:
            self._tell(run)
        run.calm = None if self._userhist or self._unvalued else quiet_interval.found(self, run, self.figures)

    def _becomes_calm(self, run: BrokerSession) -> bool:
        """Return whether a calm begins after a bar, surely enough that the bar's own figures may wait as well."""
        is_refilled = not self._is_new_bar  # its figures have been taken, and are to be replaced
        if is_refilled or run.notices or self._userhist or self._unvalued or self._cash_addition:
            return False
        run.calm = quiet_interval.found(self, run)
        if run.calm is not None:
            run.calm.note_marks()
            self._put_off_figures(run, run.calm)
        return run.calm is not None

    def _goes_on(self, run: BrokerSession) -> bool:
        """Do what follows a close-out, once its bar has been seen by everyone; return whether the run goes on."""
        run.closed = False
        if self.p.on_liquidation == "stop":
            self.cerebro.runstop()
            return False
        if self.p.on_liquidation == "refill":
            missing = self.p.cash - self.equity
            if missing > 0:
                self.add_cash(missing)
                self._refresh(run)
        return True

    def _tell(self, run: BrokerSession) -> None:
        """Tell the strategies what the venue did: `notify_margin(event)`, and the channel of store notifications."""
        told, run.notices = run.notices, []
        for event in told:
            self.cerebro._notify_store("margin", event)
            for strategy in self.cerebro.runningstrats:
                strategy.notify_store("margin", event)
                if hasattr(strategy, "notify_margin"):
                    strategy.notify_margin(event)

    def count_paid_in(self, amount: float) -> None:
        """Count what came into the account as new shares of it, so that the fund's value does not jump."""
        self._fundshares += amount / self._fundval

    def _value_deposits(self, account: Account) -> None:
        """Count coins that were paid in at the start as paid in, once their feeds have a price."""
        for currency in list(self._unvalued):
            price = account.price(currency)
            if price:
                amount = self._unvalued.pop(currency) * price
                self.count_paid_in(amount)
                self.startingcash += amount

    def _refresh(self, run: BrokerSession) -> None:
        """Take in added cash and put the bar's closing figures where backtrader reads them."""
        run.before_change()
        account, currency = run.account, run.currency
        while self._cash_addition:
            amount = float(self._cash_addition.popleft())
            available = settings_changes.withdrawable(account, currency)
            if -amount > available:
                run.record(
                    events.WithdrawalRefused(
                        time_ms=run.time_ms, currency=currency, amount=-amount, available=available
                    )
                )
                continue
            self.count_paid_in(amount)
            run.record(events.CashTransferred(time_ms=run.time_ms, currency=currency, amount=amount))
        totals = metrics.pool_balance(account, account.pool_of(currency))
        self._value_deposits(account)
        run.watch.end_bar(totals)
        self._keep_figures(run, totals)
