# SPDX-License-Identifier: GPL-3.0-or-later
"""The venue's actions on a pool on its way down: warn, call for margin, cancel orders, reduce, close out.

A threshold acts once per crossing and re-arms when the pool has recovered above it.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

from crossmargin_bt.broker.orders.execution import OrderExecutor
from crossmargin_bt.broker.orders.order_manager import OrderManager
from crossmargin_bt.broker.session.bt_orders import leg_of
from crossmargin_bt.broker.session.host import BrokerHost
from crossmargin_bt.broker.session.reserve import Reserve
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.liquidation import repayment, risk_control, waterfall
from crossmargin_bt.engine.liquidation.forced_close import Close, PoolCloser
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.metrics import Pool
from crossmargin_bt.engine.margin.modes import MODES
from crossmargin_bt.engine.math.tolerances import REARM_HYSTERESIS
from crossmargin_bt.engine.terms.rules import Rules

# Assumption: after a partial liquidation the pool is re-evaluated after max(1 s, bar length / 600). No venue publishes how
# often it evaluates a pool, and a bar does not tell how its price moves within seconds.
RECHECK_MS, EVALUATIONS_PER_BAR = 1_000.0, 600

Act = Literal["warning", "cancel", "replenish", "repay", "overdrawn", "liquidate"]


class Threshold(NamedTuple):
    """A margin level at which the venue, or the trader's reserve, acts."""

    level: float
    act: Act

    def gap(self, account: Account, pool: Pool) -> float:
        """Return how far the pool is above the threshold, in its currency; the threshold is met at or below zero."""
        if self is OVERDRAWN:
            return -risk_control.account_margin_deficit(account, pool.currency)
        return self.gap_of(metrics.risk(account, pool))

    def gap_of(self, risk: metrics.Risk) -> float:
        """Return the same for a margin level whose collateral and requirement are known."""
        return risk.collateral - self.level * risk.requirement


LIQUIDATION = Threshold(1.0, "liquidate")
OVERDRAWN = Threshold(0.0, "overdrawn")
"""Not a margin level: more margin is in use than the account has collateral."""


def thresholds(rules: Rules, own: Iterable[Threshold] = ()) -> list[Threshold]:
    """Return a venue's thresholds with the trader's own, the highest first, liquidation last."""
    found = {*own, *(Threshold(level, "warning") for level in rules.warning_levels)}
    if rules.order_cancel_level is not None:
        found.add(Threshold(rules.order_cancel_level, "cancel"))
    return [*sorted(found, reverse=True), LIQUIDATION]


class Moment(NamedTuple):
    """A moment inside a bar: its time, and the price at which part of a leg would be closed then."""

    at_ms: float
    price: Callable[[Close], float]


