# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading of strategies from files: `FILE.py:Class`, or `FILE.py` if it defines exactly one."""

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import backtrader as bt

from crossmargin_bt.errors import ConfigurationError, StrategyFileError, suggestion


class StrategySpec(NamedTuple):
    """A strategy class, its display name, and params that override its defaults."""

    name: str
    strategy: Any
    params: dict[str, Any] = {}  # noqa: RUF012 - a named tuple's default is never changed
    source: "StrategySource | None" = None
    """The file it was loaded from, if any."""

    def reimported(self) -> "StrategySpec":
        """Return the strategy from a new import of its file, so that runs share no class or module state."""
        return self if self.source is None else self.source.load()._replace(name=self.name, params=self.params)

    @property
    def file(self) -> Path | None:
        """The file that defines the class."""
        file = getattr(sys.modules.get(self.strategy.__module__), "__file__", None)
        return None if file is None else Path(file)

    @property
    def position_mode(self) -> str:
        """The `position_mode` of the class; default "one_way"."""
        return str(getattr(self.strategy, "position_mode", "one_way"))

    def with_params(self, params: Mapping[str, Any]) -> "StrategySpec":
        """Return the strategy with these params.

        Raises:
            ConfigurationError: the strategy has no param of that name.
        """
        known = list(self.strategy.params._getkeys())
        for name in params:
            if name not in known:
                raise ConfigurationError(f"{self.name} has no param {name!r}{suggestion(name, known)}")
        return self._replace(params=dict(params))


class StrategySource(NamedTuple):
    """A strategy file with its content, so that another machine can load the same code."""

    file: str
    content: bytes
    name: str
    """Class name; empty if the file defines exactly one strategy."""

    @classmethod
    def read(cls, text: str) -> "StrategySource":
        """Read the file of a `FILE.py:Class` argument.

        Raises:
            StrategyFileError: the file does not exist.
        """
        file, _, name = text.rpartition(":") if ".py:" in text else (text, "", "")
        path = Path(file)
        if path.suffix != ".py" or not path.is_file():
            raise StrategyFileError(f"strategy file {file} does not exist; write FILE.py:Class")
        return cls(file, path.read_bytes(), name)

    def load(self) -> StrategySpec:
        """Import the file and return the strategy.

        Raises:
            StrategyFileError: the file fails to import, or does not define the strategy.
        """
        file, name = self.file, self.name
        module = self._module()
        own = {
            key: value
            for key, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, bt.Strategy) and value.__module__ == module.__name__
        }
        if not name:
            if len(own) != 1:
                names = ", ".join(own) or "none"
                raise StrategyFileError(f"{file} defines {len(own)} strategies ({names}); select one as {file}:Class")
            name = next(iter(own))
        if not hasattr(module, name):
            hint = suggestion(name, own) if own else "; it defines no backtrader Strategy"
            raise StrategyFileError(f"{file} has no class {name!r}{hint}")
        strategy = getattr(module, name)
        if not (isinstance(strategy, type) and issubclass(strategy, bt.Strategy)):
            raise StrategyFileError(f"{name} in {file} is not a backtrader Strategy; derive it from bt.Strategy")
        return StrategySpec(name, strategy, source=self)

    def imported_files(self) -> list[Path]:
        """Return the user's own modules that the strategy's module imports from, directly or indirectly.

        These are files in its folder or the working directory that belong to no installed package.
        """
        folders = (Path(self.file).resolve().parent, Path.cwd())
        modules: dict[Path, ModuleType] = {}
        waiting = [self._module()]
        while waiting:
            for name in {
                getattr(value, "__module__", None) or getattr(value, "__name__", "")
                for value in vars(waiting.pop()).values()
            }:
                module = sys.modules.get(str(name))
                file = Path(getattr(module, "__file__", None) or "").resolve()
                own = file.suffix == ".py" and any(file.is_relative_to(folder) for folder in folders)
                if module is not None and own and file not in modules and not _is_installed(file):
                    modules[file] = module
                    waiting.append(module)
        return sorted(file for file in modules if file != Path(self.file).resolve())

    def _module(self) -> ModuleType:
        # backtrader's metaclasses look up a class's module by name, so it must be in sys.modules.
        key = f"crossmargin_bt_strategy_{hashlib.sha256(self.file.encode() + self.content).hexdigest()[:16]}"
        module = ModuleType(key)
        module.__file__ = self.file
        sys.modules[key] = module
        folder = str(Path(self.file).resolve().parent)
        if folder not in sys.path:
            sys.path.append(folder)  # for modules next to the strategy, including later imports
        try:
            exec(compile(importlib.util.decode_source(self.content), self.file, "exec"), module.__dict__)  # noqa: S102 - the user's own file
        except Exception as error:
            del sys.modules[key]
            raise StrategyFileError(
                f"{self.file} does not import: {describe_exception(error, Path(self.file))}"
            ) from error
        return module


def _is_installed(file: Path) -> bool:
    """Return whether a file belongs to Python, to this package or to an installed one."""
    homes = (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), Path(__file__).resolve().parents[1])
    return "site-packages" in file.parts or any(file.is_relative_to(home) for home in homes)


def load(text: str) -> StrategySpec:
    """Load the strategy of a `FILE.py:Class` argument.

    Raises:
        StrategyFileError: the file is missing, fails to import, or does not define the strategy.
    """
    return StrategySource.read(text).load()


def describe_exception(error: BaseException, path: Path | None = None) -> str:
    """Return an exception as one line, with the file and line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if Path(frame.filename) == path] or (frames if path is None else [])
    at = f" (line {mine[-1].lineno} of {Path(mine[-1].filename).name})" if mine else ""
    if isinstance(error, SyntaxError):
        at = f" (line {error.lineno})"
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {message.splitlines()[0] if message else ''}{at}"
