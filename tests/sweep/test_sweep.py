"""Sweeps: the same rows whatever runs them, whatever kills them, and whenever they are taken up again."""

import html
import io
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import backtrader as bt
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
from browser import needs_chromium, opened
from budget import in_rotation
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from waiting import GENEROUS_S, wait_until

from crossmargin_bt.candles import folder as folders
from crossmargin_bt.candles.generate import generate
from crossmargin_bt.cli import commands
from crossmargin_bt.compare import Settings, StrategySpec, load, run
from crossmargin_bt.errors import FeedError
from crossmargin_bt.report import files
from crossmargin_bt.sweep import plan, rows, space, store
from crossmargin_bt.sweep import words as words_of
from crossmargin_bt.sweep.table import Listed

STRATEGY = '''
import os

import backtrader as bt


class Cross(bt.Strategy):
    """Long above an average, short below; `poison` kills its process, `bad` fails."""

    params = (("period", 5), ("size", 1.0), ("bad", 0), ("poison", 0))

    def __init__(self):
        if self.p.bad == 1:
            raise ValueError("bad is 1")
        if self.p.bad == 2:
            raise SystemExit(0)
        if self.p.poison == 1:
            os._exit(9)
        self.average = bt.ind.SMA(self.data.close, period=self.p.period)

    def next(self):
        wanted = self.p.size if self.data.close[0] > self.average[0] else -self.p.size
        if self.position.size != wanted:
            self.order_target_size(target=wanted)
'''


def crossmargin(*words: object) -> Result:
    return CliRunner().invoke(commands, [str(word) for word in words], env={"COLUMNS": "100"})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a strategy and twenty days of hourly candles of one contract."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "cross.py").write_text(STRATEGY, encoding="utf-8")
    (folder / "data").mkdir()
    generate()["SIMBTC"].iloc[: 20 * 24].to_parquet(folder / "data" / "COIN.parquet")
    (folder / "data" / "instruments.toml").write_text("[COIN]\nlot = 0.001\n", encoding="utf-8")
    return folder


def words(home: Path, out: str, *more: object) -> list[object]:
    return ["sweep", home / "cross.py", "--data", home / "data", "--cash", 40_000, "--out", home / out, *more]


def swept(home: Path, out: str, *more: object) -> pd.DataFrame:
    result = crossmargin(*words(home, out, *more))
    assert result.exit_code == 0, result.output
    return pq.read_table(home / out / "results.parquet").to_pandas()


FAST = '''
import backtrader as bt
import numpy as np
import pandas as pd


class Fast(bt.Strategy):
    """Long above an average, short below, in both ways."""

    params = (("period", 5), ("size", 1.0), ("ahead", 0))

    def __init__(self):
        self.average = bt.ind.SMA(self.data.close, period=self.p.period)

    def next(self):
        wanted = self.p.size if self.data.close[0] > self.average[0] else -self.p.size
        self.order_target_size(target=wanted * self.data.close.array[0] / self.data.close[0])

    @staticmethod
    def signals(candles, period, size, ahead):
        (frame,) = candles.values()
        average = frame["close"].rolling(period).mean()
        wanted = np.where(frame["close"] > average, size, -size) * frame["close"].iloc[0] / frame["close"]
        return np.where(average.isna(), np.nan, np.roll(wanted, -ahead))


class Slow(bt.Strategy):
    """Follows the same signals bar by bar."""

    params = (("period", 5), ("size", 1.0), ("ahead", 0))

    def __init__(self):
        frame = pd.DataFrame({"close": np.frombuffer(self.data.p.rows["close"])})
        self.wanted = Fast.signals({"": frame}, self.p.period, self.p.size, self.p.ahead)

    def next(self):
        wanted = self.wanted[len(self) - 1]
        if not np.isnan(wanted):
            self.order_target_size(target=wanted)


class Mute(bt.Strategy):
    """Says nothing."""

    params = (("period", 5),)


class Broken(Fast):
    """Says what is no size."""

    @staticmethod
    def signals(candles, period, size, ahead):
        return "up"


class Exits(Fast):
    """Leaves."""

    @staticmethod
    def signals(candles, period, size, ahead):
        raise SystemExit(3)


class Nothing(Fast):
    """Returns nothing."""

    @staticmethod
    def signals(candles, period, size, ahead):
        pass


class Rare(Fast):
    """Looks ahead, but seldom says anything."""

    @staticmethod
    def signals(candles, period, size, ahead):
        (frame,) = candles.values()
        move = frame["close"].shift(-1) / frame["close"] - 1
        wanted = np.where(move.abs() > move.abs().quantile(0.99), np.sign(move) * size, np.nan)
        return pd.Series(wanted).ffill().to_numpy()


class Bound(Fast):
    """Is no static method."""

    def signals(self, candles, period, size, ahead):
        return np.zeros(len(candles))


class Few(Fast):
    """Takes too few."""

    @staticmethod
    def signals(candles, period):
        return np.zeros(480)


class Short(Fast):
    """Says too little."""

    @staticmethod
    def signals(candles, period, size, ahead):
        return np.zeros(3)
'''


