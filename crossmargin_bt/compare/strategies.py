# SPDX-License-Identifier: GPL-3.0-or-later
"""Strategies from files: `FILE.py:Class`, or `FILE.py` where it holds a single one."""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import backtrader as bt

from crossmargin_bt.errors import StrategyFileError, suggestion


class StrategySpec(NamedTuple):
    """A strategy class and the name it is reported under."""

    name: str
    strategy: Any

    @property
    def file(self) -> Path | None:
        """The file the class comes from."""
        file = getattr(sys.modules.get(self.strategy.__module__), "__file__", None)
        return None if file is None else Path(file)


def load(text: str) -> StrategySpec:
    """Return the strategy that `FILE.py:Class` names.

    Raises:
        StrategyFileError: the file is missing or fails to import, or holds no such strategy.
    """
    file, _, name = text.rpartition(":") if ".py:" in text else (text, "", "")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise StrategyFileError(f"strategy file {file} does not exist; write FILE.py:Class")
    module = _import(path)
    own = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, bt.Strategy) and value.__module__ == module.__name__
    }
    if not name:
        if len(own) != 1:
            found = ", ".join(own) or "none"
            raise StrategyFileError(f"{file} holds {len(own)} strategies ({found}); name one as {file}:Class")
        name = next(iter(own))
    if not hasattr(module, name):
        hint = suggestion(name, own) if own else "; it holds no backtrader Strategy"
        raise StrategyFileError(f"{file} has no class {name!r}{hint}")
    strategy = getattr(module, name)
    if not (isinstance(strategy, type) and issubclass(strategy, bt.Strategy)):
        raise StrategyFileError(f"{name} in {file} is not a backtrader Strategy; derive it from bt.Strategy")
    return StrategySpec(name, strategy)


def _import(path: Path) -> ModuleType:
    # backtrader's metaclasses look a class's module up by name, so it must be registered.
    key = f"crossmargin_bt_strategy_{path.stem}_{abs(hash(str(path.resolve())))}"
    spec = importlib.util.spec_from_file_location(key, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[key]
        raise StrategyFileError(f"{path} does not import: {where(error, path)}") from error
    return module


def where(error: BaseException, path: Path | None = None) -> str:
    """Return an exception in one line, with the file and line it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if Path(frame.filename) == path] or (frames if path is None else [])
    at = f" (line {mine[-1].lineno} of {Path(mine[-1].filename).name})" if mine else ""
    if isinstance(error, SyntaxError):
        at = f" (line {error.lineno})"
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {message.splitlines()[0] if message else ''}{at}"
