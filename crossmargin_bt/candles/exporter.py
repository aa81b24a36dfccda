# SPDX-License-Identifier: GPL-3.0-or-later
"""Exporting downloads as plain files: one file per series, and their contract facts."""

from pathlib import Path
from typing import Literal

import msgspec

from crossmargin_bt.candles import catalog, contracts
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import StoreError

ExportFormat = Literal["csv", "parquet"]


def export_files(directory: Path, to: Path, form: ExportFormat) -> list[Path]:
    """Write each series in a folder of downloads as one file, in the layout that `compare --data` reads.

    Args:
        directory: the downloads of one exchange.
        to: the folder to write to.
        form: file format.

    Raises:
        StoreError: there are no downloads or those of several exchanges, or the folder cannot be written to.
    """
    all_series = catalog.list_series(directory)
    exchanges = sorted({series.exchange for series in all_series})
    if len(exchanges) != 1:
        text = (
            f"downloads of {', '.join(exchanges)}; name one: {directory / exchanges[0]}"
            if exchanges
            else "no downloads"
        )
        raise StoreError(f"{directory} holds {text}")
    out = catalog.store_root(directory, all_series[0])
    facts = contracts.read_contracts(out / exchanges[0])
    written = []
    try:
        to.mkdir(parents=True, exist_ok=True)
        for series in all_series:
            name = {"candles": f"last_{series.timeframe}", "funding": "funding"}.get(
                series.kind, f"{series.kind}_{series.timeframe}"
            )
            path = to / f"{series.symbol}_{name}.{form}"
            frame = catalog.read_frame(out, series)
            frame.to_csv(path) if form == "csv" else frame.reset_index().to_parquet(
                path, compression="zstd", index=False
            )
            written.append(path)
        if facts:
            written.append(to / "instruments.toml")
            written[-1].write_text(
                "\n".join(_toml_section(name, contract.facts) for name, contract in facts.items()), encoding="utf-8"
            )
    except OSError as error:
        raise StoreError(f"{to} cannot be written to: {error}") from error
    return written


def _toml_section(name: str, instrument: Instrument) -> str:
    """Return a section of instruments.toml; JSON strings and numbers are valid TOML."""
    facts = msgspec.to_builtins(instrument)
    lines = [
        f"{key} = {msgspec.json.encode(value).decode()}"
        for key, value in facts.items()
        if value is not None and key != "symbol"
    ]
    return "\n".join([f"[{msgspec.json.encode(name).decode()}]", *lines, ""])
