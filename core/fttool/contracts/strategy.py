"""What every strategy is, and what options are often made of: shares, and shares or steps.

Annotations are not postponed here: pydantic would compile those of `Strategy` anew for each class that derives from it.
A family's `family` and `place` have none, as the base class has declared them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from fttool.described import Described
from fttool.errors import Problem

if TYPE_CHECKING:
    from fttool.contracts.recipe import Recipe


Level: TypeAlias = Literal["token", "row", "word", "number"]
"""What is learned of a row: its tokens, its classes as a whole, a class for each of its words, or a number."""


Levels: TypeAlias = Level | tuple[Level, ...] | None
"""What a strategy is about: one level, several, or all of them (None)."""


Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
"""A share between 0 and 1."""


def _whole_steps(value: float) -> float:
    if value > 1 and not value.is_integer():
        raise PydanticCustomError("whole_steps", "Input should be a share below 1, or a whole number of steps")
    return value


ShareOrSteps: TypeAlias = Annotated[float, Field(ge=0), AfterValidator(_whole_steps)]
"""A share of the run below 1, a whole number of steps from 1 on."""


PositiveShareOrSteps: TypeAlias = Annotated[float, Field(gt=0), AfterValidator(_whole_steps)]
"""The same, for what cannot have length 0."""


def to_steps(share_or_steps: float, total: int) -> int:
    """Steps of a `ShareOrSteps` in a run of `total`: `ceil(share × total)` below 1, the number itself from 1 on."""
    if share_or_steps >= 1:
        return int(share_or_steps)
    product = share_or_steps * total
    nearest = round(product)
    if abs(product - nearest) < 1e-9 * max(total, 1):  # 0.1 × 30 is 3.0000000000000004
        return nearest
    return int(product) + 1


def _require_name(schema: dict[str, Any], strategy: "type[Strategy]") -> None:
    """A default alone would leave `name` optional in the schema; it is so for the family's default strategy only."""
    if "name" in schema.get("properties", {}) and (strategy.place.many or strategy.id() != strategy.place.default):
        schema["required"] = ["name", *(key for key in schema.get("required", []) if key != "name")]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the strategies of a family stand in a recipe."""

    table: str
    """The recipe's key, e.g. `schedule` or `data.*.format`."""
    default: str | None
    """Id of the built-in used when the recipe does not say; None where the recipe must say or may have none."""
    many: bool = False
    """True where the recipe holds a list of them."""


_T = TypeVar("_T")


class Track(Protocol):
    """Shows a progress bar on a terminal."""

    def __call__(self, items: Sequence[_T], what: str) -> Iterable[_T]:
        """The items one by one; `what` is done to them, e.g. "weighing the weights on general rows"."""
        ...


def _unshown(items: Sequence[_T], what: str) -> Iterable[_T]:
    return items


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every strategy gets, whatever its family."""

    seed: int = 0
    """The recipe's, for all that is random; the same in every process."""
    folder: Path = field(default_factory=Path)
    """The recipe's folder; relative paths start here."""
    track: Track = _unshown
    """Shows how far a long computation is."""


class Strategy(Described):
    """What every strategy is: options in, functions out."""

    model_config = ConfigDict(json_schema_extra=_require_name)

    family: ClassVar[str]
    """The family's name; set by the family's base class, like its place."""
    place: ClassVar[Place]
    """Where in a recipe the family stands, and which strategy is its default."""
    level: ClassVar[Levels] = None
    """What of a row it is about; None where it serves all. A recipe's strategies must agree with its task."""

    def check(self, recipe: "Recipe") -> Iterable[Problem]:
        """What in this recipe cannot go together with this strategy; run by `fttool validate`, before a model loads.

        A problem's `key` is relative to the recipe's root, e.g. `("schedule", "warmup")`.
        """
        return ()

    def check_files(self, recipe: "Recipe", folder: Path) -> Iterable[Problem]:
        """What is wrong with the files and folders that its options name, as far as it shows without torch and in no
        time; relative paths start in `folder`. Run by `fttool validate`, and by a run before anything is loaded.

        A problem's `key` is that of the option within the strategy's table, e.g. `("file",)`.
        """
        return ()

    @classmethod
    def serves(cls, level: Level | None) -> bool:
        """Whether it can be used beside a task that learns this of a row; None where the task does not say."""
        return (
            level is None or cls.level is None or level in ((cls.level,) if isinstance(cls.level, str) else cls.level)
        )

    @classmethod
    def id(cls) -> str:
        """The strategy's id: the value of its `name` literal."""
        return str(cls.model_fields["name"].default)
