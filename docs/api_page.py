"""The reference of the Python API, `docs/api.md`: what `fttool`, `fttool.api` and `fttool.verbs` promise.

A package's `__all__` says which names there are, its imports where each is defined. The sources are read and nothing is
imported, so an alias or a constant has its docstring too (the string under it), and torch is not needed.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CORE = Path(__file__).parents[1] / "core"

PACKAGES = {
    "fttool": "What the verbs of the command line do, from Python, [with examples](python.md).",
    "fttool.api": "What a strategy or an observer may import; [Write a plugin](plugins.md) says how they are used.",
    "fttool.verbs": "What verbs of plugins build on, beside `fttool.api`.",
}
ALSO = {
    "fttool": {
        "AnyRecipe": "fttool.scripting",
        "Changes": "fttool.scripting",
        "Prepared": "fttool.runs.stages.loop",
    }
}
"""What the functions of a package take and give back, where its name is not one to import."""
PARTS = {
    "fttool.contracts.strategy": "every strategy",
    "fttool.contracts.rows": "formats, filters and masking",
    "fttool.contracts.batches": "mixing and batching",
    "fttool.contracts.model": "model sources, freezing and layer rates",
    "fttool.contracts.layers": "the layers of a model",
    "fttool.contracts.update": "optimizers, schedules and regularizers",
    "fttool.contracts.sharding": "precision and sharding",
    "fttool.contracts.task": "tasks and metrics",
    "fttool.contracts.recipe": "the recipe",
    "fttool.errors": "errors",
    "": "functions and constants",
}
"""Module of `fttool.api` → what it is about, in the order of the page; the last one has all the others."""

PROMISE = (
    "What is here is kept; everything else in `fttool` may change with any version. Contexts and what `build` yields",
    "are made with keywords, and only ever gain fields that have defaults.",
)

Node = ast.ClassDef | ast.FunctionDef | ast.AnnAssign | ast.Assign


@dataclass(frozen=True, slots=True)
class Definition:
    """Where and how a name is defined."""

    name: str
    module: str
    node: Node
    docstring: str
    """Empty where there is none."""

    @property
    def members(self) -> list[Definition]:
        """Of a class: its public fields, properties and methods, and those of its bases in fttool, in their order.

        One that is defined anew without a docstring has that of the base.
        """
        if not isinstance(self.node, ast.ClassDef):
            return []
        found = {one.name: one for base in bases(self) for one in base.members}
        for one in _defined(self.node.body, self.module):
            above = found.get(one.name)
            same = above is not None and not one.docstring
            found[one.name] = Definition(one.name, one.module, one.node, above.docstring) if same else one
        return [one for name, one in found.items() if not name.startswith("_") or name == "__call__"]


# -- reading the sources ---------------------------------------------------------------------------------------------


def source(module: str) -> Path:
    """The file of a module of core."""
    path = CORE / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def parsed(module: str) -> ast.Module:
    """The module's source."""
    return ast.parse(source(module).read_text(encoding="utf-8"))


@cache
def imported(module: str) -> dict[str, str]:
    """Each name that a module imports from another one of fttool → that module; type checkers' imports included."""
    froms = [node for node in ast.walk(parsed(module)) if isinstance(node, ast.ImportFrom)]
    return {
        alias.asname or alias.name: node.module
        for node in froms
        for alias in node.names
        if node.module and node.module.partition(".")[0] == "fttool"
    }