@pytest.fixture
def fast(home: Path) -> Path:
    """The file of strategies with signals."""
    pytest.importorskip("numba")
    file = home / "fast.py"
    file.write_text(FAST, encoding="utf-8")
    return file


def by_signals(fast: Path, name: str, out: str, *more: object) -> Result:
    data = ("--data", fast.parent / "data", "--cash", 40_000, "--out", fast.parent / out, "--jobs", 1)
    return crossmargin("sweep", f"{fast}:{name}", *data, "--param", "period=3,8", *more)


@pytest.mark.parametrize("walk", [(), ("--walk-forward", "10d/5d")])
def test_signals_end_as_a_strategy_that_follows_them(fast: Path, walk: tuple[str, ...]) -> None:
    """Every figure that a batch has, to the last digit, with warm-ups and sizes that are refused or liquidated too."""
    varied = ("--param", "size=1,40", "--param", "leverage=5,20", *walk)
    assert by_signals(fast, "Fast", f"f{len(walk)}", "--fast", *varied).exit_code == 0
    assert by_signals(fast, "Slow", f"s{len(walk)}", *varied).exit_code == 0
    quick, slow = (pd.read_parquet(fast.parent / f"{kind}{len(walk)}" / "results.parquet") for kind in "fs")
    unknown = ["margin_used_peak", "margin_used_mean", "capital_efficiency", "lowest_margin_level"]
    assert quick[unknown].isna().all(axis=None)
    inside = quick["sample"] != "out"  # out of sample another figure may have been the best
    left, right = (frame[inside].drop(columns=[*unknown, "key"]).reset_index(drop=True) for frame in (quick, slow))
    pd.testing.assert_frame_equal(left, right, check_exact=True)
    assert left["refused"].sum() + left["liquidations"].sum() > 0 or walk


def test_the_best_by_signals_is_run_bar_by_bar(fast: Path) -> None:
    """And what differs is told."""
    same = by_signals(fast, "Fast", "same", "--fast")
    assert "the best, run bar by bar, is the same: return" in same.output
    other = fast.with_name("other.py")
    other.write_text(FAST.replace("size, -size) *", "size, -2 * size) *"), encoding="utf-8")
    told = by_signals(other, "Fast", "other", "--fast").output
    assert "do not trade alike: final equity " in " ".join(told.split())


@pytest.mark.parametrize(
    ("name", "more", "text"),
    [
        ("Fast", ("--param", "ahead=1"), "Fast.signals looks ahead: at 20"),
        ("Mute", (), "--fast needs Mute.signals"),
        ("Rare", (), "Rare.signals looks ahead: at 20"),
        ("Bound", (), "Bound.signals must be a static method: write @staticmethod"),
        ("Few", (), "does not take the candles and the params period, size, ahead: got an unexpected"),
        ("Fast", ("--venue", "bybit"), "closing fees kept with isolated margins (venue bybit); use mode 'cross'"),
        (
            "Fast",
            ("--venue", "hyperliquid"),
            "no table of tiers (venue hyperliquid); use the broker, a sweep without --fast",
        ),
        ("Broken", (), "Broken.signals returned str that holds no numbers"),
        ("Exits", (), "Exits.signals failed: SystemExit"),
        ("Nothing", (), "which is no array of sizes"),
        ("Short", (), "returned the shape (3,) for 480 bars of 1 markets; give a size for every bar"),
        ("Fast", ("--modes", "cash"), "--fast knows the modes isolated, cross"),
        ("Fast", ("--slippage", "0.001"), "--fast knows no slippage"),
        ("Fast", ("--objective", "margin_level"), "--fast does not tell margin_level"),
    ],
)
def test_what_signals_cannot_be_swept_by_is_refused(fast: Path, name: str, more: tuple[str, ...], text: str) -> None:
    """With what to do instead."""
    result = by_signals(fast, name, "refused", "--fast", *more)
    assert result.exit_code == 2
    assert text in result.output


