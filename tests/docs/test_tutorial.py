# SPDX-License-Identifier: GPL-3.0-or-later
"""The tutorial runs from its first cell to its last, and shows what it says."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from places import PROJECT


def test_the_first_backtest_runs(tmp_path: Path) -> None:
    """Five cells of code, without an error; the comparison prints three modes and a figure is drawn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nbformat = pytest.importorskip("nbformat")
        nbclient = pytest.importorskip("nbclient")
        notebook = nbformat.read(PROJECT / "docs" / "tutorials" / "first_backtest.ipynb", as_version=4)
        client = nbclient.NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(PROJECT)}}
        )
        client.execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) == 5
    printed = "".join(
        output.text
        for cell in cells
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )
    assert [word for word in ("cash:", "isolated:", "cross:") if word not in printed] == []
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