class RiskMonitor:
    """The thresholds of one run, which of them have acted, and the pools in cool-down after a partial liquidation."""

    def __init__(self, host: BrokerHost, session: BrokerSession, orders: OrderManager, executor: OrderExecutor) -> None:
        self._host, self._session, self._orders, self._executor = host, session, orders, executor
        self._reserve: Reserve | None = host.p.reserve
        self._reserve_left = 0.0 if self._reserve is None else self._reserve.amount
        self._levels: list[Threshold] = []
        self.adopt_rules()
        self._acted: dict[str, set[Threshold]] = {}
        self._called: set[str] = set()
        self._cooldown_until: dict[str, float] = {}
        self.on_rearm: Callable[[], None] | None = None
        """Runs when thresholds re-arm: bounds proven with the lower thresholds no longer hold."""

    def adopt_rules(self) -> None:
        """Take the thresholds of the rules in force, with the trader's own."""
        account = self._session.account
        own = [Threshold(float(level), "warning") for level in self._host.p.warning_levels]
        if self._reserve is not None:
            own.append(Threshold(self._reserve.at_level, "replenish"))
        terms = account.rules.borrowing
        if account.pooled and terms is not None and terms.repay_level > LIQUIDATION.level:
            own.append(Threshold(terms.repay_level, "repay"))
        self._levels = thresholds(account.rules, own)

    # The state

    def next_threshold(self, pool: Pool) -> Threshold:
        """Return the highest threshold of a pool that has not acted; liquidation always may."""
        acted = self._acted.get(pool.name)
        return self._levels[0] if not acted else next(t for t in self._levels if t not in acted)

    def watches_deficit(self, pool: Pool) -> bool:
        """Return whether orders of the pool are cancelled when more margin is in use than there is collateral."""
        watched = self._session.account.rules.orders_cancelled_overdrawn and not pool.isolated
        return watched and OVERDRAWN not in self._acted.get(pool.name, ())

    def cooldown_until(self, pool: Pool) -> float | None:
        """Return until when a pool is left alone after a partial liquidation, in milliseconds."""
        return self._cooldown_until.get(pool.name)

    @property
    def has_acted(self) -> bool:
        """Whether a threshold waits for its pool to recover."""
        return bool(self._acted)

    @property
    def is_settled(self) -> bool:
        """Whether no pool is in cool-down or waits for enough free margin."""
        return not (self._cooldown_until or any(OVERDRAWN in acted for acted in self._acted.values()))

    @property
    def is_idle(self) -> bool:
        """Whether no pool waits to recover, to be re-evaluated, or for a margin call to be met."""
        return not (self._acted or self._called or self._cooldown_until)

    def acted(self, name: str) -> int:
        """Return how many thresholds of a pool have acted, from the highest on."""
        return len(self._acted.get(name, ()))

    def restore(self, acted: Mapping[str, int]) -> None:
        """Set how many thresholds of each pool have acted, from the highest on."""
        self._acted = {name: set(self._levels[:count]) for name, count in acted.items() if count}

    def add_to_reserve(self, amount: float) -> None:
        """Add an amount that a guard took off the account to the reserve, where there is one."""
        if self._reserve is not None:
            self._reserve_left += amount

    # On the path of a bar

    def rearm(self) -> None:
        """Re-arm the thresholds above which a pool has recovered; forget pools that are gone."""
        if not self._acted and not self._cooldown_until:
            return
        account = self._session.account
        pools = {pool.name: pool for pool in metrics.pools(account)}
        levels = {name: metrics.risk(account, pool).margin_level for name, pool in pools.items()}
        for name, acted in list(self._acted.items()):
            level = levels.get(name, float("inf"))
            back = {t for t in acted - {OVERDRAWN} if level > t.level * (1 + REARM_HYSTERESIS)}
            if OVERDRAWN in acted and (name not in levels or risk_control.account_margin_deficit(account, name) < 0):
                back.add(OVERDRAWN)
            if back:
                if self.on_rearm is not None:
                    self.on_rearm()
                acted.difference_update(back)
            if not acted:
                del self._acted[name]
        for name in list(self._cooldown_until):
            if levels.get(name, float("inf")) > LIQUIDATION.level:
                del self._cooldown_until[name]
                if name in pools:
                    self._record_state(pools[name], "recovered", LIQUIDATION.level)

    def on_threshold(self, pool: Pool, threshold: Threshold, moment: Moment) -> None:
        """Act on a threshold that a pool has come down to."""
        self.call_for_margin(pool)
        if threshold.act == "liquidate":
            self._liquidate(pool, moment)
            return
        self._acted.setdefault(pool.name, set()).add(threshold)
        if threshold.act == "replenish":
            self._replenish(pool)
        elif threshold.act == "repay":
            self._repay(moment)
        elif threshold.act == "warning":
            self._record_state(pool, "warning", threshold.level)
        else:
            self._cancel_at(pool, threshold)

    def call_for_margin(self, pool: Pool) -> None:
        """Call for margin while more is in use than there is collateral: once per shortfall.

        Evaluated at the end of a bar, and before any other threshold acts.
        """
        if pool.isolated:
            return
        is_short = risk_control.account_margin_deficit(self._session.account, pool.currency) > 0
        if is_short and pool.name not in self._called:
            self._called.add(pool.name)
            self._record_state(pool, "margin_call", 0.0)
        elif not is_short:
            self._called.discard(pool.name)

    def end_bar(self, balance: metrics.PoolBalance) -> None:
        """Call for margin at the end of a bar where more is in use than there is collateral.

        Orders without a position are evaluated only here: the margin they lock does not follow the price.
        """
        session = self._session
        currency = session.account.pool_of(session.currency)
        is_short = risk_control.margin_deficit(balance) > 0
        if not is_short and currency not in self._called:
            return
        pools = {pool.name: pool for pool in metrics.pools(session.account)}
        pool = pools.get(currency) or Pool(currency, currency, (), isolated=False)
        self.call_for_margin(pool)
        if is_short and not pool.legs and self.watches_deficit(pool):
            self._cancel_at(pool, OVERDRAWN)

    # Money that comes to the rescue

    def _replenish(self, pool: Pool) -> None:
        """Bring a pool back to the reserve's target level, as far as the reserve reaches."""
        session, reserve = self._session, self._reserve
        assert reserve is not None
        risk = metrics.risk(session.account, pool)
        wanted = reserve.to_level * risk.requirement - risk.collateral
        price = session.account.price(pool.currency)
        worth = min(wanted * price, reserve.each, self._reserve_left)
        if worth <= 0:
            return
        self._reserve_left -= worth
        self._publish(
            events.CollateralToppedUp(
                time_ms=session.time_ms,
                pool=pool.name,
                currency=pool.currency,
                amount=worth / price,
                left=self._reserve_left,
                wanted=wanted,
                to_level=reserve.to_level,
                collateral=risk.collateral,
                requirement=risk.requirement,
                prices=session.account.prices(),
            )
        )
        self._host.count_paid_in(worth)
        self.rearm()

    def _repay(self, moment: Moment) -> None:
        """Repay debts out of the account's other currencies."""
        session = self._session
        for entry in repayment.repayments(session.account, session.time_ms, moment.price, "repayment"):
            self.record(entry)
        self.rearm()

    # Records

    def record(self, entry: events.JournalEntry) -> None:
        """Record an entry of the venue's own; a forced close reaches its owners, any other the strategies."""
        if not isinstance(entry, events.Filled):
            self._publish(entry)
            return
        books = self._session.books
        data = next(data for data, book in books.items() if book.instrument.symbol == entry.symbol)
        self._executor.forced_close(data, entry)
        self._executor.shrink_exit_orders(data, entry)

    def _publish(self, entry: events.JournalEntry) -> None:
        self._session.record(entry)
        self._session.pending_notifications.append(entry)

    def _record_state(self, pool: Pool, state: events.PoolState, threshold: float) -> None:
        session = self._session
        self._publish(risk_control.risk_state(session.account, session.time_ms, pool, state, threshold))
        session.closed_out |= state == "closed_out"

    # Cancelling

    def _cancel_at(self, pool: Pool, threshold: Threshold) -> None:
        """Cancel orders until the pool is above a threshold; the threshold stays disarmed where that was not enough."""
        if risk_control.risk_increasing_orders(self._session.account, pool):
            self._acted.setdefault(pool.name, set()).add(threshold)
            self._record_state(pool, "orders_cancelled", threshold.level)
            if self._cancel_until_above(pool, threshold, "risk control"):
                self._acted[pool.name].discard(threshold)

    def _cancel_until_above(self, pool: Pool, threshold: Threshold, reason: str) -> bool:
        """Cancel risk-increasing orders, the most relieving first, until the pool is above the threshold; return whether it is."""
        account = self._session.account
        for _, number in risk_control.cancellation_order(account, pool, partial(threshold.gap, pool=pool)):
            self._cancel([number], reason)
            if threshold.gap(account, pool) > 0:
                return True
        return False

    def _cancel(self, numbers: Iterable[int], reason: str) -> None:
        wanted = set(numbers)
        for order in [order for order in self._host.pending if self._session.number(order) in wanted]:
            if order.alive():
                self._orders.cancel_for(order, reason)

    def _cancel_all(self, pool: Pool) -> None:
        for order in list(self._host.pending):
            if order.alive() and self._draws_on(order, pool):
                self._orders.cancel_for(order, "liquidation")

    def _draws_on(self, order: Any, pool: Pool) -> bool:
        """Return whether an order, resting or waiting for its parent, trades on the pool's collateral."""
        book = self._session.books[order.data]
        if pool.isolated:
            return (book.instrument.symbol, leg_of(order)) in pool.legs
        account = self._session.account
        is_carried = MODES[book.margin_mode].POOLED or (account.pooled and book.is_fully_funded)
        return is_carried and account.pool_of(book.instrument.settle) == pool.currency

    # Liquidation

    def _liquidate(self, pool: Pool, moment: Moment) -> None:
        """Cancel orders that add risk to the pool, re-evaluate it, and reduce it where that was not enough."""
        session, account = self._session, self._session.account
        if risk_control.risk_increasing_orders(account, pool):
            self._record_state(pool, "liquidation_check", LIQUIDATION.level)
            if self._cancel_until_above(pool, LIQUIDATION, "liquidation"):
                self._record_state(pool, "recovered", LIQUIDATION.level)
                return
            self._cancel([number for _, number in risk_control.risk_increasing_orders(account, pool)], "liquidation")
        if not pool.legs and not risk_control.can_repay(account, pool):
            return
        if pool.name not in self._cooldown_until:
            entry = waterfall.liquidation_entry(account, session.time_ms, pool)
            self._publish(entry)
            session.record_level(metrics.Risk(entry.collateral, entry.requirement).margin_level)
        self._reduce(pool, moment)

    def _reduce(self, pool: Pool, moment: Moment) -> None:
        session = self._session
        work = PoolCloser(session.account, session.time_ms, pool, moment.price)
        last, has_closed = "", False
        is_cooled, deleverages = pool.name in self._cooldown_until, self._host.p.auto_deleveraging
        for entry in waterfall.liquidate(work, cooled=is_cooled, deleverages=deleverages):
            if isinstance(entry, events.LiquidationStepTaken):
                last = entry.step
                if last == "all":
                    self._cancel_all(pool)
            self.record(entry)
            has_closed = True
        if not has_closed:  # the holdings repay nothing at these prices
            self._cooldown_until[pool.name] = moment.at_ms + max(RECHECK_MS, session.bar_ms)
        elif work.margined_legs():
            recheck = max(RECHECK_MS, session.bar_ms / EVALUATIONS_PER_BAR)
            rest = waterfall.cooldown_ms(session.account) if last == "fraction" else recheck
            self._cooldown_until[pool.name] = moment.at_ms + rest
        else:
            self._cooldown_until.pop(pool.name, None)
            if not pool.legs and not risk_control.has_debt(session.account, pool):
                self._record_state(pool, "recovered", LIQUIDATION.level)
                return
            self._cancel_all(pool)
            self._record_state(pool, "closed_out", session.account.safe_level)