def started(home: Path, out: str, *more: object) -> "subprocess.Popen[bytes]":
    """Return a sweep in a process group of its own."""
    command = [sys.executable, "-m", "crossmargin_bt.cli", *map(str, words(home, out, *more))]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for_parts(process: "subprocess.Popen[bytes]", folder: Path, count: int) -> None:
    """Wait until a sweep has written this many files of rows."""
    wait_until(lambda: len(list((folder / "parts").glob("*.parquet"))) >= count, process)


GRID = ("--param", "period=3:12:3", "--param", "leverage=2,10", "--param", "size=0.5,2")


def test_joblib_dask_and_a_plain_loop_give_the_same_rows(home: Path) -> None:
    """Byte for byte, in the sweep's order; 4 x 2 x 2 combinations in two modes."""
    plain = swept(home, "plain", *GRID, "--jobs", 1)
    swept(home, "joblib", *GRID, "--jobs", 2)
    process = started(home, "dask", *GRID, "--jobs", 2, "--dask", "local")
    _, said = process.communicate(timeout=GENEROUS_S)
    assert process.returncode == 0, said
    bytes_of = [(home / name / "results.parquet").read_bytes() for name in ("plain", "joblib", "dask")]
    assert bytes_of[0] == bytes_of[1] == bytes_of[2]
    assert len(plain) == 32
    assert plain["key"].is_unique
    assert (plain["error"] == "").all()
    assert plain["param_period"].tolist()[:5] == [3, 3, 3, 3, 6]
    assert not list((home / "plain" / "parts").iterdir())


