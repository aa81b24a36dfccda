# SPDX-License-Identifier: GPL-3.0-or-later
"""Valid files of every format, mutated: each is read as what it says, or refused in one line. Never a wrong frame.

A text file that is cut inside the last number of a line cannot be told from a whole one; cuts elsewhere are.
"""

from __future__ import annotations

import gzip
import random
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from market_files import FORMATS, candles, stamps

from crossmargin_bt.errors import CrossMarginError
from crossmargin_bt.readers.market_file import MarketTable, read_markets

COLUMNS = ["open", "high", "low", "close", "volume"]
TEXT = [name for name in FORMATS if "feather" not in name and "parquet" not in name and "json" not in name]

Truth = pd.DataFrame | None
"""The candles that a mutated file states; None if it has to be refused."""


def text_of(path: Path) -> str:
    """Return the text in a file, in whatever it is wrapped."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.read(archive.namelist()[0]).decode()
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return content.decode("utf-16" if content[:2] == b"\xff\xfe" else "utf-8")


def wrap(path: Path, text: str) -> None:
    """Write a text back as it was wrapped."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(path.stem + ".csv", text)
    else:
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def split(text: str) -> tuple[list[str], list[str]]:
    """Return the lines before the first row, and the rows."""
    lines = text.splitlines()
    first = next(n for n, line in enumerate(lines) if line.strip()[:1].isdigit() or line.startswith("BTC-USDT-SWAP,"))
    return lines[:first], lines[first:]


def shuffled(rng: random.Random, text: str, frame: pd.DataFrame) -> tuple[str, Truth]:
    """Rows in any order."""
    head, rows = split(text)
    return "\n".join([*head, *rng.sample(rows, len(rows))]) + "\n", frame


def repeated(rng: random.Random, text: str, frame: pd.DataFrame) -> tuple[str, Truth]:
    """Some rows twice."""
    head, rows = split(text)
    return "\n".join([*head, *rows, *rng.sample(rows, 5)]) + "\n", frame


def contradicted(rng: random.Random, text: str, _frame: pd.DataFrame) -> tuple[str, Truth]:
    """A row twice, the second time with the figures of another."""
    head, rows = split(text)
    mark = "\t" if "\t" in rows[0] else ";" if ";" in rows[0] else ","
    one, other = rng.sample(range(2, len(rows) - 2), 2)
    fields, others = rows[one].split(mark), rows[other].split(mark)
    timed = {
        n
        for n, (a, b, c) in enumerate(zip(rows[0].split(mark), rows[1].split(mark), rows[2].split(mark), strict=True))
        if _is_time(a, b, c)
    }
    mixed = [field if n in timed else others[n] for n, field in enumerate(fields)]
    return "\n".join([*head, *rows, mark.join(mixed)]) + "\n", None


def _is_time(*fields: str) -> bool:
    return all(len(field) >= 10 and field[:2] in ("20", "17") for field in fields) or all(
        ":" in field for field in fields
    )


def cut(rng: random.Random, text: str, frame: pd.DataFrame) -> tuple[str, Truth]:
    """The end is missing: whole lines are a shorter file, a part of a line is refused."""
    head, rows = split(text)
    kept = rng.randrange(3, len(rows))
    rows = rows[:kept]
    if rng.random() < 0.5:
        is_oldest_first = str(frame["volume"].iloc[0]) in rows[0]
        times = frame.index if is_oldest_first else frame.index[::-1]
        return "\n".join([*head, *rows]) + "\n", frame.loc[frame.index.isin(times[:kept])]
    mark = "\t" if "\t" in rows[0] else ";" if ";" in rows[0] else ","
    rows[-1] = mark.join(rows[-1].split(mark)[: rng.randrange(1, rows[-1].count(mark) + 1)])
    return "\n".join([*head, *rows]), None


def encoded(rng: random.Random, text: str, frame: pd.DataFrame) -> tuple[str, Truth]:
    """A byte-order mark, or line ends of Windows."""
    return ("\ufeff" + text if rng.random() < 0.5 else text.replace("\n", "\r\n")), frame


def spoiled(rng: random.Random, text: str, _frame: pd.DataFrame) -> tuple[str, Truth]:
    """A price that is no price."""
    head, rows = split(text)
    mark = "\t" if "\t" in rows[0] else ";" if ";" in rows[0] else ","
    n = rng.randrange(len(rows))
    fields = rows[n].split(mark)
    priced = [k for k, field in enumerate(fields) if _is_price(field)]
    fields[rng.choice(priced[:4])] = rng.choice(["", "nan", "-1.5", "0", "inf", "abc", "1" + "0" * 400, "1,5"])
    rows[n] = mark.join(fields)
    return "\n".join([*head, *rows]) + "\n", None


def _is_price(field: str) -> bool:
    try:
        return 80 < float(field) < 125
    except ValueError:
        return False


TEXT_MUTATIONS: dict[str, Callable[..., tuple[str, Truth]]] = {
    one.__name__: one for one in (shuffled, repeated, contradicted, cut, encoded, spoiled)
}


def columns_mixed(rng: random.Random, frame: pd.DataFrame) -> tuple[pd.DataFrame, Truth]:
    """Columns in another order: their names go with them."""
    return frame[rng.sample(COLUMNS, 5)], frame


