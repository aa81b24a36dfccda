"""Sweeps: the same rows on every executor, after crashes and after a resume."""

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
from crossmargin_bt.candles.synthetic import generate_candles
from crossmargin_bt.cli import commands
from crossmargin_bt.compare import Settings, StrategySpec, load, run
from crossmargin_bt.errors import FeedError
from crossmargin_bt.report import files
from crossmargin_bt.sweep import plan, rows, search_space, store, summary
from crossmargin_bt.sweep.table import RunTable

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
    generate_candles()["SIMBTC"].iloc[: 20 * 24].to_parquet(folder / "data" / "COIN.parquet")
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
        frame = pd.DataFrame({"close": np.frombuffer(self.data.p.columns["close"])})
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
def test_signals_give_the_figures_of_a_strategy_that_follows_them(fast: Path, walk: tuple[str, ...]) -> None:
    """All figures of a batch are identical, including warm-ups and sizes that are refused or liquidated."""
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
    """Differences are printed."""
    same = by_signals(fast, "Fast", "same", "--fast")
    assert "the best combination run bar by bar is identical: return" in same.output
    other = fast.with_name("other.py")
    other.write_text(FAST.replace("size, -size) *", "size, -2 * size) *"), encoding="utf-8")
    told = by_signals(other, "Fast", "other", "--fast").output
    assert "trade differently: final equity " in " ".join(told.split())


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
            "no table of tiers by value (venue hyperliquid); use the broker, a sweep without --fast",
        ),
        ("Broken", (), "Broken.signals returned str, which is not numeric"),
        ("Exits", (), "Exits.signals failed: SystemExit"),
        ("Nothing", (), "which is not an array of sizes"),
        ("Short", (), "returned the shape (3,) for 480 bars of 1 markets; return a size for every bar"),
        ("Fast", ("--modes", "cash"), "--fast supports the modes isolated, cross"),
        ("Fast", ("--slippage", "0.001"), "--fast does not support slippage"),
        ("Fast", ("--objective", "margin_level"), "--fast does not provide margin_level"),
    ],
)
def test_unsupported_signal_sweeps_are_refused(fast: Path, name: str, more: tuple[str, ...], text: str) -> None:
    """The message says what to do instead."""
    result = by_signals(fast, name, "refused", "--fast", *more)
    assert result.exit_code == 2
    assert text in result.output


def started(home: Path, out: str, *more: object) -> "subprocess.Popen[bytes]":
    """Return a sweep in a process group of its own."""
    command = [sys.executable, "-m", "crossmargin_bt.cli", *map(str, words(home, out, *more))]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for_parts(process: "subprocess.Popen[bytes]", folder: Path, count: int) -> None:
    """Wait until a sweep has written `count` files of rows."""
    wait_until(lambda: len(list((folder / "parts").glob("*.parquet"))) >= count, process)


GRID = ("--param", "period=3,9", "--param", "leverage=2,10", "--param", "size=0.5,2")


def test_all_executors_give_the_same_rows(home: Path) -> None:
    """Byte for byte, in the order of the sweep; 2 x 2 x 2 combinations in two modes."""
    plain = swept(home, "plain", *GRID, "--jobs", 1)
    swept(home, "joblib", *GRID, "--jobs", 2)
    process = started(home, "dask", *GRID, "--jobs", 2, "--dask", "local")
    _, said = process.communicate(timeout=GENEROUS_S)
    assert process.returncode == 0, said
    bytes_of = [(home / name / "results.parquet").read_bytes() for name in ("plain", "joblib", "dask")]
    assert bytes_of[0] == bytes_of[1] == bytes_of[2]
    assert len(plain) == 16
    assert plain["key"].is_unique
    assert (plain["error"] == "").all()
    assert plain["param_period"].tolist()[:5] == [3, 3, 3, 3, 9]
    assert not list((home / "plain" / "parts").iterdir())