def test_a_row_is_what_a_run_alone_comes_to(home: Path) -> None:
    """Figures of a row are those of the same run by itself."""
    table = swept(home, "plain", *GRID, "--jobs", 1)
    row = table[
        (table["mode"] == "cross") & (table.param_period == 9) & (table.param_leverage == 10) & (table.param_size == 2)
    ]
    candles = folders.read(home / "data")
    spec = load(str(home / "cross.py")).given({"period": 9, "size": 2})
    alone = run(spec, candles, venue="generic", mode="cross", settings=Settings(cash=40_000.0, leverage=10.0))
    figures = rows.figures_of(alone)
    assert row.iloc[0][list(figures)].to_dict() == pytest.approx(figures, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("jobs", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_a_sweep_killed_midway_goes_on_with_what_is_left(home: Path, jobs: int) -> None:
    """500 combinations, SIGKILL to all its processes: the rows are those of an undisturbed sweep, and none is run twice."""
    grid = ["--param", "period=3:52:1", "--param", "size=0.2:2.0:0.2", "--modes", "cross", "--end", "2025-01-05"]
    whole = home / "whole" / "results.parquet"
    if not whole.exists():
        swept(home, "whole", *grid, "--jobs", 2)
    killed = home / f"killed{jobs}"
    command = [sys.executable, "-m", "crossmargin_bt.cli", *map(str, words(home, killed.name, *grid, "--jobs", jobs))]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parts = killed / "parts"
    wait_for_parts(process, killed, 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = {row.key for file in parts.glob("*.parquet") for row in store.read(file)}
    assert 0 < len(kept) < 500
    result = crossmargin(*words(home, killed.name, *grid, "--jobs", jobs))
    assert result.exit_code == 0, result.output
    assert f"{len(kept)} of 500 were kept" in result.stderr
    assert (killed / "results.parquet").read_bytes() == whole.read_bytes()
    assert len(pq.read_table(whole)) == 500
    assert not list(parts.iterdir())


def test_a_killed_dask_worker_loses_nothing(home: Path) -> None:
    """A cluster of two workers, one killed midway: all rows, each once, and the same."""
    grid = ["--param", "period=3:22:1", "--param", "size=0.2:1.0:0.2", "--modes", "cross", "--jobs", 2]
    swept(home, "calm", *grid)
    process = started(home, "harmed", *grid, "--dask", "local")
    wait_for_parts(process, home / "harmed", 1)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    max(children, key=lambda child: child.cpu_times().user).kill()  # the busiest is a worker
    _, said = process.communicate(timeout=GENEROUS_S)
    assert process.returncode == 0, said
    assert (home / "harmed" / "results.parquet").read_bytes() == (home / "calm" / "results.parquet").read_bytes()
    assert len(pq.read_table(home / "calm" / "results.parquet")) == 100


def test_a_failing_combination_is_a_row(home: Path) -> None:
    """An error in the strategy and a process that dies end one run each; --again runs them again."""
    grid = ("--param", "bad=0,1,2", "--param", "poison=0,1", "--modes", "cross", "--end", "2025-01-04", "--jobs", 2)
    table = swept(home, "failing", *grid).set_index(["param_bad", "param_poison"])
    assert table.loc[(0, 0), "error"] == ""
    assert "ValueError: bad is 1 (line" in table.loc[(1, 0), "error"]
    assert "its process died" in table.loc[(0, 1), "error"]
    assert "SystemExit" in table.loc[(2, 0), "error"]
    assert table.loc[(1, 0), ["final_equity", "sharpe"]].isna().all()
    text = (home / "failing" / "report.html").read_text(encoding="utf-8")
    assert "5 of 6 runs failed" in text
    again = crossmargin(*words(home, "failing", *grid))
    assert "6 of 6 were kept" in again.stderr
    again = crossmargin(*words(home, "failing", *grid, "--again"))
    assert "1 of 6 were kept" in again.stderr


def test_a_wider_grid_runs_only_what_is_new(home: Path) -> None:
    """Values and modes may be added to a sweep; what it loses by a narrower one is kept."""
    one = ("--param", "period=3,6", "--modes", "cross", "--end", "2025-01-05", "--jobs", 1)
    swept(home, "wider", *one)
    wider = crossmargin(*words(home, "wider", "--param", "period=3,6,9", *one[2:3], "cross,isolated", *one[4:]))
    assert "2 of 6 were kept" in wider.stderr
    assert len(swept(home, "wider", *one)) == 2
    assert (
        "6 of 6 were kept"
        in crossmargin(*words(home, "wider", "--param", "period=3,6,9", *one[2:3], "cross,isolated", *one[4:])).stderr
    )
    dearer = crossmargin(*words(home, "wider", *one), "--cash", 30_000)
    assert "0 of 2 were kept" in dearer.stderr


@pytest.mark.parametrize("objective", ["return", "return,margin_level"])
def test_a_learning_search_is_the_same_on_any_number_of_processes(home: Path, objective: str) -> None:
    """Optuna on one process and on two, and taken up again after it lost half of its rows."""
    search = (
        "--param",
        "period=3:40:1",
        "--param",
        "size=0.1..3",
        "--search",
        "optuna",
        "--trials",
        12,
        "--objective",
        objective,
    )
    name = f"learn{len(objective)}"
    swept(home, name, *search, "--jobs", 1)
    whole = (home / name / "results.parquet").read_bytes()
    swept(home, f"{name}b", *search, "--jobs", 2)
    assert (home / f"{name}b" / "results.parquet").read_bytes() == whole
    table = pq.read_table(home / name / "results.parquet")
    pq.write_table(
        table.slice(0, 13).drop_columns(["param_period", "param_size"]), home / name / "parts" / "000001.parquet"
    )
    (home / name / "results.parquet").unlink()
    result = crossmargin(*words(home, name, *search, "--jobs", 1))
    assert result.exit_code == 0, result.output
    assert (home / name / "results.parquet").read_bytes() == whole


def test_a_learning_search_beats_chance(home: Path) -> None:
    """Over the same number of combinations its best is no worse than that of a random search."""
    space_ = ("--param", "period=3:60:1", "--param", "size=0.05..3", "--modes", "cross", "--trials", 40, "--jobs", 2)
    learned = swept(home, "learned", *space_, "--search", "optuna")
    drawn = swept(home, "drawn", *space_, "--search", "random")
    assert learned.total_return.max() >= drawn.total_return.max()
    assert learned.total_return.tail(16).median() > drawn.total_return.median()


def test_walk_forward_trades_what_it_chose(home: Path) -> None:
    """Windows of eight and four days: three of them; out of sample is the best of in sample, on the days that follow."""
    table = swept(home, "walk", "--param", "period=3:12:3", "--modes", "cross", "--walk-forward", "8d/4d", "--jobs", 2)
    assert Counter(table["sample"]) == {"in": 12, "out": 3}
    for window in (1, 2, 3):
        inside = table[(table["window"] == window) & (table["sample"] == "in")]
        after = table[(table["window"] == window) & (table["sample"] == "out")].iloc[0]
        assert after.param_period == inside.loc[inside.total_return.idxmax()].param_period
    text = (home / "walk" / "report.html").read_text(encoding="utf-8")
    grown = (1 + table[table["sample"] == "out"].total_return).prod() - 1
    assert (
        f"cross: what was best by return in 3 windows returned {grown:+.1%} in all on the candles that followed" in text
    )
    assert "Out of sample return was worse than in sample in" in text
    candles = folders.read(home / "data")
    start = candles[0].frame.index[0]
    first, last = start + pd.Timedelta(days=8), start + pd.Timedelta(days=12)
    spec = load(str(home / "cross.py")).given({"period": int(after.param_period) if window == 1 else 3})
    alone = run(
        spec, [one._replace(frame=one.frame.loc[start : last - pd.Timedelta(1, "ms")]) for one in candles],
        venue="generic", mode="cross", settings=Settings(cash=40_000.0), trade_from_ms=int(first.timestamp() * 1000),
    )  # fmt: skip
    assert alone.times_ms[0] == int(first.timestamp() * 1000)
    assert len(alone.times_ms) == 4 * 24


class Watcher(bt.Strategy):
    """Says on which bars it is called, and with which average."""

    params = (("period", 5), ("prenext_calls_next", False))
    seen: list[tuple[str, int, float]] = []  # noqa: RUF012

    def __init__(self):
        self.average = bt.ind.SMA(self.data.close, period=self.p.period)

    def nextstart(self):
        self.seen.append(("nextstart", len(self), self.average[0]))

    def next(self):
        self.seen.append(("next", len(self), self.average[0]))

    def prenext(self):
        if self.p.prenext_calls_next:
            self.next()
        else:
            self.seen.append(("prenext", len(self), 0.0))

    def notify_cashvalue(self, cash, value):
        self.seen.append(("cash", len(self), 0.0))


@pytest.mark.parametrize("prenext_calls_next", [False, True])
@pytest.mark.parametrize(("period", "silent"), [(5, 0), (5, 10), (11, 10), (30, 10)])
def test_a_strategy_that_warms_up_is_not_called_before_its_time(
    home: Path, period: int, silent: int, prenext_calls_next: bool
) -> None:
    """Then it is called as it would have been, but that its nextstart comes on its first bar where it is past."""
    candles = [one._replace(frame=one.frame.iloc[:40]) for one in folders.read(home / "data")]
    start = int(candles[0].frame.index[silent].timestamp() * 1000)
    found = []
    for trade_from in (None, start):
        Watcher.seen = []
        spec = StrategySpec("Watcher", Watcher, {"period": period, "prenext_calls_next": prenext_calls_next})
        run(spec, candles, venue="generic", mode="cross", settings=Settings(), trade_from_ms=trade_from)
        found.append([call for call in Watcher.seen if call[1] > silent])
    usual, warmed = found
    if period <= silent:
        usual = [
            ("nextstart" if call == ("next", silent + 1) else call[0], *rest)
            for call, rest in ((c[:2], c[1:]) for c in usual)
        ]
    assert repr(warmed) == repr(usual)
    assert Counter(name for name, _, _ in warmed)["nextstart"] == 1


class Signalled(bt.SignalStrategy):
    """One of backtrader's own, whose metaclass takes its next over."""

    def __init__(self):
        self.signal_add(bt.SIGNAL_LONG, self.data.close - bt.ind.SMA(self.data.close, period=5))


def test_a_signal_strategy_does_not_trade_before_its_time(home: Path) -> None:
    """No fill before its time, some after."""
    candles = folders.read(home / "data")
    start = int(candles[0].frame.index[200].timestamp() * 1000)
    found = run(
        StrategySpec("Signalled", Signalled), candles, venue="generic", mode="cross", settings=Settings(cash=400_000.0),
        trade_from_ms=start,
    )  # fmt: skip
    times = [entry["time_ms"] for entry in found.journal if entry["event"] == "Filled"]
    assert min(times) > start
    assert found.fills == len(times) > 10


LEAKING = """
import backtrader as bt
import helper


class Leaking(bt.Strategy):
    params = (("n", 1),)
    seen = []

    def next(self):
        self.seen.append(1)
        if len(self.seen) == 3:
            self.buy(size=helper.SIZE)
"""


def test_runs_leave_nothing_behind_and_modules_beside_the_strategy_count(home: Path, tmp_path: Path) -> None:
    """A list on the class is new for every run; a changed module that the file imports makes its runs anew."""
    folder = tmp_path / "strategy"
    folder.mkdir()
    (folder / "leaking.py").write_text(LEAKING, encoding="utf-8")
    found = []
    for size in (1, 1, 2):
        (folder / "helper.py").write_text(f"SIZE = {size}\n", encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "crossmargin_bt.cli",
            "sweep",
            folder / "leaking.py",
            "--data",
            home / "data",
            "--param",
            "n=1:4:1",
        ]
        out = ["--out", tmp_path / "out", "--cash", "100000", "--jobs", "2", "--end", "2025-01-04", "--modes", "cross"]
        done = subprocess.run([*map(str, [*command, *out])], capture_output=True, text=True, check=True)
        table = pq.read_table(tmp_path / "out" / "results.parquet").to_pandas()
        assert table.fills.tolist() == [1.0] * 4
        found.append((table.fees.unique().tolist(), "4 of 4 were kept" in done.stderr))
    (first, _), (second, kept), (third, kept_after) = found
    assert kept
    assert not kept_after
    assert second == first
    assert third == pytest.approx([2 * first[0]])


def test_symbols_are_the_same_in_every_window(tmp_path: Path, home: Path) -> None:
    """A walk forward lies where all have candles, and refuses a window in which one has none."""
    hour, day = 3_600_000, 86_400_000
    late = {"A": range(5 * day, 20 * day, hour), "B": range(0, 18 * day, hour)}
    found = plan.windows(late, (4 * day, 2 * day))
    assert (found[0][0].start_ms, found[-1][1].end_ms) == (5 * day, 17 * day)
    holed = {"A": [*range(0, 4 * day, hour), *range(8 * day, 20 * day, hour)], "B": range(0, 20 * day, hour)}
    with pytest.raises(FeedError, match="A has no candles from 1970-01-05 00:00 to 1970-01-07 00:00"):
        plan.windows(holed, (4 * day, 2 * day))


def test_nothing_is_chosen_where_the_objective_is_undefined(home: Path) -> None:
    """Cash mode has no margin level: no out-of-sample run, and the report says so."""
    words_ = (
        "--param",
        "period=3,6",
        "--modes",
        "cash,cross",
        "--objective",
        "margin_level",
        "--walk-forward",
        "8d/4d",
        "--jobs",
        2,
    )
    table = swept(home, "undefined", *words_)
    assert set(table[table["sample"] == "out"]["mode"]) == {"cross"}
    assert "In 3 windows and modes nothing was chosen" in (home / "undefined" / "report.html").read_text(
        encoding="utf-8"
    )


def test_values_that_json_does_not_tell_apart_are_runs_of_their_own(home: Path) -> None:
    """None, infinity, what is no number, 1 and true; and a whole number no column holds."""
    odd = "bad=none,nan,inf,-inf,true,1.5,100000000000000000000"
    table = swept(home, "odd", "--param", odd, "--modes", "cross", "--end", "2025-01-04", "--jobs", 1)
    assert len(table) == 7
    assert (
        "7 of 7 were kept"
        in crossmargin(
            *words(home, "odd", "--param", odd, "--modes", "cross", "--end", "2025-01-04", "--jobs", 1)
        ).stderr
    )


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("engine", "name"),
    in_rotation([["--jobs", 2], ["--jobs", 2, "--dask", "local"]], ["terminate", "interrupt"]),
    ids=str,
)
def test_a_sweep_that_is_asked_to_stop_keeps_its_rows(home: Path, name: str, engine: list[object]) -> None:
    """In one line, and no process stays."""
    grid = ("--param", "period=3:102:1", "--param", "size=0.2:2.0:0.2", "--modes", "cross")
    out = f"{name}{len(engine)}"
    process = started(home, out, *grid, *engine)
    wait_for_parts(process, home / out, 1)
    children = psutil.Process(process.pid).children(recursive=True)
    if name == "interrupt":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    else:
        process.terminate()
    _, said = process.communicate(timeout=GENEROUS_S)
    assert process.returncode == 130, said
    assert b"runs are kept in" in said
    assert b"Traceback" not in said
    _, alive = psutil.wait_procs(children, timeout=GENEROUS_S)
    assert not alive
    assert {row.key for file in (home / out / "parts").glob("*.parquet") for row in store.read(file)}


def test_a_folder_with_strange_files_says_so(home: Path) -> None:
    """A part under another name is read; a broken file is named; a full disk too."""
    one = ("--param", "period=3,6", "--modes", "cross", "--end", "2025-01-04", "--jobs", 1)
    swept(home, "strange", *one)
    parts = home / "strange" / "parts"
    (home / "strange" / "results.parquet").rename(parts / "000001 (copy).parquet")
    assert "2 of 2 were kept" in crossmargin(*words(home, "strange", *one)).stderr
    (parts / "000007.parquet").write_bytes(b"PAR1 nonsense")
    broken = crossmargin(*words(home, "strange", *one))
    assert broken.exit_code == 2
    assert "000007.parquet is no readable file of a sweep" in broken.stderr


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--param", "perod=1,2"), "did you mean 'period'?"),
        (("--param", "period"), "says no values"),
        (("--param", "period=,"), "says no values"),
        (("--param", "period=0:1e9999999:1"), "is no number"),
        (("--param", "period=1:100000:1", "--param", "size=1:100000:1"), "is more than 1,000,000"),
        (("--param", "period=3:1"), "the end not below the start"),
        (("--param", "period=3:x"), "'x' is no number"),
        (("--param", "period=1,1"), "names a value twice"),
        (("--param", "period=1..5"), "a grid needs values"),
        (("--param", "period=5..5", "--search", "random"), "5 is not below 5"),
        (("--param", "period=1,2", "--param", "period=3"), "given twice"),
        (("--param", "period=1,2", "--objective", "retrun"), "did you mean 'return'?"),
        (("--param", "period=1,2", "--objective", "return,sharpe,calmar"), "takes one or two of"),
        (("--param", "period=1,2", "--search", "genetic"), "unknown search 'genetic'"),
        (("--param", "period=1,2", "--walk-forward", "8d"), "write in-sample/out-of-sample"),
        (("--param", "period=1,2", "--walk-forward", "800d/10d"), "shorter than one in-sample"),
        (("--param", "period=1,2", "--trials", "0"), "--trials is 1 or more"),
        (("--param", "period=1,2", "--dask", "tcp://127.0.0.1:9"), "no dask scheduler answers"),
    ],
)
def test_a_wrong_sweep_says_what_to_do(home: Path, more: tuple[object, ...], text: str) -> None:
    """In one line, before anything runs."""
    if "--dask" in more:
        from crossmargin_bt.sweep import engines  # noqa: PLC0415

        engines.CONNECT_SECONDS = 1
    result = crossmargin(*words(home, "wrong", *more))
    assert result.exit_code == 2
    assert text in result.stderr


