# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sweep found, in sentences, and first what should make a reader doubt it."""

import math
from collections.abc import Sequence

from crossmargin_bt.sweep import insight
from crossmargin_bt.sweep.insight import called, written
from crossmargin_bt.sweep.rows import Objective, Row, front
from crossmargin_bt.sweep.space import Axis


def answers(rows: Sequence[Row], aims: Sequence[Objective], axes: Sequence[Axis]) -> list[str]:
    """Return in sentences what the sweep found; of a walk forward first what followed the choices."""
    chosen = [row for row in rows if row.sample != "out"]
    lines = _followed(insight.walked(rows), aims[0])
    before = "In sample, " if lines else ""
    ranked = insight.best(chosen, aims[0])
    if ranked:
        lines.append(_best(ranked, rows, aims[0], before))
    if len(aims) > 1 and not before:
        count = len(front(chosen, aims))
        lines.append(f"{count} runs are such that none is better in both {aims[0].name} and {aims[1].name}.")
    for fate in insight.fates(chosen):
        ran = fate.runs - fate.failed
        if ran:
            lines.append(
                f"{before}{fate.name}: {fate.earned:.0%} of {ran:,} runs earned, {fate.liquidated:.0%} were liquidated; the median "
                f"return is {fate.median_return:+.1%}."
            )
        else:
            lines.append(f"{before}{fate.name}: all of {fate.runs:,} runs failed.")
    return [*lines, *(_duel(duel, rows, axes, before) for duel in insight.duels(chosen))]


def _best(ranked: Sequence[Row], rows: Sequence[Row], aim: Objective, before: str) -> str:
    top = ranked[0]
    alike = sum(aim.rank(row) == aim.rank(top) for row in ranked) - 1
    tied = f" ({alike:,} {'other is' if alike == 1 else 'others are'} alike)" if alike else ""
    window = f" in window {top.window}" if top.sample else ""
    return (
        f"{before or 'Best'}{'best' if before else ''} by {aim.name}: {called((top.venue, top.mode), rows)} with "
        f"{written(top.params)}{window}{tied}, return {_percent(top, 'total_return')}, drawdown {_percent(top, 'drawdown_max')}, "
        f"liquidations: {top.figures['liquidations']:.0f}."
    )


def _followed(steps: Sequence[insight.Step], aim: Objective) -> list[str]:
    """Return what the choices of a walk forward came to, a sentence for every arm."""
    lines = []
    for name in dict.fromkeys(step.name for step in steps):
        mine = [step for step in steps if step.name == name]
        after = [step.after.figures for step in mine if not step.after.error]
        grown = math.prod(1 + (one["total_return"] or 0.0) for one in after) - 1
        lost = sum(bool(one["liquidations"]) for one in after)
        lines.append(
            f"{name}: what was best by {aim.name} in {len(mine)} windows returned {grown:+.1%} in all on the candles that followed, and was "
            f"liquidated in {lost} of them."
        )
    return lines


def _duel(duel: insight.Duel, rows: Sequence[Row], axes: Sequence[Axis], before: str) -> str:
    where = f" at {duel.venue}" if len({row.venue for row in rows}) > 1 else ""
    count = f"{len(duel.pairs):,} combinations{where}"
    if not duel.share and not duel.share_below:
        return f"{before}cross and isolated end alike in all {count}.".replace(
            "cross", "cross" if before else "Cross", 1
        )
    text = (
        f"{before}{'cross' if before else 'Cross'} ends higher than isolated in {duel.share:.0%} of {count} and lower in "
        f"{duel.share_below:.0%}, by {duel.mean:+,.2f} on average"
    )
    turn = duel.by_value(axes)
    if turn is not None:
        name, (most, high), (least, low) = turn
        text += f"; most often with {name} at {most} ({high:.0%}), least often at {least} ({low:.0%})"
    return f"{text}."


def _percent(row: Row, figure: str) -> str:
    value = row.figures.get(figure)
    return "-" if value is None else f"{value:+.1%}" if figure == "total_return" else f"{value:.1%}"


def doubts(
    rows: Sequence[Row], aims: Sequence[Objective], *, settings: Sequence[str] = (), assumptions: int = 0
) -> list[str]:
    """Return what a reader must know before the figures; `settings` are the axes that vary the account."""
    found = []
    failed = [row for row in rows if row.error]
    if failed:
        found.append(f"{len(failed):,} of {len(rows):,} runs failed; the first: {failed[0].error}")
    ranked = insight.best([row for row in rows if row.sample != "out"], aims[0])
    found += _of_best(ranked[0]) if ranked else []
    ran = [row for row in rows if not row.error]
    mostly = sum(_is_refused(row) for row in ran)
    if mostly:
        found.append(f"In {mostly:,} of {len(ran):,} runs more orders were refused than filled.")
    if "leverage" in settings and any(row.mode == "cash" for row in rows):
        found.append("Cash mode knows no leverage: its runs are the same at every one, and counted each time.")
    found += _of_walk(rows, aims[0])
    if assumptions:
        found.append(f"{assumptions} assumptions of the rule books are in force; they are listed at the end.")
    return found


def _is_refused(row: Row) -> bool:
    return (row.figures["refused"] or 0.0) > (row.figures["fills"] or 0.0)


def _of_best(top: Row) -> list[str]:
    """Return what is wrong with the best row."""
    found = []
    if insight.is_liquidated(top):
        found.append("The best run was liquidated on its way.")
    if not top.figures["fills"]:
        found.append("The best run never traded.")
    if _is_refused(top):
        found.append(
            f"The best run had {top.figures['refused']:,.0f} orders refused against {top.figures['fills']:,.0f} fills: it is not what the "
            f"strategy asked for."
        )
    return found


def _of_walk(rows: Sequence[Row], aim: Objective) -> list[str]:
    """Return how far a choice held, or that none was tried."""
    steps = insight.walked(rows)
    unchosen = len({(row.window, row.venue, row.mode) for row in rows if row.sample == "in"}) - len(steps)
    found = []
    if unchosen:
        found.append(
            f"In {unchosen} windows and modes nothing was chosen: {aim.name} is undefined in every run, or all failed."
        )
    known = [step for step in steps if aim.value(step.chosen) is not None and aim.value(step.after) is not None]
    if known:
        worse = sum(aim.rank(step.after) > aim.rank(step.chosen) for step in known)
        count = len({step.window for step in known})
        found.append(
            f"Out of sample {aim.name} was worse than in sample in {worse} of {len(known)} choices ({count} windows, every mode)."
        )
    elif len(rows) > 1 and not unchosen:
        found.append(
            f"The best of {len(rows):,} runs on one stretch of candles is chosen with hindsight; --walk-forward shows what follows a choice."
        )
    return found
