# SPDX-License-Identifier: GPL-3.0-or-later
"""Market data files as programs and exchanges write them, of made candles, and what a reader should find in them."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

BINANCE_HEAD = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore\n"


def candles(
    rows: int = 48, start: str = "2024-01-01", freq: str = "1h", price: float = 100.0, seed: int = 1
) -> pd.DataFrame:
    """Return a random walk of candles by UTC time, with two decimals so that no text rounds them."""
    close = np.round(price * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.005, rows))), 2)
    opens = np.r_[price, close[:-1]]
    index = pd.date_range(start, periods=rows, freq=freq, name="date", tz="UTC")
    high, low = (
        np.round(np.maximum(opens, close) * 1.002 + 0.01, 2),
        np.round(np.minimum(opens, close) * 0.998 - 0.01, 2),
    )
    volume = np.round(np.random.default_rng(seed + 1).uniform(1, 20, rows), 3)
    return pd.DataFrame({"open": opens, "high": high, "low": low, "close": close, "volume": volume}, index=index)


def stamps(frame: pd.DataFrame, unit: str = "ms") -> list[int]:
    """Return the times of candles as numbers in a unit."""
    return frame.index.as_unit(unit).asi8.tolist()


def klines(frame: pd.DataFrame, *, unit: str = "ms", header: bool = False) -> str:
    """Return rows as in Binance's archive."""
    rows = zip(stamps(frame, unit), frame.itertuples(index=False), strict=True)
    return (BINANCE_HEAD if header else "") + "".join(
        f"{t},{r.open},{r.high},{r.low},{r.close},{r.volume},{t + 1},{r.volume * r.close:.4f},9,1.0,100.0,0\n"
        for t, r in rows
    )


