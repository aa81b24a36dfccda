# SPDX-License-Identifier: GPL-3.0-or-later
"""The public surface: every name is there at run time, listed, and typed for editors and type checkers."""

import ast
import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from inspect import isclass, isfunction, ismodule
from pathlib import Path

import pytest

import crossmargin_bt
from crossmargin_bt import errors

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(__file__).parent / "typing"
COMPLAINT = re.compile(r"^(?:.*/)?(?P<file>\w+\.py):(?P<line>\d+): (?P<kind>error|note): (?P<text>.*)$")

needs_mypy = pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed (extra [dev])")


def typed_imports() -> dict[str, str]:
    """Return what `if TYPE_CHECKING:` of the package imports: by public name, where it is found."""
    tree = ast.parse(Path(crossmargin_bt.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    found = {}
    for node in guarded.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            name = alias.asname or ""
            separator = "." if ismodule(getattr(crossmargin_bt, name)) else ":"
            found[name] = f"{node.module}{separator}{alias.name}"
    return found


def test_the_list_the_lazy_table_and_the_typed_imports_agree() -> None:
    """A name is public in all three or in none, and comes from the same place."""
    assert crossmargin_bt.__all__ == sorted(crossmargin_bt.__all__)
    assert set(crossmargin_bt.__all__) == set(crossmargin_bt._LAZY)
    assert typed_imports() == crossmargin_bt._LAZY


@pytest.mark.parametrize("name", crossmargin_bt.__all__)
def test_a_public_name_is_there_at_once_and_explained(name: str) -> None:
    """In an interpreter that has imported nothing else of the package, too."""
    found = getattr(crossmargin_bt, name)
    assert isclass(found) or isfunction(found) or ismodule(found)
    assert found.__doc__
    assert name in dir(crossmargin_bt)


def test_names_are_imported_on_first_use() -> None:
    """The package alone imports neither backtrader nor pandas; errors are reachable without them."""
    program = (
        "import sys, crossmargin_bt as c; c.errors.ConfigurationError, c.Refusal, c.events.Filled; "
        "sys.exit(bool({'backtrader', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        crossmargin_bt.nonsense  # noqa: B018


def test_every_error_of_the_package_is_in_the_tree_of_the_docstring() -> None:
    """The tree at the top of errors.py, which the documentation shows."""
    classes = [value for value in vars(errors).values() if isclass(value) and issubclass(value, Exception)]
    assert len(classes) > 5
    assert [one.__name__ for one in classes if one.__name__ not in (errors.__doc__ or "")] == []


def test_every_public_name_is_in_the_reference() -> None:
    """docs/api/*.md name each with the directive that renders its docstring; of public modules, all of `__all__`."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "api").glob("*.md")))
    directives = dict(re.findall(r"^\.\. auto(?:module|class|function):: (\S+)$((?:\n   :.*)*)", pages, re.MULTILINE))
    assert [name for name in crossmargin_bt.__all__ if f"crossmargin_bt.{name}" not in directives] == []
    for name in crossmargin_bt.__all__:
        options = directives[f"crossmargin_bt.{name}"]
        members = getattr(getattr(crossmargin_bt, name), "__all__", [])
        assert "imported-members" in options or not members, name
    index = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [page.stem for page in (ROOT / "docs" / "api").glob("*.md") if f"\napi/{page.stem}\n" not in index] == []


@pytest.fixture(scope="module")
def complaints() -> dict[str, list[tuple[int, str, str]]]:
    """Return what `mypy --strict` says of the scripts beside this file: by file, (line, "error" or "note", text)."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent"]
    command += ["--show-error-codes", "--no-error-summary", "--hide-error-context", "--no-pretty"]
    command += [f"--cache-dir={ROOT / '.mypy_cache' / 'scripts'}", str(SCRIPTS)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={"PATH": "", "MYPYPATH": str(ROOT)}
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, list[tuple[int, str, str]]] = {}
    for line in done.stdout.splitlines():
        match = COMPLAINT.match(line)
        assert match, line
        found.setdefault(match["file"], []).append((int(match["line"]), match["kind"], match["text"]))
    return found


def errors_of(complaints: list[tuple[int, str, str]]) -> Counter[tuple[int, str]]:
    """Return the errors as (line, code)."""
    return Counter((line, text.rpartition("[")[2].rstrip("]")) for line, kind, text in complaints if kind == "error")


def expected(script: str) -> Counter[tuple[int, str]]:
    """Return the errors that the comments of a script name."""
    lines = (SCRIPTS / script).read_text(encoding="utf-8").splitlines()
    return Counter(
        (number, code)
        for number, line in enumerate(lines, start=1)
        for code in line.partition("  # error: ")[2].split(", ")
        if code
    )


@needs_mypy
@pytest.mark.parametrize(
    "script",
    [
        "correct.py",
        "wrong.py",
        "wrong_broker.py",
    ],
)
def test_a_type_checker_finds_the_mistakes_of_a_script_and_no_others(
    script: str, complaints: dict[str, list[tuple[int, str, str]]]
) -> None:
    """Each error is on the line, and has the code, that the script's comments name."""
    assert errors_of(complaints.get(script, [])) == expected(script)


@needs_mypy
def test_no_public_name_is_any_to_a_type_checker(complaints: dict[str, list[tuple[int, str, str]]]) -> None:
    """`reveal_type` shows a class with its signature, a function or a module."""
    lines = (SCRIPTS / "revealed.py").read_text(encoding="utf-8").splitlines()
    revealed = {}
    for line, _, text in complaints["revealed.py"]:
        name = lines[line - 1].partition("(cm.")[2].rstrip(")")
        revealed[name] = text.partition('"')[2].rstrip('"')
    assert sorted(revealed) == crossmargin_bt.__all__
    assert [name for name, kind in revealed.items() if kind in ("Any", "types.Any", "builtins.object")] == []
    assert "symbol: " in revealed["Instrument"]