def promised(package: str) -> list[str]:
    """The names in a package's `__all__`, as they stand there."""
    (listed,) = [
        node.value
        for node in parsed(package).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return list(ast.literal_eval(listed))


def definition(name: str, module: str) -> Definition:
    """What a name is in a module that defines or imports it; raises `KeyError` where it does neither."""
    own = {one.name: one for one in _defined(parsed(module).body, module)}
    return own[name] if name in own else definition(name, imported(module)[name])


def definitions(package: str) -> list[Definition]:
    """What a package promises, and what comes with it, by module as they stand there."""
    found = [definition(name, package) for name in promised(package)]
    found += [definition(name, module) for name, module in ALSO.get(package, {}).items()]
    order = list(dict.fromkeys(one.module for one in found))
    return sorted(found, key=lambda one: (order.index(one.module), one.node.lineno))


def bases(of: Definition) -> list[Definition]:
    """A class's bases that fttool defines."""
    if not isinstance(of.node, ast.ClassDef):
        return []
    known = {one.name for one in _defined(parsed(of.module).body, of.module)} | imported(of.module).keys()
    names = [base.id for base in of.node.bases if isinstance(base, ast.Name) and base.id in known]
    return [definition(name, of.module) for name in names]


def _defined(body: list[ast.stmt], module: str) -> Iterator[Definition]:
    """Classes, functions and names that statements define; of an overloaded function its last form."""
    for statement, below in zip(body, [*body[1:], None], strict=True):
        match statement:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield Definition(name, module, statement, ast.get_docstring(statement) or "")
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                text = below.value.value if _is_text(below) else ""
                yield Definition(name, module, statement, inspect.cleandoc(text))
            case _:
                continue


def _is_text(statement: ast.stmt | None) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


# -- writing the page ------------------------------------------------------------------------------------------------


def api_page(made: str) -> str:
    """The page; `made` is the line that says where it comes from."""
    lines = [made, "", "# The Python API", "", *PROMISE, ""]
    for package, what in PACKAGES.items():
        for title, some in parted(package):
            lines += [f"## `{package}`{title}", "", what, ""]
            what = f"From `{package}` too."
            for one in some:
                lines += [f"### {one.name}", "", *described(one)]
    return "\n".join(lines)


def parted(package: str) -> Iterator[tuple[str, list[Definition]]]:
    """The parts of a package: what to write behind its name, and the definitions."""
    found = definitions(package)
    if package != "fttool.api":
        yield "", found
        return
    for module, about in PARTS.items():
        some = [one for one in found if (one.module if one.module in PARTS else "") == module]
        yield f": {about}", some


def described(one: Definition) -> Iterator[str]:
    """The lines of one name: what it is in code, its docstring, and its members."""
    if not isinstance(one.node, ast.ClassDef) or one.node.bases:
        yield from ("```python", head(one, wide=100), "```", "")
    yield from (*paragraphs(one.docstring), "")
    members = shown(one)
    if (one.name, one.module) == ("Recipe", "fttool.contracts.recipe"):
        yield from ("Its tables and keys are in [the recipe's reference](recipe.md).", "")
        members = [member for member in members if isinstance(member.node, ast.FunctionDef)]
    for member in members:
        text = paragraphs(member.docstring)
        yield f"- `{head(member)}`: {text[0]}"
        yield from (f"    {line}" if line else "" for line in text[1:])  # both kinds of Markdown take 4 blanks
        if "" in text:
            yield ""  # Python's Markdown takes the next entry for a line of this paragraph otherwise
    if members:
        yield ""


def shown(one: Definition) -> list[Definition]:
    """The members of a class that the page lists: without those that one of its bases has there, unchanged."""
    there = {name for package in PACKAGES for name in promised(package)}
    above = {id(member.node) for base in bases(one) if base.name in there for member in base.members}
    return [member for member in one.members if id(member.node) not in above and member.name != "model_config"]


def head(one: Definition, wide: int = 10**6) -> str:
    """A definition without its body: `lr: float = 2e-05`, `build(ctx: Context) -> Factor`, `class Pull`.

    On one line, but for the arguments of a function that would be longer than `wide`.
    """
    node = one.node
    if isinstance(node, ast.ClassDef):
        names = ", ".join(map(ast.unparse, node.bases))
        return f"class {node.name}({names})" if names else f"class {node.name}"
    if isinstance(node, ast.Assign | ast.AnnAssign):
        text = re.sub(r"field\(default_factory=dict\b.*\)$", "{}", ast.unparse(node))
        return text.replace("'", '"')
    given = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    if {ast.unparse(mark) for mark in node.decorator_list} & {"property", "cached_property"}:
        return node.name + given.replace(" -> ", ": ")
    taken = [text for text in arguments(node.args) if text not in ("self", "cls")]
    line = f"{node.name}({', '.join(taken)}){given}"
    if len(line) <= wide:
        return line
    return "\n".join([f"{node.name}(", *(f"    {text}," for text in taken), f"){given}"])


def arguments(of: ast.arguments) -> Iterator[str]:
    """The arguments of a function, each as it is written in its definition."""
    plain = [*of.posonlyargs, *of.args]
    defaults = [*[None] * (len(plain) - len(of.defaults)), *of.defaults]
    yield from (argument(one, default) for one, default in zip(plain, defaults, strict=True))
    if of.vararg:
        yield f"*{argument(of.vararg)}"
    elif of.kwonlyargs:
        yield "*"
    yield from (argument(one, default) for one, default in zip(of.kwonlyargs, of.kw_defaults, strict=True))
    if of.kwarg:
        yield f"**{argument(of.kwarg)}"


def argument(one: ast.arg, default: ast.expr | None = None) -> str:
    """`name: type = default`."""
    text = f"{one.arg}: {ast.unparse(one.annotation)}" if one.annotation else one.arg
    return text if default is None else f"{text} = {ast.unparse(default)}".replace("'", '"')


def paragraphs(docstring: str) -> list[str]:
    """The lines of a docstring as Markdown: what stands under `Args:` and `Raises:` becomes a list."""
    lines: list[str] = []
    for line in docstring.splitlines():
        if heading := re.fullmatch(r"(Args|Raises|Returns|Yields):", line):
            lines += [f"**{heading[1]}**", ""]
        elif entry := re.fullmatch(r" {4}(\*{0,2}\w[\w, ]*): (.+)", line):
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        else:
            lines.append(line.replace("        ", "    ", 1) if line.startswith("        ") else line)
    return lines
