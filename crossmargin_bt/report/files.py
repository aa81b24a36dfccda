# SPDX-License-Identifier: GPL-3.0-or-later
"""Result files: the table's figures with the curves and journals, as JSON."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.report.metrics import summarise
from crossmargin_bt.results import SCHEMA_VERSION, RunResult


def check_writable(path: Path) -> None:
    """Check before a long run that its result can be written.

    Raises:
        ConfigurationError: `path` is a folder, or lies in none that can be written to.
    """
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigurationError(
            f"cannot write {path}; give --json a file in a folder that exists and can be written to"
        )


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
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