def test_two_sweeps_do_not_share_a_folder(home: Path) -> None:
    """The second is told so."""
    with store.Store(home / "shared"):
        result = crossmargin(*words(home, "shared", "--param", "period=3,6"))
    assert result.exit_code == 2
    assert "another sweep is at work" in result.stderr


def test_the_command_in_the_report_runs_the_best_alone(home: Path) -> None:
    """Its numbers are to the last digit, so it ends where its row does."""
    drawn = (
        "--param",
        "period=3:9:1",
        "--param",
        "size=0.1..2",
        "--param",
        "leverage=2,5",
        "--search",
        "random",
        "--trials",
        9,
    )
    table = swept(home, "command", *drawn, "--jobs", 1, "--end", "2025-01-10")
    text = (home / "command" / "report.html").read_text(encoding="utf-8")
    command = shlex.split(html.unescape(text.partition("<pre>crossmargin ")[2].partition("</pre>")[0]))
    result = crossmargin(*command, "--json", home / "alone.json")
    assert result.exit_code == 0, result.output
    alone = files.read(home / "alone.json").runs[0].summary
    assert alone.total_return == pytest.approx(table.total_return.max(), rel=1e-9)


def test_a_sweep_in_which_all_fails_does_not_end_well(home: Path) -> None:
    """Its rows and report are written, and the program says so."""
    result = crossmargin(*words(home, "allbad", "--param", "bad=1", "--modes", "cross", "--jobs", 1))
    assert result.exit_code == 2
    assert "all of 1 runs failed; the first: Cross failed: ValueError: bad is 1 (line" in result.stderr
    assert (home / "allbad" / "report.html").exists()