def renamed(rng: random.Random, frame: pd.DataFrame) -> tuple[pd.DataFrame, Truth]:
    """A column under a name nobody knows, or under an alias."""
    column = rng.choice(COLUMNS)
    name = rng.choice(["foo", "Opening", "x1", column.upper(), column[0]])
    changed = frame.rename(columns={column: name})
    if name == column.upper():
        return changed, frame
    return changed, frame.assign(volume=np.nan) if column == "volume" else None


def exchanged(rng: random.Random, frame: pd.DataFrame) -> tuple[pd.DataFrame, Truth]:
    """Two names exchanged: the file states other candles, possible ones or not."""
    one, other = rng.sample(COLUMNS[:4], 2)
    stated = frame.rename(columns={one: other, other: one})
    return stated, stated[COLUMNS]


def dropped(rng: random.Random, frame: pd.DataFrame) -> tuple[pd.DataFrame, Truth]:
    """A column is missing."""
    column = rng.choice(COLUMNS)
    return frame.drop(columns=column), frame.assign(volume=np.nan) if column == "volume" else None


def doubled(rng: random.Random, frame: pd.DataFrame) -> tuple[pd.DataFrame, Truth]:
    """A column twice, in another case."""
    column = rng.choice(COLUMNS)
    return frame.assign(**{column.title(): frame[column] * rng.choice([1, 2])}), None


def units_mixed(rng: random.Random, frame: pd.DataFrame) -> tuple[pd.DataFrame, Truth]:
    """Times in seconds, milliseconds and microseconds in one file."""
    units = [rng.choice(["s", "ms", "us", "ns"]) for _ in range(len(frame))]
    mixed = [stamps(frame.iloc[[n]], unit)[0] for n, unit in enumerate(units)]
    return frame.set_axis(pd.Index(mixed, name="timestamp"), axis=0), frame


def wrong_epoch(rng: random.Random, frame: pd.DataFrame) -> tuple[pd.DataFrame, Truth]:
    """Times that are no times of today."""
    factor = rng.choice([0.1, 3, 60])
    return frame.set_axis(pd.Index([int(t * factor) for t in stamps(frame)], name="timestamp"), axis=0), None


def second_symbol(rng: random.Random, frame: pd.DataFrame) -> tuple[pd.DataFrame, Truth]:
    """Rows of another market between those of this one, with a symbol column or without."""
    other = candles(len(frame), price=rng.choice([3.0, 50.0]), seed=rng.randrange(100))
    if rng.random() < 0.5:
        return pd.concat([frame, other]), None
    both = pd.concat([frame.assign(symbol="BTCUSDT"), other.assign(symbol="ETHUSDT")])
    return both.sample(frac=1, random_state=rng.randrange(100)), frame


FRAME_MUTATIONS = (columns_mixed, renamed, exchanged, dropped, doubled, units_mixed, wrong_epoch, second_symbol)


def check(path: Path, truth: Truth) -> None:
    """Read a file, and compare what came with the truth."""
    try:
        tables = read_markets(path)
    except CrossMarginError as error:
        if "\n" in str(error):
            raise AssertionError(f"not one line: {error}") from error
        return
    assert truth is not None, f"read as {tables[0].frame.head(3)}"
    found = next(table for table in tables if "BTC" in table.symbol)
    _compare(found, truth)


def _compare(found: MarketTable, truth: pd.DataFrame) -> None:
    assert found.frame.index.equals(truth.index)
    for column in COLUMNS:
        values = found.frame[column] if column in found.frame else pd.Series(np.nan, index=truth.index)
        assert np.array_equal(values, truth[column], equal_nan=True), column


def fuzz(seeds: range) -> None:
    """Mutate one file per seed."""
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            rng = random.Random(seed)  # noqa: S311 - no secret
            frame = candles(rng.randrange(12, 40), seed=seed)
            home = Path(folder) / str(seed)
            if rng.random() < 0.6:
                name = rng.choice(TEXT)
                path = FORMATS[name](home, frame)
                mutation = rng.choice(list(TEXT_MUTATIONS))
                text, truth = TEXT_MUTATIONS[mutation](rng, text_of(path), frame)
                wrap(path, text)
            else:
                mutation, name = rng.choice(FRAME_MUTATIONS).__name__, "frame"
                changed, truth = globals()[mutation](rng, frame)
                home.mkdir()
                path = home / "BTCUSDT.csv"
                changed.to_csv(path)
            try:
                check(path, truth)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, {name}, {mutation}: {error}") from error


def test_mutated_files_are_read_as_they_say_or_refused() -> None:
    """A few hundred; ten thousand in a soak."""
    fuzz(range(400))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_ten_thousand_mutated_files(part: int) -> None:
    """The same, more of them."""
    fuzz(range(1_000 + part * 2_500, 1_000 + (part + 1) * 2_500))


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in TEXT] + ["okx", "bybit"])
def test_a_broken_archive_is_refused(tmp_path: Path, name: str) -> None:
    """Cut anywhere, a packed file has lost its checksum."""
    path = FORMATS[name](tmp_path, candles())
    whole = path.read_bytes()
    for part in (0.0, 0.2, 0.5, 0.9, 0.99):
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(CrossMarginError, match=r"cannot be read|holds no rows"):
            read_markets(path)
