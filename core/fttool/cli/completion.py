"""Print a shell's script that completes verbs, options, `--set` keys, ids of strategies, and files.

The script asks fttool which words may follow, so it knows what is installed.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout, suppress
from typing import Any, get_args, get_origin

from fttool.errors import ExitCode
from fttool.visible import visible

EXAMPLES = """\
examples:
  fttool completion bash > fttool.bash     then, in ~/.bashrc: source fttool.bash
  fttool completion zsh > _fttool          into a folder of your $fpath
  fttool completion fish > fttool.fish     into ~/.config/fish/completions

next: start a new shell, type fttool run and press Tab
"""

BASH = """\
_fttool() {
    local line="${COMP_LINE:0:COMP_POINT}" last
    local -a words
    read -ra words <<< "$line"
    [[ $line == *' ' ]] && words+=("")
    last="${words[-1]}"
    local IFS=$'\\n'
    COMPREPLY=($(printf '%s\\n' "${words[@]:1}" | fttool completion words 2>/dev/null))
    [[ $COMP_WORDBREAKS == *=* && $last == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${last%"${last##*=}"}"}")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _fttool fttool
"""
ZSH = """\
#compdef fttool
local -a found
found=(${(f)"$(printf '%s\\n' "${(@)words[2,$CURRENT]}" | fttool completion words 2>/dev/null)"})
if (( ! ${#found} )); then _files; return; fi
compadd -S '' -- ${(M)found:#*=}
compadd -- ${found:#*=}
"""
FISH = """\
function __fttool_words
    set -l words (commandline -opc) (commandline -ct)
    printf '%s\\n' $words[2..] | fttool completion words 2>/dev/null
end
complete -c fttool -a '(__fttool_words)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    parser.add_argument(
        "shell",
        choices=[*SCRIPTS, "words"],
        metavar="SHELL",
        help="bash, zsh or fish; words: completions of the words on standard input",
    )


def main(options: argparse.Namespace) -> int:
    """Print the script, or the words."""
    if options.shell in SCRIPTS:
        print(SCRIPTS[options.shell], end="")
        return ExitCode.OK
    typed = sys.stdin.read().removesuffix("\n").split("\n")
    words = {word for word in candidates(typed) if word.startswith(typed[-1])}
    print(*(f"{visible(word)}\n" for word in sorted(words)), sep="", end="")
    return ExitCode.OK


def candidates(typed: list[str]) -> Iterable[str]:
    """What the last of the words after `fttool` may become; nothing where the shell is to propose files."""
    from fttool.cli import VERBS, plugin_verbs
    from fttool.contracts import FAMILIES
    from fttool.listing import listed
    from fttool.plugins import Plugins

    verbs = [*VERBS, *plugin_verbs.installed(VERBS)]
    verb, last, before = typed[0], typed[-1], typed[-2] if len(typed) > 1 else ""
    if len(typed) == 1:
        return verbs
    if before == "--set":
        return _overrides(last)
    if before == "--family":
        return FAMILIES
    if verb == "plugins" and before == "show":
        return (str(row.id) for row in listed(Plugins.discover()) if row.id)
    if verb == "plugins" and before == "plugins" and not last.startswith("-"):
        return ("list", "show", "new")
    return _options(typed[0]) if verb in verbs and last.startswith("-") else ()


def _options(verb: str) -> Iterable[str]:
    """The options that a verb's help names."""
    from fttool.cli import main as call

    with redirect_stdout(io.StringIO()) as shown, suppress(SystemExit):
        call([verb, "--help"])
    return re.findall(r"(?<![\w-])--[a-z][a-z-]*", shown.getvalue())


def _overrides(text: str) -> Iterator[str]:
    """`schedule.name=` and its like; after the sign of equality the ids that may stand there."""
    from fttool.contracts.recipe import Recipe
    from fttool.plugins import Plugins
    from fttool.recipe.closed import family_at

    key, equals, _ = text.partition("=")
    plugins = Plugins.discover()
    if equals:
        family = family_at(key.removesuffix(".name").split("."))
        yield from (f"{key}={strategy.id()}" for strategy in plugins.family(family.family)) if family else ()
        return
    yield from (f"{name}=" for name in _keys(Recipe, (), plugins))


def _keys(table: Any, place: tuple[str, ...], plugins: Any) -> Iterator[str]:
    """Dotted keys below a table of the recipe; entries of lists have numbers, and only the first one is proposed."""
    from pydantic import BaseModel

    from fttool.recipe.closed import family_at

    for name, field in table.model_fields.items():
        here, inner = (*place, name), field.annotation
        if get_origin(inner) is tuple:
            here, inner = (*here, "0"), get_args(inner)[0]
        family = family_at([part for part in here if not part.isdigit()])
        if family is not None:
            options = {option for strategy in plugins.family(family.family) for option in strategy.model_fields}
            yield from (".".join((*here, option)) for option in options)
            yield ".".join((*place, name))
        elif isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner, here, plugins)
        else:
            yield ".".join((*place, name))