@needs_chromium
def test_a_browser_draws_the_report_of_a_sweep(home: Path) -> None:
    """Maps, survival, where cross pays and the front of two objectives; the best row is that of the Parquet file."""
    table = swept(home, "drawn2", *GRID, "--jobs", 2, "--objective", "return,margin_level")
    with opened(home / "drawn2" / "report.html", width=390) as browser:
        assert browser.draw_all() == 6
        assert browser.complaints == []
        assert len(browser.requests) == 1
        best = (
            browser.page.locator("h2", has_text="The best by return")
            .locator("..")
            .locator("tbody tr")
            .first.inner_text()
        )
        assert f"{table.total_return.max():+.1%}" in best
        assert browser.page.evaluate("document.documentElement.scrollWidth") <= 390


@given(st.integers(1, 30), st.integers(0, 2**32))
def test_a_random_search_draws_different_combinations(count: int, seed: int) -> None:
    """As many as asked for, or all there are; the same for the same seed."""
    axes = [space.Axis("a", (1, 2, 3)), space.Axis("b", (1, 2, 3, 4))]
    drawn = space.sample(axes, count, seed)
    assert len(drawn) == min(count, 12)
    assert len({repr(params) for params in drawn}) == len(drawn)
    assert drawn == space.sample(axes, count, seed)


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=30))
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    """Against looking at every pair."""
    aims = rows.objectives("return,drawdown")
    given_ = [
        rows.Row(
            key=str(n), venue="", mode="", params={}, window=0, sample="", figures={"total_return": a, "drawdown_max": b}
        )
        for n, (a, b) in enumerate(points)
    ]  # fmt: skip

    def beats(p: tuple[float, float], q: tuple[float, float]) -> bool:
        return p != q and p[0] >= q[0] and p[1] <= q[1]

    expected = {str(n) for n, point in enumerate(points) if not any(beats(other, point) for other in points)}
    assert {row.key for row in rows.front(given_, aims)} == expected


