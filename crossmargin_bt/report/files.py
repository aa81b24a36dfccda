# SPDX-License-Identifier: GPL-3.0-or-later
"""Result files: the table's figures with the curves and journals, as JSON."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.report.metrics import summarise
from crossmargin_bt.results import SCHEMA_VERSION, RunResult


def write_json(results: Sequence[RunResult], path: Path) -> None:
    """Write the results; the file appears whole or not at all. Undefined and infinite numbers are null.

    Raises:
        ConfigurationError: the folder does not exist or cannot be written.
    """
    content = {
        "schema": SCHEMA_VERSION,
        "runs": [{"summary": summarise(result), "result": result} for result in results],
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(msgspec.json.encode(content))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigurationError(
            f"cannot write {path}: {error.strerror}; give --json a file in a folder that exists"
        ) from error
