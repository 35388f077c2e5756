"""Reads the documentation strings of the running Python, without running the code they document.

Modules written in Python are parsed with `ast`. The few written in C (`builtins`, `math`, `itertools` …) have no source
to parse; they are part of the interpreter, so importing them starts nothing. The language reference comes from
`pydoc_data/topics.py`, the text behind `help("with")`, parsed as well. All of it is CPython's, under the PSF licence.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["module", "class", "function", "method", "property"]

STDLIB = Path(sysconfig.get_path("stdlib"))

SKIPPED_FOLDERS = {
    "__pycache__",
    "_bundled",
    "encodings",
    "idle_test",
    "idlelib",
    "lib-dynload",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "turtledemo",
}
SKIPPED_PREFIXES = ("config-", "_sysconfigdata")
"""Not documentation, or different from one machine to the next."""

PUBLIC_NAMES = {"_pydecimal": "decimal", "_pyio": "io", "_collections_abc": "collections.abc", "_strptime": "time"}
"""Python twins of modules whose public name is another's."""

C_MODULES = {
    "_asyncio": "asyncio",
    "_bz2": "bz2",
    "_collections": "collections",
    "_contextvars": "contextvars",
    "_csv": "csv",
    "_functools": "functools",
    "_hashlib": "hashlib",
    "_json": "json",
    "_lzma": "lzma",
    "_pickle": "pickle",
    "_queue": "queue",
    "_random": "random",
    "_socket": "socket",
    "_sqlite3": "sqlite3",
    "_sre": "re",
    "_ssl": "ssl",
    "_struct": "struct",
    "_thread": "threading",
    "_weakref": "weakref",
    "array": "array",
    "atexit": "atexit",
    "binascii": "binascii",
    "builtins": "builtins",
    "cmath": "cmath",
    "faulthandler": "faulthandler",
    "gc": "gc",
    "itertools": "itertools",
    "marshal": "marshal",
    "math": "math",
    "posix": "os",
    "sys": "sys",
    "time": "time",
    "unicodedata": "unicodedata",
    "zlib": "zlib",
}
"""Modules written in C, and the public module whose names they hold."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a function: `name` with its stars, `default` as written or None."""

    name: str
    default: str | None = None

    def __str__(self) -> str:
        return self.name if self.default is None else f"{self.name}={self.default}"