def test_windows_follow_one_another() -> None:
    """Ten days of hours in windows of 4 and 2: three, each out-of-sample one where the one before ended."""
    hour, day = 3_600_000, 86_400_000
    found = plan.windows({"COIN": [n * hour for n in range(240)]}, (4 * day, 2 * day))
    assert [(a.start_ms // day, a.end_ms // day, b.end_ms // day, b.trade_from_ms // day) for a, b in found] == [
        (0, 4, 6, 4), (2, 6, 8, 6), (4, 8, 10, 8),
    ]  # fmt: skip


def test_the_duel_names_where_it_turns() -> None:
    """By hand: cross ends higher at both combinations of 10x and at neither of 2x."""

    def row(mode: str, leverage: int, size: int, final: float) -> rows.Row:
        figures = {"final_equity": final, "total_return": final / 100 - 1, "liquidations": 0.0, "drawdown_max": 0.1}
        params = {"leverage": leverage, "size": size}
        return rows.Row(
            key=f"{mode}{leverage}{size}", venue="okx", mode=mode, params=params, window=0, sample="", figures=figures
        )

    ends = {(2, 1): (90.0, 95.0), (2, 2): (80.0, 80.0 - 1e-11), (10, 1): (120.0, 100.0), (10, 2): (130.0, 100.0)}
    given_ = [row(mode, *at, pair[n]) for at, pair in ends.items() for n, mode in enumerate(("cross", "isolated"))]
    axes = [space.Axis("leverage", (2, 10)), space.Axis("size", (1, 2))]
    lines = words_of.answers(given_, rows.objectives("return"), axes)
    assert lines[0] == "Best by return: cross with leverage=10 size=2, return +30.0%, drawdown 10.0%, liquidations: 0."
    assert lines[-1] == (
        "Cross ends higher than isolated in 50% of 4 combinations and lower in 25%, by +11.25 on average; "
        "most often with leverage at 10 (100%), least often at 2 (0%)."
    )


@pytest.mark.parametrize("width", [80, 160])
def test_long_params_are_never_broken(width: int) -> None:
    """Beside the figures where they fit, numbered below them where they do not."""
    listed = Listed("best", ("mode", *(f"figure {n}" for n in range(5))), ("mode",))
    params = [f"fast_average_period={n} slow_average_period=240" for n in (5, 10)]
    for one in params:
        listed.add(("cross", *["1.00"] * 5), one)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(listed)
    lines = [line.strip() for line in console.export_text().splitlines()]
    told = [line for line in lines if "period" in line]
    if width == 80:
        assert told == [f"{n}  {one}" for n, one in enumerate(params, 1)]
        assert [line.split()[:2] for line in lines if "1.00" in line] == [["1", "cross"], ["2", "cross"]]
    else:
        assert [line.endswith(one) and line.startswith("cross") for line, one in zip(told, params, strict=True)] == [
            True,
            True,
        ]
