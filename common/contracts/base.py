"""What stages hand to each other as JSON: a model for each file (docs/ARTIFACTS.md), written and read here."""

from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from common.errors import DataError
from common.storage import read_json, write_json
from common.storage.local import rounded

T = TypeVar("T")


class Contract(BaseModel):
    """Base of the models: frozen, unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def of(cls, *sources: object, **given: Any) -> Self:
        """A model with the given fields, and those of the others that `sources` have: of the first that has one."""
        found = {
            name: getattr(source, name)
            for source in reversed(sources)
            for name in cls.model_fields
            if hasattr(source, name)
        }
        return cls(**{**found, **given})

    def rounded(self) -> Self:
        """The same with every float rounded, so that files do not differ in the last bits."""
        return self.model_validate(rounded(to_jsonable_python(self)))


def absent(description: str = "") -> Any:
    """A field that may be None, and is left out of the file then."""
    return Field(default=None, exclude_if=lambda value: value is None, description=description)


def write(path: Path, value: object) -> None:
    """Write a contract, or a list or dict of them, as JSON."""
    write_json(path, to_jsonable_python(value))


def read(kind: type[T], path: Path) -> T:
    """Open a JSON file as `kind`: a contract, or a list or dict of them.

    Raises:
        StorageError: the file is missing or no JSON.
        DataError: it holds something else.
    """
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the top"
        raise DataError(
            f"{path} is no {getattr(kind, '__name__', kind)}: at {place}, {first['msg'].lower()}; found "
            f"{str(first['input'])[:80]!r}. docs/ARTIFACTS.md says what is expected: make the artifact again with this "
            "version of the code"
        ) from error