@dataclass(frozen=True, slots=True)
class Documented:
    """One documented thing."""

    name: str
    """As a reader writes it: `json.dumps`, `str.join`, `heapq`."""
    module: str
    """The public module: `json`, `builtins`."""
    kind: Kind
    doc: str
    """Clean of indentation, as `inspect.cleandoc` leaves it."""
    parameters: tuple[Parameter, ...] | None = None
    """Without `self` and `cls`; a class has those of its `__init__`. None for a property, or where not known."""

    @property
    def short(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    @property
    def owner(self) -> str:
        """The name without its last part: a method's class, a function's module (`builtins` for `len`)."""
        return self.name.rpartition(".")[0] or self.module

    @property
    def public(self) -> bool:
        """Whether every part of the name is meant for users."""
        return not any(part.startswith("_") for part in self.name.split("."))

    @property
    def signature(self) -> str:
        """`json.dumps(obj, *, skipkeys=False)`, or the bare name where the parameters are not known."""
        return self.name if self.parameters is None else f"{self.name}({', '.join(map(str, self.parameters))})"


def documented(modules: Iterable[str] = ()) -> list[Documented]:
    """Everything with a documentation string, sorted; `modules` limits it to those top-level names."""
    wanted = set(modules)
    found = [*_python_modules(wanted), *_c_modules(wanted)]
    unique: dict[str, Documented] = {}
    for thing in sorted(found, key=lambda thing: (thing.name, thing.kind, thing.doc)):
        unique.setdefault(thing.name, thing)
    return list(unique.values())


def topics() -> dict[str, str]:
    """The language reference by topic, as `help()` shows it."""
    tree = ast.parse((STDLIB / "pydoc_data" / "topics.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "topics":
            return dict(sorted(ast.literal_eval(node.value).items()))
    raise LookupError(f"{STDLIB}/pydoc_data/topics.py assigns no `topics`; this Python's layout is not known here")


# -- modules written in Python ---------------------------------------------------------------------------------------


def _python_modules(wanted: set[str]) -> Iterator[Documented]:
    for path in sorted(STDLIB.rglob("*.py")):
        relative = path.relative_to(STDLIB)
        folders = relative.parts[:-1]
        if SKIPPED_FOLDERS.intersection(folders) or relative.parts[0].startswith(SKIPPED_PREFIXES):
            continue
        dotted = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        public = PUBLIC_NAMES.get(dotted, dotted)
        if wanted and public.split(".")[0] not in wanted:
            continue
        tree = ast.parse(path.read_bytes())
        yield from _document(tree, name=public, module=public, kind="module")
        yield from _members(tree.body, owner=public, module=public, inside_class=False)


def _members(body: list[ast.stmt], *, owner: str, module: str, inside_class: bool) -> Iterator[Documented]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            kind = _kind(node, inside_class)
            parameters = None if kind == "property" else _parameters(node, inside_class)
            yield from _document(node, name=f"{owner}.{node.name}", module=module, kind=kind, parameters=parameters)
        elif isinstance(node, ast.ClassDef):
            name = f"{owner}.{node.name}"
            init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
            parameters = _parameters(init, True) if init else None
            yield from _document(node, name=name, module=module, kind="class", parameters=parameters)
            yield from _members(node.body, owner=name, module=module, inside_class=True)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
            yield from _members(inner, owner=owner, module=module, inside_class=inside_class)


def _document(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
    *,
    name: str,
    module: str,
    kind: Kind,
    parameters: tuple[Parameter, ...] | None = None,
) -> Iterator[Documented]:
    doc = _clean(ast.get_docstring(node) or "")
    if doc:
        yield Documented(name, module, kind, doc, parameters)


def _kind(node: ast.FunctionDef | ast.AsyncFunctionDef, inside_class: bool) -> Kind:
    if not inside_class:
        return "function"
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    return "property" if decorators & {"property", "cached_property", "DynamicClassAttribute"} else "method"


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef, inside_class: bool) -> tuple[Parameter, ...]:
    """As the source writes them, without annotations and without `/`."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    parameters = [Parameter(a.arg, d and ast.unparse(d)) for a, d in zip(positional, defaults, strict=True)]
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    if inside_class and not static:
        parameters = parameters[1:]
    if arguments.vararg:
        parameters.append(Parameter(f"*{arguments.vararg.arg}"))
    elif arguments.kwonlyargs:
        parameters.append(Parameter("*"))
    for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parameters.append(Parameter(a.arg, d and ast.unparse(d)))
    if arguments.kwarg:
        parameters.append(Parameter(f"**{arguments.kwarg.arg}"))
    return tuple(parameters)


# -- modules written in C --------------------------------------------------------------------------------------------


def _c_modules(wanted: set[str]) -> Iterator[Documented]:
    for name, public in C_MODULES.items():
        if wanted and public not in wanted:
            continue
        try:
            module = importlib.import_module(name)
        except ImportError:  # not in every build of Python: no sqlite3, no ssl, no posix on Windows
            continue
        if name == public and module.__doc__:
            yield Documented(public, public, "module", _clean(module.__doc__))
        for member, value in sorted(vars(module).items()):
            yield from _c_member(member, value, owner="" if public == "builtins" else f"{public}.", module=public)


def _c_member(member: str, value: Any, *, owner: str, module: str) -> Iterator[Documented]:
    if isinstance(value, type) and not member.startswith("_"):
        name = owner + member
        if value.__doc__ and value.__name__.rpartition(".")[2] == member:
            yield Documented(name, module, "class", _clean(value.__doc__), _c_parameters(value))
            for attribute, inner in sorted(vars(value).items()):
                if inspect.isroutine(inner) and (doc := inspect.getdoc(inner)):
                    yield Documented(f"{name}.{attribute}", module, "method", _clean(doc), _c_parameters(inner))
    elif inspect.isbuiltin(value) and value.__doc__:
        yield Documented(owner + member, module, "function", _clean(value.__doc__), _c_parameters(value))


def _c_parameters(value: Any) -> tuple[Parameter, ...] | None:
    """From the text signature that C functions carry; None where one has none."""
    try:
        signature = inspect.signature(value)
    except (ValueError, TypeError):
        return None
    parameters: list[Parameter] = []
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    for p in signature.parameters.values():
        if p.name in ("self", "cls", "type") and not parameters:
            continue
        if p.kind is inspect.Parameter.KEYWORD_ONLY and not any(q.name.startswith("*") for q in parameters):
            parameters.append(Parameter("*"))
        default = None if p.default is inspect.Parameter.empty else repr(p.default)
        parameters.append(Parameter(stars.get(p.kind, "") + p.name, default))
    return tuple(parameters)


def _clean(doc: str) -> str:
    """Without indentation, trailing blanks, copyright notices and addresses in memory."""
    text = "\n".join(line.rstrip() for line in inspect.cleandoc(doc).splitlines())
    kept = [part for part in text.split("\n\n") if not re.search(r"copyright (?:\(c\)|©|\d)", part, re.IGNORECASE)]
    return re.sub(r" at 0x[0-9a-f]+", "", "\n\n".join(kept)).strip()
