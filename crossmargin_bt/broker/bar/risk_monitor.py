# SPDX-License-Identifier: GPL-3.0-or-later
"""What the venue does to a pool on its way down: warn, cancel orders, reduce, close out.

A threshold acts once a crossing and is armed again when the pool has recovered above it.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from crossmargin_bt.broker.orders import execution
from crossmargin_bt.broker.orders.matching import leg_of
from crossmargin_bt.broker.session.reserve import Reserve
from crossmargin_bt.broker.session.session import BrokerSession
from crossmargin_bt.broker.skip.safe_range import NO_RANGE
from crossmargin_bt.engine.ledger import events
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.liquidation import repayment, risk_control, waterfall
from crossmargin_bt.engine.liquidation.forced_close import Close, PoolCloser
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.metrics import Pool
from crossmargin_bt.engine.margin.modes import MODES
from crossmargin_bt.engine.terms.rules import Rules

# Assumption: a pool that was reduced is looked at again after a second, in bars of more than ten minutes after a six-hundredth
# of them; no venue publishes how often it looks, and a bar does not tell how its price moves within seconds.
RECHECK_MS, LOOKS_A_BAR = 1_000.0, 600
# A pool stands above a threshold again when it is above it by this part.
HAIR = 1e-6


class Threshold(NamedTuple):
    """A margin level at which something happens."""

    level: float
    act: str

    def gap(self, account: Account, pool: Pool) -> float:
        """Return how far the pool is above the threshold, in its currency; at or below zero it is met."""
        if self is OVERDRAWN:
            return -risk_control.account_margin_deficit(account, pool.currency)
        risk = metrics.risk(account, pool)
        return risk.collateral - self.level * risk.requirement


LIQUIDATION = Threshold(1.0, "liquidate")
OVERDRAWN = Threshold(0.0, "overdrawn")
"""Not a level: more is in use than there is."""


def thresholds(rules: Rules, own: Iterable[Threshold] = ()) -> list[Threshold]:
    """Return a venue's thresholds with one's own, the highest first, liquidation last."""
    found = {*own, *(Threshold(level, "warning") for level in rules.warning_levels)}
    if rules.order_cancel_level is not None:
        found.add(Threshold(rules.order_cancel_level, "cancel"))
    return [*sorted(found, reverse=True), LIQUIDATION]


class RiskMonitor:
    """The thresholds of one run, which of them have acted, and the pools that rest after they were reduced."""

    def __init__(self, broker: Any, run: BrokerSession) -> None:
        self._broker, self._run = broker, run
        rules = run.account.rules
        own = [Threshold(float(level), "warning") for level in broker.p.warning_levels]
        self._reserve: Reserve | None = broker.p.reserve
        self._reserve_left = 0.0
        if self._reserve is not None:
            self._reserve_left = self._reserve.amount
            own.append(Threshold(self._reserve.at_level, "replenish"))
        terms = rules.borrowing
        if run.account.pooled and terms is not None and terms.repay_level > LIQUIDATION.level:
            own.append(Threshold(terms.repay_level, "repay"))
        self._levels = thresholds(rules, own)
        self._acted: dict[str, set[Threshold]] = {}
        self._called: set[str] = set()
        self._rests_until: dict[str, float] = {}

    def armed(self, pool: Pool) -> Threshold:
        """Return the highest threshold of a pool that has not acted; liquidation always may."""
        acted = self._acted.get(pool.name)
        return self._levels[0] if not acted else next(t for t in self._levels if t not in acted)

    def add_to_reserve(self, amount: float) -> None:
        """Count what a guard took off the account, where there is a reserve."""
        if self._reserve is not None:
            self._reserve_left += amount

    def rests_until(self, pool: Pool) -> float | None:
        """Return until when a pool is left alone after it was reduced, in milliseconds."""
        return self._rests_until.get(pool.name)

    def watches_overdrawn(self, pool: Pool) -> bool:
        """Return whether orders of the pool would go if more were in use than there is."""
        watched = self._run.account.rules.orders_cancelled_overdrawn and not pool.isolated
        return watched and OVERDRAWN not in self._acted.get(pool.name, ())

    def acted(self, name: str) -> int:
        """Return how many thresholds of a pool have acted, from the highest on."""
        return len(self._acted.get(name, ()))

    def resume(self, acted: Mapping[str, int]) -> None:
        """Let so many thresholds of each pool have acted."""
        self._acted = {name: set(self._levels[:count]) for name, count in acted.items() if count}

    @property
    def is_settled(self) -> bool:
        """Whether no pool waits to be looked at again, or for what is free to be enough."""
        return not (self._rests_until or any(OVERDRAWN in acted for acted in self._acted.values()))

    @property
    def is_at_rest(self) -> bool:
        """Whether no pool waits to recover, to be looked at again, or for a margin call to be met."""
        return self.is_settled and not (self._acted or self._called)

    @property
    def has_acted(self) -> bool:
        """Whether a threshold waits for a pool to recover."""
        return bool(self._acted)

    def recover(self) -> None:
        """Arm the thresholds above which a pool stands again; forget pools that are gone."""
        if not self._acted and not self._rests_until:
            return
        pools = {pool.name: pool for pool in metrics.pools(self._run.account)}
        levels = {name: metrics.risk(self._run.account, pool).margin_level for name, pool in pools.items()}
        for name, acted in list(self._acted.items()):
            level = levels.get(name, float("inf"))
            back = {t for t in acted - {OVERDRAWN} if level > t.level * (1 + HAIR)}
            if OVERDRAWN in acted and (
                name not in levels or risk_control.account_margin_deficit(self._run.account, name) < 0
            ):
                back.add(OVERDRAWN)
            if back:
                self._run.band = self._run.safe = NO_RANGE
                acted.difference_update(back)
            if not acted:
                del self._acted[name]
        for name in list(self._rests_until):
            if levels.get(name, float("inf")) > LIQUIDATION.level:
                del self._rests_until[name]
                if name in pools:
                    self._note(pools[name], "recovered", LIQUIDATION.level)

    def meet(self, pool: Pool, threshold: Threshold, moment: "Moment") -> None:
        """Do what the threshold a pool has come to asks for."""
        self.call(pool)
        if threshold.act == "liquidate":
            self._liquidate(pool, moment)
            return
        self._acted.setdefault(pool.name, set()).add(threshold)
        if threshold.act == "replenish":
            self._replenish(pool)
            return
        if threshold.act == "repay":
            self._repay(moment)
            return
        if threshold.act == "warning":
            self._note(pool, "warning", threshold.level)
            return
        self._cancel_at(pool, threshold)

    def _cancel_at(self, pool: Pool, threshold: Threshold) -> None:
        """Cancel orders until the pool is above a threshold; the threshold rests where that was not enough."""
        if risk_control.risk_increasing_orders(self._run.account, pool):
            self._acted.setdefault(pool.name, set()).add(threshold)
            self._note(pool, "orders_cancelled", threshold.level)
            if self._cancel_worst(pool, threshold, "risk control"):
                self._acted[pool.name].discard(threshold)

    def call(self, pool: Pool) -> None:
        """Call for margin where more is in use than there is: once, until that is no longer so.

        Looked at when a bar ends, and before any other threshold acts.
        """
        if pool.isolated:
            return
        short = risk_control.account_margin_deficit(self._run.account, pool.currency) > 0
        if short and pool.name not in self._called:
            self._called.add(pool.name)
            self._note(pool, "margin_call", 0.0)
        elif not short:
            self._called.discard(pool.name)

    def end_bar(self, totals: metrics.PoolBalance) -> None:
        """Look, when a bar has ended, whether more is in use than there is.

        Orders without a position are looked at here alone: what they lock does not follow the price.
        """
        currency = self._run.account.pool_of(self._run.currency)
        short = risk_control.margin_deficit(totals) > 0
        if not short and currency not in self._called:
            return
        pools = {pool.name: pool for pool in metrics.pools(self._run.account)}
        pool = pools.get(currency) or Pool(currency, currency, (), isolated=False)
        self.call(pool)
        if short and not pool.legs and self.watches_overdrawn(pool):
            self._cancel_at(pool, OVERDRAWN)

    def _replenish(self, pool: Pool) -> None:
        """Bring a pool back to the level its reserve stands for, as far as the reserve reaches."""
        run, reserve = self._run, self._reserve
        assert reserve is not None
        risk = metrics.risk(run.account, pool)
        wanted = reserve.to_level * risk.requirement - risk.collateral
        price = run.account.price(pool.currency)
        worth = min(wanted * price, reserve.each, self._reserve_left)
        if worth <= 0:
            return
        self._reserve_left -= worth
        amount = worth / price
        entry = events.CollateralToppedUp(
            time_ms=run.time_ms,
            pool=pool.name,
            currency=pool.currency,
            amount=amount,
            left=self._reserve_left,
            wanted=wanted,
            to_level=reserve.to_level,
            collateral=risk.collateral,
            requirement=risk.requirement,
            prices=run.account.prices(),
        )
        run.record(entry)
        run.notices.append(entry)
        self._broker.count_paid_in(worth)
        self.recover()

    def _repay(self, moment: "Moment") -> None:
        """Pay debts back out of the other currencies."""
        run = self._run
        for entry in repayment.repayments(run.account, run.time_ms, moment.price, "repayment"):
            self.record(entry)
        self.recover()

    def record(self, entry: events.JournalEntry) -> None:
        """Record an entry of the venue's; a forced close reaches its owners, anything else the strategies."""
        run = self._run
        if isinstance(entry, events.Filled):
            data = next(data for data, book in run.books.items() if book.instrument.symbol == entry.symbol)
            execution.forced_close(self._broker, run, data, entry)
            execution.fit_exits(self._broker, run, data, entry)
            return
        run.record(entry)
        run.notices.append(entry)

    def _cancel_worst(self, pool: Pool, threshold: Threshold, reason: str) -> bool:
        """Cancel adding orders, the worst first, until the pool is above the threshold; return whether it is."""
        account = self._run.account
        for _, number in risk_control.cancellation_order(account, pool, partial(threshold.gap, pool=pool)):
            self._cancel([number], reason)
            if threshold.gap(account, pool) > 0:
                return True
        return False

    def _cancel(self, numbers: Iterable[int], reason: str) -> None:
        wanted = set(numbers)
        for order in [order for order in self._broker.pending if self._run.number(order) in wanted]:
            if order.alive():
                execution.cancel(self._broker, order, reason)

    def _note(self, pool: Pool, state: str, threshold: float) -> None:
        entry = risk_control.risk_state(self._run.account, self._run.time_ms, pool, state, threshold)
        self._run.record(entry)
        self._run.notices.append(entry)
        self._run.closed |= state == "closed_out"

    def _liquidate(self, pool: Pool, moment: "Moment") -> None:
        """Cancel what adds risk to the pool, look again, and reduce it where that was not enough."""
        run, account = self._run, self._run.account
        if risk_control.risk_increasing_orders(account, pool):
            self._note(pool, "liquidation_check", LIQUIDATION.level)
            if self._cancel_worst(pool, LIQUIDATION, "liquidation"):
                self._note(pool, "recovered", LIQUIDATION.level)
                return
            self._cancel([number for _, number in risk_control.risk_increasing_orders(account, pool)], "liquidation")
        if not pool.legs and not risk_control.can_repay(account, pool):
            return
        if pool.name not in self._rests_until:
            entry = waterfall.liquidation_entry(account, run.time_ms, pool)
            run.record(entry)
            run.notices.append(entry)
            run.note_level(metrics.Risk(entry.collateral, entry.requirement).margin_level)
        self._reduce(pool, moment)

    def _reduce(self, pool: Pool, moment: "Moment") -> None:
        run = self._run
        work = PoolCloser(run.account, run.time_ms, pool, moment.price)
        last, acted = "", False
        cooled, deleverages = pool.name in self._rests_until, self._broker.p.auto_deleveraging
        for entry in waterfall.liquidate(work, cooled=cooled, deleverages=deleverages):
            if isinstance(entry, events.LiquidationStepTaken):
                last = entry.step
                if last == "all":
                    self._cancel_all(pool)
            self.record(entry)
            acted = True
        if not acted:  # what is held pays nothing back at these prices
            self._rests_until[pool.name] = moment.at_ms + max(RECHECK_MS, run.bar_ms)
        elif work.margined_legs():
            recheck = max(RECHECK_MS, run.bar_ms / LOOKS_A_BAR)
            rest = waterfall.cooldown_ms(run.account) if last == "fraction" else recheck
            self._rests_until[pool.name] = moment.at_ms + rest
        else:
            self._rests_until.pop(pool.name, None)
            if not pool.legs and not risk_control.has_debt(run.account, pool):
                self._note(pool, "recovered", LIQUIDATION.level)
                return
            self._cancel_all(pool)
            self._note(pool, "closed_out", run.account.rules.safe_level)

    def _cancel_all(self, pool: Pool) -> None:
        for order in list(self._broker.pending):
            if order.alive() and self._draws_on(order, pool):
                execution.cancel(self._broker, order, "liquidation")

    def _draws_on(self, order: Any, pool: Pool) -> bool:
        """Return whether an order, resting or waiting for its parent, trades what the pool carries."""
        book = self._run.books[order.data]
        if pool.isolated:
            return (book.instrument.symbol, leg_of(order)) in pool.legs
        mode, account = MODES[book.margin_mode], self._run.account
        stands = mode.POOLED or (account.pooled and mode.FULLY_FUNDED)
        return stands and account.pool_of(book.instrument.settle) == pool.currency


class Moment(NamedTuple):
    """A moment of the path: when it is, and what part of a leg would be closed at."""

    at_ms: float
    price: Callable[[Close], float]
