# SPDX-License-Identifier: GPL-3.0-or-later
"""How much may be ordered, and at how much leverage: admission, asked the other way round."""

from crossmargin_bt.engine.admission import position_limits
from crossmargin_bt.engine.admission.order_admission import admit, below_minimum
from crossmargin_bt.engine.ledger.account import Account
from crossmargin_bt.engine.ledger.orders import OpenOrder
from crossmargin_bt.engine.margin import metrics
from crossmargin_bt.engine.margin.modes import MODES
from crossmargin_bt.engine.math import formulas
from crossmargin_bt.engine.math.tolerances import REL_TOL, fits

# No order is looked for beyond this many lots, and no leverage more exactly than this many halvings find it.
LOTS_MAX = 2**62
HALVINGS = 60


def maximum_order_lots(
    account: Account, symbol: str, side: str, direction: int, price: float, *, immediate: bool = False
) -> int:
    """Return the most lots that an order in `direction` (1 buys, -1 sells) at `price` may have, 0 when none.

    The largest that would be admitted, what closes included, and within the room the venue leaves in its own
    maximum (`Rules.order_size_share`, `Rules.order_size_fees`). With `immediate` it is judged as a fill.

    Source: docs/sources.md#maximum-order-size.
    """
    book = account.books[symbol]
    held = book.leg(side).lots
    closing = abs(held) if held * direction < 0 else 0
    if side != "net" and (side == "long") != (direction > 0):
        return closing

    def fits(lots: int) -> bool:
        order = OpenOrder(0, side, direction * lots, price, immediate=immediate)
        admitted = admit(account, symbol, order, whole=True)
        return isinstance(admitted, OpenOrder) and _leaves_room(account, symbol, admitted)

    if not fits(1):
        return 0
    fitting, refused = 1, 2
    while refused < LOTS_MAX and fits(refused):
        fitting, refused = refused, 2 * refused
    while refused - fitting > 1:
        middle = (fitting + refused) // 2
        if fits(middle):
            fitting = middle
        else:
            refused = middle
    largest = OpenOrder(0, side, direction * fitting, price, immediate=immediate)
    return fitting if below_minimum(book, largest) is None else closing


def _leaves_room(account: Account, symbol: str, order: OpenOrder) -> bool:
    rules, book = account.rules, account.books[symbol]
    if (rules.order_size_share == 1 and not rules.order_size_fees) or order.reduce_only:
        return True
    if book.is_fully_funded:
        return True
    capital = metrics.available_margin(account, book) + MODES[book.margin_mode].in_use(book)
    after = book.copy()
    after.orders[order.number] = order
    lots = max(position_limits.tier_exposures(after))
    if lots <= max(position_limits.tier_exposures(book)):
        return True
    value = book.instrument.value(lots, book.long_mark)
    needed = value * book.initial_rate(lots) + rules.order_size_fees * formulas.fee(value, book.taker)
    return fits(needed, rules.order_size_share * capital)


def maximum_leverage(account: Account, symbol: str, collateral: float) -> float:
    """Return the highest leverage at which `collateral` (settle currency) is enough for a position of that size.

    The contract's highest leverage, or what the tier of collateral x leverage allows.
    Source: docs/sources.md#maximum-order-size.
    """
    book = account.books[symbol]

    def allowed(leverage: float) -> bool:
        value = collateral * leverage
        base = value if book.instrument.inverse else value / book.long_mark
        return book.initial_floor(value, base) * leverage <= 1 + REL_TOL

    highest = book.instrument.leverage_max
    if allowed(highest):
        return highest
    low = 0.0
    for _ in range(HALVINGS):
        middle = (low + highest) / 2
        if allowed(middle):
            low = middle
        else:
            highest = middle
    return low
