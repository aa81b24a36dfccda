# SPDX-License-Identifier: GPL-3.0-or-later
"""`crossmargin report` and `crossmargin explain`, which read result files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from crossmargin_bt.cli.output_files import OutputFiles
from crossmargin_bt.cli.parsing import report_errors
from crossmargin_bt.errors import ConfigurationError, CrossMarginError


@contextmanager
def altered_results(path: Path) -> Iterator[None]:
    """Report that a result file was altered where its content does not fit together, which a written one always does."""
    try:
        yield
    except CrossMarginError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, AssertionError) as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigurationError(
            f"{path} was altered: its entries do not fit together ({text}); write it again with `crossmargin compare --json`"
        ) from error


@click.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The HTML file; default: next to the result file.")
@click.option(
    "--tearsheet", type=click.Path(path_type=Path), help="Write the QuantStats tear sheet of one run to this file."
)
@click.option("--run", "number", type=int, help="The run of --tearsheet, counted from 1.")
@click.option(
    "--schema",
    is_flag=True,
    help="Print the JSON Schema of result files and exit.",
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, requested: _schema(context) if requested else None,
)
def report(*, result: Path, out: Path | None, tearsheet: Path | None, number: int | None) -> None:
    """Write the HTML report of a result file."""
    from crossmargin_bt.report import files

    with report_errors():
        target = out or result.with_suffix(".html")
        if target.resolve() == result.resolve():
            raise ConfigurationError(f"{target} is the result file itself; choose another --out")
        if number is not None and tearsheet is None:
            raise ConfigurationError("--run is for --tearsheet; the report shows all runs")
        outputs = OutputFiles(report=target, tearsheet=tearsheet)
        outputs.check()
        content = files.read(result)
        sheet_of = files.read_run(result, number or 1) if tearsheet is not None else None
        with altered_results(result):
            outputs.write(content, sheet_of=sheet_of)


def _schema(context: click.Context) -> None:
    import json

    from crossmargin_bt.report import files

    click.echo(json.dumps(files.schema(), indent=2))
    context.exit()


@click.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--run", "number", type=int, default=1, show_default=True, help="The run, counted from 1.")
@click.option("--event", type=int, help="Index of the journal entry; default: list the entries that can be explained.")
def explain(result: Path, number: int, event: int | None) -> None:
    """Print the arithmetic of a refusal, warning or liquidation in a result file of `compare --json`."""
    from crossmargin_bt.report import explained_entries, files

    with report_errors():
        run = files.read_run(result, number)
        with altered_results(result):
            lines = list(
                explained_entries.list_explainable(run)
                if event is None
                else explained_entries.explain_entry(run, event)
            )
        for line in lines:
            click.echo(line)