def zipped(path: Path, text: str) -> Path:
    """Write a text as the only CSV of a zip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(path.stem + ".csv", text)
    return path


def lines(frame: pd.DataFrame, order: str, *, unit: str = "ms") -> str:
    """Return rows without names, of the time and the columns whose first letters are given ("ohlcv")."""
    names = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
    rows = zip(stamps(frame, unit), frame.to_dict("records"), strict=True)
    return "".join(f"{t}," + ",".join(str(row[names[letter]]) for letter in order) + "\n" for t, row in rows)


def _written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _okx(folder: Path, frame: pd.DataFrame) -> Path:
    head = "instrument_name,open,high,low,close,vol,vol_ccy,vol_quote,open_time,confirm\n"
    rows = "".join(
        f"BTC-USDT-SWAP,{r.open},{r.high},{r.low},{r.close},{r.volume * 100},{r.volume},{r.volume * r.close},{t},0\n"
        for t, r in zip(stamps(frame), frame.itertuples(), strict=True)
    )
    return zipped(folder / "BTC-USDT-SWAP-candlesticks-2024-01-01.zip", head + rows)


def _cryptodatadownload(folder: Path, frame: pd.DataFrame) -> Path:
    head = (
        "https://www.CryptoDataDownload.com\nUnix,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USDT,tradecount\n"
    )
    rows = [
        f"{t},{time:%Y-%m-%d %H:%M:%S},BTCUSDT,{r.open},{r.high},{r.low},{r.close},{r.volume},{r.volume * r.close},5\n"
        for t, time, r in zip(stamps(frame), frame.index, frame.itertuples(), strict=True)
    ]
    return _written(folder / "Binance_BTCUSDT_1h.csv", head + "".join(rows[::-1]))


def _mt4(folder: Path, frame: pd.DataFrame) -> Path:
    moscow = frame.index + pd.Timedelta(hours=3)
    rows = "".join(
        f"{time:%Y.%m.%d %H:%M},{r.open},{r.high},{r.low},{r.close},{r.volume}\n"
        for time, r in zip(moscow, frame.itertuples(), strict=True)
    )
    return _written(folder / "BTCUSDT_60_2024-01-01_2024-01-31.csv.gz", gzip.compress(rows.encode()))


def _feather(folder: Path, frame: pd.DataFrame) -> Path:
    path = folder / "futures" / "BTC_USDT_USDT-1h-futures.feather"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.reset_index().to_feather(path)
    return path


def _parquet(folder: Path, frame: pd.DataFrame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / "BTCUSDT.parquet")
    return folder / "BTCUSDT.parquet"


def _json(folder: Path, frame: pd.DataFrame) -> Path:
    rows = [[t, *values] for t, values in zip(stamps(frame), frame.to_numpy().tolist(), strict=True)]
    return _written(folder / "BTC_USDT_USDT-1h-futures.json.gz", gzip.compress(json.dumps(rows).encode()))


def _with_turnover(frame: pd.DataFrame, order: str) -> str:
    """Return rows of time, open, close, high and low, and volume and turnover in an order."""
    rows = zip(stamps(frame, "s"), frame.itertuples(), strict=True)
    ends = {"volume,turnover": "{v},{t}", "turnover,volume": "{t},{v}"}[order]
    return "".join(
        f"{time},{r.open},{r.close},{r.high},{r.low}," + ends.format(v=r.volume, t=round(r.volume * r.close, 6)) + "\n"
        for time, r in rows
    )


def _iso(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.reset_index()


FORMATS: dict[str, Callable[[Path, pd.DataFrame], Path]] = {
    "csv by name": lambda folder, frame: _written(folder / "BTCUSDT.csv", _iso(frame).to_csv(index=False)),
    "csv with an unnamed index": lambda folder, frame: _written(folder / "BTCUSDT.csv", frame.rename_axis(None).to_csv()),
    "semicolons and spaces": lambda folder, frame: _written(
        folder / "BTCUSDT.csv", _iso(frame).rename(columns=lambda name: f" {name.title()}").to_csv(index=False, sep=";")
    ),
    "tabs, UTF-16": lambda folder, frame: _written(
        folder / "BTCUSDT.csv", _iso(frame).to_csv(index=False, sep="\t").encode("utf-16")
    ),
    "seconds": lambda folder, frame: _written(
        folder / "BTCUSDT.csv", frame.reset_index(drop=True).assign(timestamp=stamps(frame, "s")).to_csv(index=False)
    ),
    "date and time of day": lambda folder, frame: _written(
        folder / "BTCUSDT.csv",
        frame.reset_index(drop=True).assign(date=frame.index.strftime("%Y-%m-%d"), time=frame.index.strftime("%H:%M:%S")).to_csv(index=False),
    ),
    "binance, zipped, microseconds": lambda folder, frame: zipped(
        folder / "futures" / "um" / "monthly" / "klines" / "BTCUSDT-1h-2024-01.zip", klines(frame, unit="us")
    ),
    "binance, unpacked, with names": lambda folder, frame: _written(folder / "BTCUSDT-1h-2024-01.csv", klines(frame, header=True)),
    "kraken": lambda folder, frame: _written(
        folder / "BTCUSDT_60.csv", lines(frame, "ohlcv", unit="s").replace("\n", ",7\n")
    ),
    "gate": lambda folder, frame: _written(folder / "BTCUSDT.csv", lines(frame, "vchlo", unit="s")),
    "bitfinex": lambda folder, frame: _written(folder / "BTCUSDT.csv", lines(frame, "ochlv")),
    "coinbase, newest first": lambda folder, frame: _written(folder / "BTCUSDT.csv", lines(frame[::-1], "lhocv", unit="s")),
    "ccxt": lambda folder, frame: _written(folder / "BTCUSDT.csv", lines(frame, "ohlcv")),
    "kucoin": lambda folder, frame: _written(
        folder / "BTCUSDT.csv", "time,open,close,high,low,volume,turnover\n" + lines(frame, "ochlvv", unit="s")
    ),
    "kucoin without names": lambda folder, frame: _written(folder / "BTCUSDT.csv", _with_turnover(frame, "volume,turnover")),
    "htx without names": lambda folder, frame: _written(folder / "BTCUSDT.csv", _with_turnover(frame, "turnover,volume")),
    "json records": lambda folder, frame: _written(
        folder / "BTC_USDT_USDT-1h-futures.json",
        json.dumps([{"timestamp": t, **row} for t, row in zip(stamps(frame), frame.to_dict("records"), strict=True)]),
    ),
    "okx": _okx,
    "bybit": _mt4,
    "cryptodatadownload": _cryptodatadownload,
    "freqtrade feather": _feather,
    "freqtrade json": _json,
    "parquet with an index": _parquet,
}  # fmt: skip
"""Every format that is read, each written from candles into a folder."""
