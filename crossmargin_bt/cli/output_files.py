# SPDX-License-Identifier: GPL-3.0-or-later
"""The files a command writes: validated before a long run, written after it."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from crossmargin_bt.errors import ConfigurationError

if TYPE_CHECKING:
    from crossmargin_bt.results import ResultFile, RunResult

PLOT_SUFFIXES = (".png", ".svg", ".pdf")


class OutputFiles(NamedTuple):
    """The requested output files."""

    json: Path | None = None
    report: Path | None = None
    plot: Path | None = None
    tearsheet: Path | None = None

    def check(self) -> None:
        """Check that all files can be written.

        Raises:
            ConfigurationError: a file cannot be written, or the library that draws it is not installed.
        """
        from crossmargin_bt.report import files, tearsheet

        requested = [(name, file.resolve()) for name, file in self._asdict().items() if file is not None]
        for n, (name, file) in enumerate(requested):
            files.check_writable(file, f"--{name}")
            same = next((other for other, path in requested[:n] if path == file), None)
            if same is not None:
                raise ConfigurationError(f"--{same} and --{name} both name {file.name}; use different files")
        if self.plot is not None:
            _check_plot(self.plot)
        if self.tearsheet is not None:
            tearsheet.check_installed()

    def write(self, content: "ResultFile", cerebro: Any = None, sheet_of: "RunResult | None" = None) -> None:
        """Write all files; the plot shows `cerebro`, the tear sheet `sheet_of` or else the first run.

        Raises:
            ConfigurationError: a file cannot be written.
        """
        from crossmargin_bt.report import files, page, tearsheet

        if self.json is not None:
            files.write_json(content, self.json)
        if self.report is not None:
            files.write(page.render(content), self.report)
        if self.plot is not None:
            _plot(cerebro, self.plot)
        if self.tearsheet is not None:
            tearsheet.write(sheet_of or content.results[0], self.tearsheet)
        for name, file in self._asdict().items():
            if file is not None and name != "json":
                click.echo(f"{name}: {file}")


def _check_plot(path: Path) -> None:
    if path.suffix not in PLOT_SUFFIXES:
        raise ConfigurationError(f"--plot writes {', '.join(PLOT_SUFFIXES)}; {path.name} has another suffix")
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ConfigurationError(
            "--plot needs matplotlib; install it with: pip install 'crossmargin-bt[plot]'"
        ) from error
    # backtrader would open a display; a backend selected before the import of pyplot is kept.
    mpl.use("Agg")
    __import__("matplotlib.pyplot")


def _plot(cerebro: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib warns that there is no display
        figures = cerebro.plot(iplot=False)
    figure = figures[0][0]
    figure.set_size_inches(16, 10)
    figure.savefig(path)
