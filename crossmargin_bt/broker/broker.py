# SPDX-License-Identifier: GPL-3.0-or-later
"""`CrossMarginBroker`: backtrader's contract with a broker, answered by a margin account.

Names that begin with an underscore and are not assigned in this file belong to backtrader's `BackBroker`. In cash mode every
method hands over to the stock broker.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import backtrader as bt

from crossmargin_bt import guards
from crossmargin_bt.broker.api import instruments as listed
from crossmargin_bt.broker.api import previews, queries, settings
from crossmargin_bt.broker.api.commission import CommissionBook, ContractCommission
from crossmargin_bt.broker.api.controls import AccountControls
from crossmargin_bt.broker.api.previews import Preview, Snapshot
from crossmargin_bt.broker.bar.reference_engine import BarEngine, ReferenceEngine
from crossmargin_bt.broker.orders.cash_mode import CashModeBroker
from crossmargin_bt.broker.orders.pre_trade_checks import PreTradeChecks
from crossmargin_bt.broker.session.account_snapshot import AccountSnapshot, EquityCurve
from crossmargin_bt.broker.session.bars import is_halted
from crossmargin_bt.broker.session.host import Match
from crossmargin_bt.broker.session.reserve import Reserve
from crossmargin_bt.broker.session.session import LEVEL_RECORDED_MAX, BrokerSession
from crossmargin_bt.broker.skip.skipping_engine import SkippingEngine
from crossmargin_bt.engine.explain.account_view import CurrencyView, LoanView
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import POOLINGS, Account
from crossmargin_bt.engine.ledger.book import SIDES
from crossmargin_bt.engine.ledger.journal import Journal
from crossmargin_bt.engine.ledger.refusal import Refusal
from crossmargin_bt.engine.ledger.valuation import DOLLARS
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.liquidation_prices import Distance, Estimate
from crossmargin_bt.engine.math import intrabar_path
from crossmargin_bt.engine.math.pricing import Greeks
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import ConfigurationError, suggestion
from crossmargin_bt.venues import Venue, load_with

ENGINES = {"skipping": SkippingEngine, "reference": ReferenceEngine}


def _of_snapshot(name: str, field: str) -> property:
    """Return an attribute of the stock broker that a margin account answers from its snapshot."""
    stored = f"_stock_{name}"
    place = AccountSnapshot._fields.index(field)

    def read(self: Any) -> float:
        engine = self._engine
        snapshot = None
        if engine is not None:
            if engine.unsettled_bars:
                engine.settle()
            snapshot = engine.session.snapshot
        if snapshot is None:
            kept: float = self.__dict__[stored]
            return kept
        return float(snapshot[place])

    def write(self: Any, value: float) -> None:
        self.__dict__[stored] = value

    return property(read, write)


class CrossMarginBroker(CashModeBroker):
    """A broker that keeps backtrader's matching and replaces its money with a margin account.

    Params (beyond those of `bt.brokers.BackBroker`):
        cash: starting balance, in `currency`, above 0.
        venue: name of a shipped rule book, the path of a TOML file, or a `crossmargin_bt.Venue`.
        mode: "cross", "isolated", "portfolio" (one pool of many currencies, its positions margined by the venue's scenarios),
            or "cash" (backtrader's own money, unchanged).
        leverage: for every instrument, or a dict by feed name; see also `set_leverage`.
        position_mode: "one_way", or "hedge" (a long and a short leg per instrument; orders then
            name theirs with `position_side`).
        path: how the prices inside a candle are ordered: "path", "adverse" or "close" (docs/concepts.md).
        currency: the currency the account is counted in and the starting `cash` is paid in.
        pooling: "single_currency" (every settle currency is a pool of its own) or "multi_currency" (one pool of all of them,
            valued in `currency`, after the venue's haircuts).
        deposits: dict by currency of amounts paid in beside `cash`.
        prices: dict by currency of prices in `currency`, for currencies that no feed prices; a dollar coin counts as a dollar.
        interest_rates: dict by currency of yearly interest rates (0.1 is 10 %) in place of the venue's.
        instruments: dict of `Instrument` by feed name, for feeds that carry none.
        finer: dict by feed name of frames with candles of a smaller timeframe (and their mark_ columns), which decide the
            path inside the bars; labelled by their opens, as the bars are.
        tiers: path of a file of tier tables by date (docs/concepts.md), in force at each bar in place of
            the venue's own for the contracts it names.
        warning_levels: margin levels (3.0 is 300 %) to be warned at, beside the venue's own.
        on_liquidation: after a pool was closed out, "continue", "stop" the run after that bar, or "refill"
            the balance to the starting cash.
        fill_in_halts: whether orders fill in bars without volume of a market whose volume is known; otherwise they wait.
        reserve: a `Reserve` from which pools in danger are replenished.
        insurance_fund: the amount in the venue's fund for losses beyond the collateral.
        negative_balance_protection: whether such losses are covered when the fund is empty; otherwise the debt remains.
        auto_deleveraging: whether the account's own profitable positions are closed against losses the empty fund cannot
            take over: the opposite legs of the same contract, in other pools.
        liquidation_slippage: the part of the price that forced closes give away, beyond `slip_perc`.
        liquidation_impact: the further part they give away when they are as large as the bar's volume, in proportion.
        strict: in cash mode, mend the defects of the stock broker (docs/differences.md); the margin modes always do.
        guards: list of guards (`crossmargin_bt.guards`), limits of your own; their refusals and actions are journaled.
        engine: "skipping", or "reference": the same results from the bar engine without any shortcut, many times slower.
        check: assert the engine's invariants after every journal entry (slow).

    `getvalue()` is equity, `getcash()` the free margin, `getvalue([data])` the signed notional of
    one position. A refused order arrives in `notify_order` as Margin or Rejected with
    `order.info.reject` (a `Refusal`): the margin needed, the margin available, and the reason.

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
        ("fill_in_halts", True),
        ("reserve", None),
        ("insurance_fund", math.inf),
        ("negative_balance_protection", True),
        ("auto_deleveraging", False),
        ("liquidation_slippage", 0.0),
        ("liquidation_impact", 0.0),
        ("guards", ()),
        ("strict", False),
        ("engine", "skipping"),
        ("check", False),
    )

    _engine: BarEngine | None = None
    """The margin account's bar engine; None in cash mode."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            cash: float = 10_000.0,
            venue: str | Path | Venue = "generic",
            mode: Literal["cross", "isolated", "portfolio", "cash"] = "cross",
            leverage: float | Mapping[str, float] = 10.0,
            position_mode: Literal["one_way", "hedge"] = "one_way",
            path: Literal["path", "adverse", "close"] = "path",
            currency: str = "USDT",
            pooling: Literal["single_currency", "multi_currency"] = "single_currency",
            deposits: Mapping[str, float] | None = None,
            prices: Mapping[str, float] | None = None,
            interest_rates: Mapping[str, float] | None = None,
            instruments: Mapping[str, Instrument] | None = None,
            finer: Mapping[str, Any] | None = None,
            tiers: str | Path | None = None,
            warning_levels: Sequence[float] = (),
            on_liquidation: Literal["continue", "stop", "refill"] = "continue",
            fill_in_halts: bool = True,
            reserve: Reserve | None = None,
            insurance_fund: float = math.inf,
            negative_balance_protection: bool = True,
            auto_deleveraging: bool = False,
            liquidation_slippage: float = 0.0,
            liquidation_impact: float = 0.0,
            guards: Sequence[guards.Guard] = (),
            strict: bool = False,
            engine: Literal["skipping", "reference"] = "skipping",
            check: bool = False,
            checksubmit: bool = True,
            filler: Any = None,
            slip_perc: float = 0.0,
            slip_fixed: float = 0.0,
            slip_open: bool = False,
            slip_match: bool = True,
            slip_limit: bool = True,
            slip_out: bool = False,
            coc: bool = False,
            coo: bool = False,
            eosbar: bool = False,
            int2pnl: bool = True,
            shortcash: bool = True,
            fundstartval: float = 100.0,
            fundmode: bool = False,
            commission: Any = None,
        ) -> None: ...

    else:

        def __init__(self, **unknown: Any) -> None:
            for name in unknown:
                raise ConfigurationError(f"unknown broker setting {name!r}{suggestion(name, self.p._getkeys())}")
            self._take_settings()
            self._settings = settings.Settings(self.p.mode, self.p.leverage)
            super().__init__()

    def _take_settings(self) -> None:
        """Check the params and convert them to Python's own numbers."""
        p = self.p
        if p.mode in POOLINGS:
            raise ConfigurationError(f"{p.mode} is no mode; use mode='cross', pooling={p.mode!r}")
        settings.one_of("mode", p.mode, settings.MODES)
        settings.one_of("position_mode", p.position_mode, tuple(SIDES))
        settings.one_of("path", p.path, intrabar_path.POLICIES)
        settings.one_of("pooling", p.pooling, POOLINGS)
        settings.one_of("engine", p.engine, tuple(ENGINES))
        for name in ("deposits", "prices", "interest_rates"):
            setattr(p, name, settings.amounts_of(name, getattr(p, name)))
        for name in ("slip_perc", "slip_fixed"):
            settings.not_negative(name, getattr(p, name))
        settings.one_of("on_liquidation", p.on_liquidation, ("continue", "stop", "refill"))
        p.cash = settings.cash_of(p.cash)
        settings.take_risk_control(p)
        self._refuse_unchecked(p.checksubmit)
        settings.check_instruments(p.instruments)
        self.venue = load_with(p.venue, None if p.tiers is None else Path(p.tiers))
        if p.mode == "portfolio" and self.venue.rules.portfolio is None:
            raise ConfigurationError(
                f"venue {self.venue.name!r} has no portfolio margin (no rules.portfolio); choose another venue or mode"
            )
        if (p.pooling == "multi_currency" or p.mode == "portfolio") and not self.venue.rules.collateral:
            raise ConfigurationError(
                f"venue {self.venue.name!r} has no pool of many currencies (no rules.collateral); use pooling='single_currency'"
            )
        if guards.checked(p.guards) and p.mode == "cash":
            raise ConfigurationError("guards look at a margin account; use them with mode='cross' or 'isolated'")

    # The run

    def init(self) -> None:
        """Reset to the start of a run."""
        self._engine = None
        super().init()
        self._is_running = False
        self.notifies_order_states = True
        """Whether a listener wants to hear of an order's states beside its fills."""
        self._captured: Match | None = None
        if self.p.mode != "cash":
            account = Account(
                self.venue.rules,
                position_mode=self.p.position_mode,
                insurance_fund=self.p.insurance_fund,
                protected=self.p.negative_balance_protection,
                pooling=self.p.pooling,
                unit=self.p.currency,
                prices=self.fixed_prices,
                interest_rates=self.p.interest_rates,
                portfolio=self.p.mode == "portfolio",
            )
            session = BrokerSession(
                account, currency=self.p.currency, check=self.p.check, rule_changes=self.venue.changes
            )
            self._engine = ENGINES[self.p.engine](self, session)
            self._commissions = CommissionBook(session)
            self._controls = AccountControls(self, self._engine, self._settings, self._commissions)

    def start(self) -> None:
        """Open a book for every feed with an instrument, and pay the cash in."""
        super().start()
        self._is_running = True
        if self.p.on_liquidation == "stop":
            self.cerebro._event_stop = False  # that of an optimisation's run before this one
        self._settings.begin_run()
        engine = self._engine
        if engine is None:
            listed.refuse_unpayable(self.cerebro.datas)
            return
        session = engine.session
        for data, instrument in listed.instruments(self, session):
            session.list_feed(data, session.account.list_instrument(instrument))
        for data in session.books:
            self._controls.apply_setting(data)
        listed.check_names(self, session, self._settings.declared)
        session.record(events.CashTransferred(time_ms=0, currency=session.currency, amount=float(self.p.cash)))
        for currency, amount in (self.p.deposits or {}).items():
            session.record(events.CashTransferred(time_ms=0, currency=currency, amount=float(amount)))
        engine.start({currency: float(amount) for currency, amount in (self.p.deposits or {}).items()})
        for currency in session.account.balances:
            session.account.price(
                currency
            )  # an error now tells of a currency without a price, not in the middle of a run
        engine.refresh()

    def next(self) -> None:
        """Process one bar; see `crossmargin_bt.broker.bar.reference_engine`."""
        engine = self._engine
        if engine is None:
            super().next()
        else:
            engine.process()

    def stop(self) -> None:
        """End the run; settings made during it end with it."""
        if self._engine is not None:
            self._engine.settle()
        super().stop()
        self._is_running = False
        self._settings.end_run()

    @property
    def bar_engine(self) -> BarEngine:
        """The margin account's bar engine, caught up to the last bar.

        Raises:
            ConfigurationError: the account is in cash mode.
        """
        self._margin_session()
        assert self._engine is not None
        return self._engine

    def _live(self) -> BrokerSession | None:
        """Return the session, caught up to the last bar; None in cash mode."""
        engine = self._engine
        if engine is None:
            return None
        if engine.is_behind:
            engine.sync()
        return engine.session

    def _margin_session(self) -> BrokerSession:
        session = self._live()
        if session is None:
            raise ConfigurationError("cash mode knows no margin; ask a broker in mode 'cross' or 'isolated'")
        return session

    # For the run loop of crossmargin_bt.cerebro, see crossmargin_bt.protocols

    @property
    def passes_bars(self) -> bool:
        """Whether bars may pass without a call of `next`: not where a subclass or a user has replaced it."""
        return type(self).next is CrossMarginBroker.next and "next" not in self.__dict__

    def unseen(self) -> Any:
        """Return the interval whose bars may pass without a call of the broker; None where it has to be called."""
        return None if self._engine is None else self._engine.unseen()

    def count_run_through(self) -> None:
        """Count the bars that the run loop has passed without calling the broker."""
        if self._engine is not None:
            self._engine.count_run_through()

    # Orders

    def buy(self, owner: Any, data: Any, size: float, **keywords: Any) -> Any:
        """Enter a buy order; see `bt.Strategy.buy`, and docs/quickstart.md for `position_side`, `reduce_only` and `plan`."""
        if self._engine is None:
            return super().buy(owner, data, size, **keywords)
        if self._engine.is_behind:
            self._engine.sync()
        return self._engine.orders.enter(owner, data, size, keywords, buys=True)

    def sell(self, owner: Any, data: Any, size: float, **keywords: Any) -> Any:
        """Enter a sell order; see `buy`."""
        if self._engine is None:
            return super().sell(owner, data, size, **keywords)
        if self._engine.is_behind:
            self._engine.sync()
        return self._engine.orders.enter(owner, data, size, keywords, buys=False)

    def submit(self, order: Any, check: bool = True) -> Any:  # noqa: FBT001, FBT002 - backtrader's signature
        """Submit an order; children wait for the last of their bracket."""
        if self._engine is None:
            return super().submit(order, check=check)
        if self._engine.is_behind:
            self._engine.sync()
        return self._engine.orders.submit(order, check=check)

    def submit_accept(self, order: Any) -> None:
        """Accept an order; it draws on margin from now on, unless it waits for its parent."""
        if self._engine is None:
            super().submit_accept(order)
        else:
            self._engine.orders.submit_accept(order)

    def check_submitted(self) -> None:
        """Admit the orders submitted since the last bar, one by one; a refusal leaves the others as they are."""
        if self._engine is None:
            super().check_submitted()
        else:
            self._engine.orders.admit_submitted()

    def cancel(self, order: Any, bracket: bool = False) -> bool:  # noqa: FBT001, FBT002 - backtrader's signature
        """Cancel an order that is alive, also one entered in this very bar, also by a copy of it."""
        if self._engine is None:
            return super().cancel(order, bracket=bracket)
        if self._engine.is_behind:
            self._engine.sync()
        return self._engine.orders.cancel(order, bracket=bracket)

    def notify(self, order: Any) -> None:
        """Queue a notification; an order that has ended no longer draws on margin."""
        if self._engine is None:
            super().notify(order)
        else:
            self._engine.orders.notify(order)

    def _bracketize(self, order: Any, cancel: bool = False) -> None:  # noqa: FBT001, FBT002 - backtrader's signature
        if self._engine is None:
            super()._bracketize(order, cancel=cancel)
        else:
            self._engine.orders.release_bracket(order, cancel=cancel)

    def _ococheck(self, order: Any) -> None:
        if self._engine is None:
            super()._ococheck(order)
        else:
            self._engine.orders.cancel_group_of(order)

    def _execute(self, order: Any, ago: Any = None, price: Any = None, *args: Any, **keywords: Any) -> Any:
        if self._engine is None:
            return super()._execute(order, ago, price, *args, **keywords)
        if price is not None:
            self._captured = Match(price, ago, keywords.get("dtcoc"))
        return None

    def match(self, order: Any) -> Match | None:
        """Return the fill that backtrader's matching finds for the order in this bar, executing nothing."""
        self._captured = None
        if not self.p.fill_in_halts and is_halted(order.data):
            return None
        bt.brokers.BackBroker._try_exec(self, order)
        return self._captured

    # Cash, value and positions

    cash = _of_snapshot("cash", "free_margin")
    _value = _of_snapshot("_value", "value")
    _fundval = _of_snapshot("_fundval", "fund_value")

    def set_cash(self, cash: float) -> None:
        """Set the starting balance, or during a margin run pay in (out) the difference to the balance."""
        session = self._live()
        if session is None or not self._is_running:
            super().set_cash(cash)
        else:
            self.add_cash(cash - session.account.balances[session.currency] - sum(self._cash_addition))

    setcash = set_cash

    def count_paid_in(self, worth: float) -> None:
        """Issue (or redeem) shares of the fund for cash that came in (or left), so that the fund's value does not jump."""
        self._fundshares += worth / self._fundval

    def refresh(self) -> None:
        """Take the account's snapshot anew after a change between bars."""
        if self._engine is not None:
            self._engine.refresh()

    def get_value(self, datas: Any = None, mkt: bool = False, lever: bool = False) -> float:  # noqa: FBT001, FBT002 - backtrader's signature
        """Return equity, or the signed value of the positions in `datas`; with `mkt` the value of all positions."""
        if self._engine is not None and datas is None and not mkt and not lever:
            return float(self._value)
        session = self._live()
        if session is None or not mkt:
            return float(super().get_value(datas, mkt, lever))
        return metrics.account_exposure(session.account)

    getvalue = get_value

    def _get_value(self, datas: Any = None, lever: bool = False) -> float:  # noqa: FBT001, FBT002 - backtrader's signature
        if self._engine is None:
            return super()._get_value(datas=datas, lever=lever)
        held = ((data, self.positions[data].size) for data in datas or ())
        return float(sum(self.getcommissioninfo(data).getvaluesize(size, data.close[0]) for data, size in held if size))

    def get_leverage(self) -> float:
        """Return the value of all positions, long and short added, over equity."""
        session = self._live()
        if session is None:
            return float(super().get_leverage())
        return metrics.account_exposure(session.account) / self.equity if self.equity > 0 else 0.0

    def getposition(self, data: Any, side: str | None = None) -> Any:
        """Return a copy of the position; in hedge mode of the leg that `side` names.

        Raises:
            ConfigurationError: the account is in hedge mode and no leg is named, or the side does not exist.
                The `close()` and `order_target_*` of a plain `bt.Strategy` end here, because they know only one position.
        """
        session = self._live()
        if session is not None:
            return queries.position(session, self.positions[data], data, side)
        net = super().getposition(data)
        if side is None:
            return net
        settings.one_of("position side", side, self.sides(data))
        return bt.Position(self.cash_leg(data, side), net.price)

    def sides(self, data: Any) -> tuple[str, ...]:
        """Return the sides of a feed's position: ("net",), or ("long", "short") in hedge mode; none without an instrument."""
        engine = self._engine
        if engine is None:
            return SIDES[self.p.position_mode]
        books = engine.session.books
        return books[data].sides if data in books else ()

    def getcommissioninfo(self, data: Any) -> Any:
        """Return the commission info of a feed: of its contract, or the stock broker's in cash mode."""
        engine = self._engine
        if engine is None or data not in engine.session.books:
            return super().getcommissioninfo(data)
        engine.sync()
        return self._commissions.of(data)

    def fill_commission(self, data: Any, entry: float) -> ContractCommission:
        """Return the commission info for the trade of one fill, whose part of the leg was held at `entry`."""
        return self._commissions.of_fill(data, entry)

    # Settings of the stock broker that a margin account answers differently

    def set_checksubmit(self, checksubmit: bool) -> None:  # noqa: FBT001 - backtrader's signature
        """Switch the check of orders off, in cash mode; a margin account always checks."""
        self._refuse_unchecked(checksubmit)
        super().set_checksubmit(checksubmit)

    def _refuse_unchecked(self, checksubmit: Any) -> None:
        if not checksubmit and self.p.mode != "cash":
            raise ConfigurationError("a margin account admits every order; checksubmit=False needs mode='cash'")

    def set_fund_history(self, fund: Any) -> None:
        """Set a fund history; only cash mode knows one."""
        if self.p.mode != "cash":
            raise ConfigurationError("a fund history fixes the account's value; use it with mode='cash'")
        super().set_fund_history(fund)

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

    @property
    def fixed_prices(self) -> dict[str, float]:
        """Prices of currencies that no feed has to price: the given ones, and dollar coins in a dollar account.

        Assumption: a dollar coin is worth a dollar where no feed prices it.
        """
        dollars = {coin: 1.0 for coin in DOLLARS if self.p.currency in DOLLARS and coin != self.p.currency}
        return {**dollars, **(self.p.prices or {})}

    # The account's figures

    @property
    def journal(self) -> Journal:
        """The journal of this run, oldest first; empty in cash mode."""
        session = self._live()
        return Journal() if session is None else session.journal

    @property
    def fills(self) -> int:
        """How often an order of a margin account was filled, in full or in part."""
        return 0 if self._engine is None else self._engine.session.fills

    @property
    def refused(self) -> int:
        """How many orders a margin account refused."""
        return 0 if self._engine is None else self._engine.session.refused

    @property
    def bars(self) -> int:
        """The number of bars of this run so far; 0 in cash mode."""
        return 0 if self._engine is None else self._engine.bars

    @property
    def account(self) -> Account | None:
        """The engine's account, for reading; None in cash mode. An instance that is kept moves with every bar."""
        return None if self._engine is None else self._engine.account()

    @property
    def snapshot(self) -> AccountSnapshot | None:
        """The figures of the last bar's close; None in cash mode and before a run."""
        engine = self._engine
        if engine is None:
            return None
        engine.settle()
        return engine.session.snapshot

    def keep_curve(self) -> None:
        """Keep the figures of every bar of this run from now on."""
        if self._engine is not None:
            self._engine.keep_curve()

    @property
    def keeps_curve(self) -> bool:
        """Whether the figures of every bar are kept."""
        return self._engine is not None and self._engine.keeps_curve

    @property
    def curve(self) -> EquityCurve:
        """The figures of every bar since `keep_curve`; an instance that is kept in mid-run goes on with the run."""
        return EquityCurve() if self._engine is None else self._engine.curve()

    @property
    def equity(self) -> float:
        """The account's equity at the close of the last bar, to the last digit; `getvalue()` never returns 0."""
        snapshot = self.snapshot
        return float(self._value) if snapshot is None else snapshot.equity

    @property
    def margin_used(self) -> float:
        """Margin locked by positions and orders at the last close; in cash mode the value of all positions, unsigned."""
        snapshot, engine = self.snapshot, self._engine
        if engine is None:
            held = ((data, position) for data, position in self.positions.items() if position.size)
            return math.fsum(abs(self.getcommissioninfo(d).getvaluesize(p.size, d.close[0])) for d, p in held)
        if snapshot is not None and engine.session.is_one_pool:
            return snapshot.margin_used
        return metrics.total_margin_used(engine.session.account)

    @property
    def margin_level(self) -> float:
        """The lowest collateral over requirement of all pools now; infinity with nothing required or in cash mode."""
        session = self._live()
        return math.inf if session is None else queries.margin_level(session)

    @property
    def lowest_margin_level(self) -> float:
        """The lowest margin level of the run so far, the corners of every bar's path included; infinity above 1,000,000 %."""
        session = self._live()
        is_recorded = session is not None and session.lowest_level < LEVEL_RECORDED_MAX
        return session.lowest_level if session is not None and is_recorded else math.inf

    @property
    def lowest_margin_level_ms(self) -> int | None:
        """The bar of the lowest margin level, by its label in milliseconds; None while there is none."""
        session = self._live()
        is_recorded = session is not None and session.lowest_level < LEVEL_RECORDED_MAX
        return session.lowest_level_ms if session is not None and is_recorded else None

    @property
    def pre_trade_checks(self) -> PreTradeChecks | None:
        """The guards at work; None in cash mode."""
        if self._engine is None:
            return None
        self._engine.account()  # guards may read it at any moment
        return self._engine.checks

    def liquidation_price(self, data: Any, side: str | None = None) -> Estimate:
        """Return the mark of a feed (or feed name) at which its position would be liquidated, as `Estimate(price, reason)`.

        In hedge mode `side` names the leg. `price` is None with a `reason` where there is none, as in cash mode.

        Raises:
            ConfigurationError: there is no such feed, or it has no such side.
        """
        session = self._live()
        if session is None:
            return Estimate(None, "cash mode never liquidates")
        return queries.liquidation_price(session, data, side)

    def aggregate_distance(self, betas: Mapping[str, float] | None = None) -> Distance:
        """Return how far all marks must move together until something is liquidated, as `Distance(fall, rise)`.

        `fall` is a fraction below 0 (-0.2 for a fall of 20 %), `rise` one above; None where no move that way liquidates
        anything, as in cash mode. `betas` gives by feed name how far a price moves with the market, 1 where it names none.

        Raises:
            ConfigurationError: `betas` names a feed without an instrument, or holds a value that is no number.
        """
        session = self._live()
        return Distance(None, None) if session is None else queries.aggregate_distance(session, betas)

    def explain(self, event: events.JournalEntry) -> str:
        """Return the whole arithmetic of a refusal, a state or a liquidation of this run's journal, as text.

        Raises:
            ConfigurationError: the event is none of these, or not in the journal.
        """
        return queries.explanation(self._live(), event)

    def total_equity(self, unit: str | None = None) -> float:
        """Return the equity of all pools now, in the account's currency or in another that its feeds price.

        Raises:
            FeedError: nothing prices the unit.
            ConfigurationError: its feeds have delivered no bar yet.
        """
        session = self._live()
        return self.equity if session is None else queries.total_equity(session, unit)

    def currency(self, name: str) -> CurrencyView:
        """Return balance, debt, margin in use and free margin of a currency now.

        Raises:
            ConfigurationError: the account has no such currency, or is in cash mode.
        """
        return queries.currency(self._live(), name)

    def loan(self, data: Any, side: str | None = None) -> LoanView | None:
        """Return assets, liability and interest of a margin pair's position; None without one.

        Raises:
            ConfigurationError: the feed trades no margin pair.
        """
        return queries.loan(self._live(), data, side)

    def greeks(self, data: Any) -> Greeks:
        """Return the Greeks of one unit of an option's underlying, by its volatility or the one its mark implies.

        Raises:
            ConfigurationError: the feed is no option, or no volatility gives its mark.
        """
        return queries.greeks(self._live(), data)

    # Hypothetical accounts

    def what_if(self, prices: Mapping[str, float]) -> Snapshot:
        """Return the account with some feeds' marks at other prices, by feed name; the others keep theirs.

        Raises:
            ConfigurationError: a name is no feed with an instrument, a price is not above 0, or the account is in cash mode.
        """
        return previews.what_if(self._margin_session(), prices)

    def preview(
        self,
        order: Any = None,
        *,
        data: Any = None,
        size: float = 0.0,
        price: float | None = None,
        side: str | None = None,
    ) -> Preview:
        """Return the effect of an order: one that was entered, or one of `size` (negative to sell) on a feed.

        Without a `price` a market order at the last price. The other orders stay as they are; guards are not asked. In hedge mode `side` names the leg.

        Raises:
            ConfigurationError: there is no such feed or side, the size is no lot, or the account is in cash mode.
        """
        session = self._margin_session()
        if order is not None:
            return previews.preview(session, previews.terms_of_order(session, order))
        return previews.preview(session, previews.terms_of(session, data, size, price, side))

    def maximum_leverage(self, data: Any, stake: float) -> float:
        """Return the highest leverage at which `stake` (settle currency) may back a position of the feed's instrument.

        The instrument's highest, or the limit of its tiers for a position worth stake x leverage at the mark; 1 in cash mode.
        Source: docs/sources.md#maximum-order-size.

        Raises:
            ConfigurationError: the feed has no instrument or no bar yet, or the stake is not above 0.
        """
        collateral = previews.positive_of("stake", stake)
        session = self._live()
        return 1.0 if session is None else previews.maximum_leverage(session, data, collateral)

    def maximum_order_size(
        self, data: Any, *, isbuy: bool = True, price: float | None = None, side: str | None = None
    ) -> float:
        """Return the largest size, in contracts and whole lots, that an order would be admitted with now.

        Without a `price` for a market order at the last price; a closing part counts, so the other side of a
        position may take more. Orders entered since the last bar are not counted yet, and a market order is judged
        again at the price it fills at. In hedge mode `side` names the leg. In cash mode the size that the cash buys.

        Raises:
            ConfigurationError: the feed has no instrument or no bar yet, the side does not exist, or the price
                is not above 0.
        """
        session = self._live()
        given = None if price is None else previews.positive_of("price", price)
        if session is not None:
            return previews.maximum_order_size(session, data, isbuy=isbuy, price=given, side=side)
        if not len(data):
            raise ConfigurationError(f"feed {data._name!r} has delivered no bar yet; ask from next() on")
        at = data.close[0] if given is None else given
        return float(self.getcommissioninfo(data).getsize(at, self.getcash()))

    # Changes

    def set_leverage(self, data: Any, leverage: float) -> Refusal | None:
        """Set the leverage of a feed (or feed name), before the run or during it; cash mode ignores it.

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
        if self._live() is not None and self._is_running:
            return self._controls.change(name, leverage=leverage, margin_mode=margin_mode)
        self._settings.set(name, leverage=leverage, margin_mode=margin_mode)
        return None

    def set_position_mode(self, position_mode: str) -> Refusal | None:
        """Change between "one_way" and "hedge" for the rest of the run; only while nothing is open. Returns why not.

        Raises:
            ConfigurationError: the mode is neither of the two, or the account is in cash mode.
        """
        settings.one_of("position_mode", position_mode, tuple(SIDES))
        self._margin_session()
        return self._controls.set_position_mode(position_mode)

    def transfer(self, currency: str, amount: float) -> Refusal | None:
        """Pay `amount` of a currency in, or out when it is negative, at once. Returns why not: more than is withdrawable.

        Raises:
            ConfigurationError: the amount is no number, nothing prices the currency, or the account is in cash mode.
        """
        self._margin_session()
        return self._controls.transfer(currency, amount)

    def set_aside(self, currency: str, amount: float, reason: str = "allocation") -> Refusal | None:
        """Count `amount` more of a currency as in use (less, when negative): a bot's allocation. Returns why not.

        Raises:
            ConfigurationError: the amount is no number or releases more than was set aside, nothing prices the
                currency, or the account is in cash mode.
        """
        self._margin_session()
        return self._controls.set_aside(currency, amount, reason)

    def add_margin(self, data: Any, amount: float, side: str | None = None) -> Refusal | None:
        """Move `amount` from the balance to an isolated position's margin, or back when it is negative.

        Returns None when it was moved, otherwise a `Refusal` with the reason: no isolated position, more than the
        available balance, or a margin that would fall below the position's initial margin at its entry or below
        its requirement.

        Raises:
            ConfigurationError: the amount is no number, there is no such feed or side, or the account is in cash mode.
        """
        if self._live() is None:
            raise ConfigurationError("cash mode has no margin to move")
        return self._controls.add_margin(data, amount, side)


if not TYPE_CHECKING:
    CrossMarginBroker.__signature__ = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for name, default in CrossMarginBroker.params._getitems()
        ]
    )