def test_a_row_has_the_figures_of_a_single_run(home: Path) -> None:
    """The figures of a row equal those of the same run outside a sweep."""
    table = swept(home, "plain", *GRID, "--jobs", 1)
    row = table[
        (table["mode"] == "cross") & (table.param_period == 9) & (table.param_leverage == 10) & (table.param_size == 2)
    ]
    candles = folders.read(home / "data")
    spec = load(str(home / "cross.py")).with_params({"period": 9, "size": 2})
    alone = run(spec, candles, venue="generic", mode="cross", settings=Settings(cash=40_000.0, leverage=10.0))
    figures = rows.figures_of(alone)
    assert row.iloc[0][list(figures)].to_dict() == pytest.approx(figures, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("jobs", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_sweep_resumes_with_the_remaining_runs(home: Path, jobs: int) -> None:
    """300 combinations, SIGKILL to all processes: the rows are those of an uninterrupted sweep, and no run is repeated."""
    grid = ["--param", "period=3:32:1", "--param", "size=0.2:2.0:0.2", "--modes", "cross", "--end", "2025-01-05"]
    whole = home / "whole" / "results.parquet"
    if not whole.exists():
        swept(home, "whole", *grid, "--jobs", 2)
    killed = home / f"killed{jobs}"
    command = [sys.executable, "-m", "crossmargin_bt.cli", *map(str, words(home, killed.name, *grid, "--jobs", jobs))]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parts = killed / "parts"
    wait_for_parts(process, killed, 1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = {row.key for file in parts.glob("*.parquet") for row in store.read_rows(file)}
    assert 0 < len(kept) < 300
    result = crossmargin(*words(home, killed.name, *grid, "--jobs", jobs))
    assert result.exit_code == 0, result.output
    assert f"{len(kept)} of 300 runs are stored" in result.stderr
    assert (killed / "results.parquet").read_bytes() == whole.read_bytes()
    assert len(pq.read_table(whole)) == 300
    assert not list(parts.iterdir())


def test_a_killed_dask_worker_loses_nothing(home: Path) -> None:
    """A cluster of two workers, one of them killed: every row is present once and unchanged."""
    grid = ["--param", "period=3:14:1", "--param", "size=0.2:1.0:0.2", "--modes", "cross", "--jobs", 2]
    swept(home, "whole_walk", *grid)
    process = started(home, "harmed", *grid, "--dask", "local")
    wait_for_parts(process, home / "harmed", 1)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    max(children, key=lambda child: child.cpu_times().user).kill()  # the busiest is a worker
    _, said = process.communicate(timeout=GENEROUS_S)
    assert process.returncode == 0, said
    assert (home / "harmed" / "results.parquet").read_bytes() == (home / "whole_walk" / "results.parquet").read_bytes()
    assert len(pq.read_table(home / "whole_walk" / "results.parquet")) == 60


def test_a_failing_combination_is_a_row(home: Path) -> None:
    """An error in the strategy and a dying process each fail one run; --again repeats them."""
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
    assert "6 of 6 runs are stored" in again.stderr
    again = crossmargin(*words(home, "failing", *grid, "--again"))
    assert "1 of 6 runs are stored" in again.stderr


def test_a_wider_grid_runs_only_new_combinations(home: Path) -> None:
    """Values and modes can be added to a sweep; rows outside a narrower grid are preserved."""
    one = ("--param", "period=3,6", "--modes", "cross", "--end", "2025-01-05", "--jobs", 1)
    swept(home, "wider", *one)
    wider = crossmargin(*words(home, "wider", "--param", "period=3,6,9", *one[2:3], "cross,isolated", *one[4:]))
    assert "2 of 6 runs are stored" in wider.stderr
    assert len(swept(home, "wider", *one)) == 2
    assert (
        "6 of 6 runs are stored"
        in crossmargin(*words(home, "wider", "--param", "period=3,6,9", *one[2:3], "cross,isolated", *one[4:])).stderr
    )
    other_cash = crossmargin(*words(home, "wider", *one), "--cash", 30_000)
    assert "0 of 2 runs are stored" in other_cash.stderr


@pytest.mark.parametrize("objective", ["return,margin_level", pytest.param("return", marks=pytest.mark.slow)])
def test_an_optuna_search_is_deterministic(home: Path, objective: str) -> None:
    """On one process, on two, and when resumed after half of its rows are lost."""
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


def test_an_optuna_search_beats_a_random_search(home: Path) -> None:
    """With the same number of combinations its best is at least that of a random search."""
    space_ = ("--param", "period=3:60:1", "--param", "size=0.05..3", "--modes", "cross", "--trials", 40, "--jobs", 2)
    learned = swept(home, "learned", *space_, "--search", "optuna")
    drawn = swept(home, "drawn", *space_, "--search", "random")
    assert learned.total_return.max() >= drawn.total_return.max()
    assert learned.total_return.tail(16).median() > drawn.total_return.median()


def test_walk_forward_trades_the_selected_combination(home: Path) -> None:
    """Three windows of eight and four days; out of sample the best in-sample combination runs on the following days."""
    table = swept(home, "walk", "--param", "period=3:12:3", "--modes", "cross", "--walk-forward", "8d/4d", "--jobs", 2)
    assert Counter(table["sample"]) == {"in": 12, "out": 3}
    for window in (1, 2, 3):
        inside = table[(table["window"] == window) & (table["sample"] == "in")]
        after = table[(table["window"] == window) & (table["sample"] == "out")].iloc[0]
        assert after.param_period == inside.loc[inside.total_return.idxmax()].param_period
    text = (home / "walk" / "report.html").read_text(encoding="utf-8")
    grown = (1 + table[table["sample"] == "out"].total_return).prod() - 1
    assert f"cross: the best by return of each of 3 windows returned {grown:+.1%} in total out of sample" in text
    assert "Out of sample return was worse than in sample in" in text
    candles = folders.read(home / "data")
    start = candles[0].frame.index[0]
    first, last = start + pd.Timedelta(days=8), start + pd.Timedelta(days=12)
    spec = load(str(home / "cross.py")).with_params({"period": int(after.param_period) if window == 1 else 3})
    alone = run(
        spec, [one._replace(frame=one.frame.loc[start : last - pd.Timedelta(1, "ms")]) for one in candles],
        venue="generic", mode="cross", settings=Settings(cash=40_000.0), trade_from_ms=int(first.timestamp() * 1000),
    )  # fmt: skip
    assert alone.times_ms[0] == int(first.timestamp() * 1000)
    assert len(alone.times_ms) == 4 * 24


class Watcher(bt.Strategy):
    """Records the bars on which it is called, and the average."""

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
def test_a_strategy_is_not_called_during_warm_up(
    home: Path, period: int, silent: int, prenext_calls_next: bool
) -> None:
    """Afterwards it is called as usual, except that a nextstart missed in the warm-up comes on the first bar."""
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
    """A SignalStrategy, whose metaclass replaces `next`."""

    def __init__(self):
        self.signal_add(bt.SIGNAL_LONG, self.data.close - bt.ind.SMA(self.data.close, period=5))


def test_a_signal_strategy_does_not_trade_during_warm_up(home: Path) -> None:
    """No fill during the warm-up, some afterwards."""
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


def test_runs_share_no_state_and_imported_modules_are_part_of_the_key(home: Path, tmp_path: Path) -> None:
    """A list on the class is new for every run; runs are repeated when an imported module changes."""
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
        found.append((table.fees.unique().tolist(), "4 of 4 runs are stored" in done.stderr))
    (first, _), (second, kept), (third, kept_after) = found
    assert kept
    assert not kept_after
    assert second == first
    assert third == pytest.approx([2 * first[0]])


def test_windows_cover_the_period_common_to_all_symbols(tmp_path: Path, home: Path) -> None:
    """A window in which a symbol has no candles is refused."""
    hour, day = 3_600_000, 86_400_000
    late = {"A": range(5 * day, 20 * day, hour), "B": range(0, 18 * day, hour)}
    found = plan.walk_forward_windows(late, (4 * day, 2 * day))
    assert (found[0][0].start_ms, found[-1][1].end_ms) == (5 * day, 17 * day)
    holed = {"A": [*range(0, 4 * day, hour), *range(8 * day, 20 * day, hour)], "B": range(0, 20 * day, hour)}
    with pytest.raises(FeedError, match="A has no candles from 1970-01-05 00:00 to 1970-01-07 00:00"):
        plan.walk_forward_windows(holed, (4 * day, 2 * day))


def test_nothing_is_selected_if_the_objective_is_undefined(home: Path) -> None:
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
    assert "In 3 windows and modes nothing was selected" in (home / "undefined" / "report.html").read_text(
        encoding="utf-8"
    )


def test_values_that_json_encodes_alike_are_separate_runs(home: Path) -> None:
    """None, infinities, NaN, True, and an integer too large for a column."""
    odd = "bad=none,nan,inf,-inf,true,1.5,100000000000000000000"
    table = swept(home, "odd", "--param", odd, "--modes", "cross", "--end", "2025-01-04", "--jobs", 1)
    assert len(table) == 7
    assert (
        "7 of 7 runs are stored"
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
def test_an_interrupted_sweep_stores_its_rows(home: Path, name: str, engine: list[object]) -> None:
    """With a one-line message, and no process is left."""
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
    assert b"runs are stored in" in said
    assert b"Traceback" not in said
    _, alive = psutil.wait_procs(children, timeout=GENEROUS_S)
    assert not alive
    assert {row.key for file in (home / out / "parts").glob("*.parquet") for row in store.read_rows(file)}


def test_unreadable_files_in_the_result_folder_are_reported(home: Path) -> None:
    """A renamed part is read; a broken file is named in the error."""
    one = ("--param", "period=3,6", "--modes", "cross", "--end", "2025-01-04", "--jobs", 1)
    swept(home, "strange", *one)
    parts = home / "strange" / "parts"
    (home / "strange" / "results.parquet").rename(parts / "000001 (copy).parquet")
    assert "2 of 2 runs are stored" in crossmargin(*words(home, "strange", *one)).stderr
    (parts / "000007.parquet").write_bytes(b"PAR1 nonsense")
    broken = crossmargin(*words(home, "strange", *one))
    assert broken.exit_code == 2
    assert "000007.parquet is not a readable file of a sweep" in broken.stderr


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--param", "perod=1,2"), "did you mean 'period'?"),
        (("--param", "period"), "has no values"),
        (("--param", "period=,"), "has no values"),
        (("--param", "period=0:1e9999999:1"), "is not a number"),
        (("--param", "period=1:100000:1", "--param", "size=1:100000:1"), "is more than 1,000,000"),
        (("--param", "period=3:1"), "the end not below the start"),
        (("--param", "period=3:x"), "'x' is not a number"),
        (("--param", "period=1,1"), "has a duplicate value"),
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
def test_invalid_sweep_options_are_one_line_errors(home: Path, more: tuple[object, ...], text: str) -> None:
    """Before anything runs."""
    if "--dask" in more:
        from crossmargin_bt.sweep import executors  # noqa: PLC0415

        executors.CONNECT_SECONDS = 1
    result = crossmargin(*words(home, "wrong", *more))
    assert result.exit_code == 2
    assert text in result.stderr


def test_two_sweeps_do_not_share_a_folder(home: Path) -> None:
    """The second one is refused."""
    with store.SweepStore(home / "shared"):
        result = crossmargin(*words(home, "shared", "--param", "period=3,6"))
    assert result.exit_code == 2
    assert "another sweep is running" in result.stderr


def test_the_command_in_the_report_runs_the_best_alone(home: Path) -> None:
    """Its numbers have full precision, so the run reproduces its row."""
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


def test_a_sweep_in_which_all_runs_fail_exits_with_an_error(home: Path) -> None:
    """Its rows and report are still written."""
    result = crossmargin(*words(home, "allbad", "--param", "bad=1", "--modes", "cross", "--jobs", 1))
    assert result.exit_code == 2
    assert "all of 1 runs failed; the first: Cross failed: ValueError: bad is 1 (line" in result.stderr
    assert (home / "allbad" / "report.html").exists()


@needs_chromium
def test_a_browser_draws_the_report_of_a_sweep(home: Path) -> None:
    """Heat maps, survival, cross against isolated and the Pareto front; the best row is that of the Parquet file."""
    table = swept(home, "drawn2", *GRID, "--jobs", 2, "--objective", "return,margin_level")
    with opened(home / "drawn2" / "report.html", width=390) as browser:
        assert browser.draw_all() == 6
        assert browser.complaints == []
        assert len(browser.requests) == 1
        best = (
            browser.page.locator("h2", has_text="Best by return").locator("..").locator("tbody tr").first.inner_text()
        )
        assert f"{table.total_return.max():+.1%}" in best
        assert browser.page.evaluate("document.documentElement.scrollWidth") <= 390


@given(st.integers(1, 30), st.integers(0, 2**32))
def test_a_random_search_draws_different_combinations(count: int, seed: int) -> None:
    """The requested number, or all if there are no more; deterministic for a seed."""
    axes = [search_space.Axis("a", (1, 2, 3)), search_space.Axis("b", (1, 2, 3, 4))]
    drawn = search_space.random_sample(axes, count, seed)
    assert len(drawn) == min(count, 12)
    assert len({repr(params) for params in drawn}) == len(drawn)
    assert drawn == search_space.random_sample(axes, count, seed)


# Figures equal to ten significant digits are tied, so the points differ in their first six decimals or not at all.
COORDINATES = st.floats(-9, 9).map(lambda number: round(number, 6))


@given(st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=30))
def test_the_pareto_front_has_no_dominated_row(points: list[tuple[float, float]]) -> None:
    """Compared with a brute-force check of all pairs."""
    objectives = rows.parse_objectives("return,drawdown")
    given_ = [
        rows.SweepRow(
            key=str(n), venue="", mode="", params={}, window=0, sample="", figures={"total_return": a, "drawdown_max": b}
        )
        for n, (a, b) in enumerate(points)
    ]  # fmt: skip

    def beats(p: tuple[float, float], q: tuple[float, float]) -> bool:
        return p != q and p[0] >= q[0] and p[1] <= q[1]

    expected = {str(n) for n, point in enumerate(points) if not any(beats(other, point) for other in points)}
    assert {row.key for row in rows.pareto_front(given_, objectives)} == expected


def test_out_of_sample_windows_are_contiguous() -> None:
    """Ten days of hourly candles in windows of 4 and 2 days: three pairs."""
    hour, day = 3_600_000, 86_400_000
    found = plan.walk_forward_windows({"COIN": [n * hour for n in range(240)]}, (4 * day, 2 * day))
    assert [(a.start_ms // day, a.end_ms // day, b.end_ms // day, b.trade_from_ms // day) for a, b in found] == [
        (0, 4, 6, 4), (2, 6, 8, 6), (4, 8, 10, 8),
    ]  # fmt: skip


def test_a_paired_comparison_names_the_most_sensitive_axis() -> None:
    """By hand: cross has the higher equity in both combinations of 10x and in neither of 2x."""

    def row(mode: str, leverage: int, size: int, final: float) -> rows.SweepRow:
        figures = {"final_equity": final, "total_return": final / 100 - 1, "liquidations": 0.0, "drawdown_max": 0.1}
        params = {"leverage": leverage, "size": size}
        return rows.SweepRow(
            key=f"{mode}{leverage}{size}", venue="okx", mode=mode, params=params, window=0, sample="", figures=figures
        )

    ends = {(2, 1): (90.0, 95.0), (2, 2): (80.0, 80.0 - 1e-11), (10, 1): (120.0, 100.0), (10, 2): (130.0, 100.0)}
    given_ = [row(mode, *at, pair[n]) for at, pair in ends.items() for n, mode in enumerate(("cross", "isolated"))]
    axes = [search_space.Axis("leverage", (2, 10)), search_space.Axis("size", (1, 2))]
    lines = summary.findings(given_, rows.parse_objectives("return"), axes)
    assert lines[0] == "Best by return: cross with leverage=10 size=2, return +30.0%, drawdown 10.0%, liquidations: 0."
    assert lines[-1] == (
        "Cross ends higher than isolated in 50% of 4 combinations and lower in 25%, by +11.25 on average; "
        "most often with leverage at 10 (100%), least often at 2 (0%)."
    )


@pytest.mark.parametrize("width", [80, 160])
def test_long_params_are_never_wrapped(width: int) -> None:
    """In a column if they fit, else numbered below the table."""
    listed = RunTable("best", ("mode", *(f"figure {n}" for n in range(5))), ("mode",))
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
