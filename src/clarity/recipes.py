"""Recipes: owns what every section of config.yaml has in common; the sections live in their stages.

A recipe is a named entry of the config. Its own keys are fields of a pydantic model; where it names
a library class, all other keys are keyword arguments of that class (`WithArguments`).
"""

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    StringConstraints,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

#: A recipe name becomes a folder `axis=name`: no separator, no blank, nothing a shell reads.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$")]


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return how to go on after ``word``: "; did you mean 'x'?" for the nearest word, or "."."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else "."


def not_among(place: str, found: str, allowed: Iterable[str]) -> str:
    """Describe a name that is none of those allowed."""
    names = list(allowed)
    return f"{place}: found '{found}'{nearest(found, names)} Allowed: {', '.join(names)}"


def kebab(name: str) -> str:
    """Return the config spelling of a field name: ``batch_size`` is ``batch-size``."""
    return name.replace("_", "-")


class Section(BaseModel):
    """A part of the config with fixed keys; an unknown key is an error that names the nearest."""

    model_config = ConfigDict(
        alias_generator=kebab,
        extra="forbid",
        frozen=True,
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    @classmethod
    def known_keys(cls) -> list[str]:
        """Return the keys that this section takes, as spelt in the config."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @model_validator(mode="before")
    @classmethod
    def _unknown_keys(cls, value: Any) -> Any:
        if isinstance(value, dict) and cls.model_config.get("extra") == "forbid":
            for key in value:
                if key not in cls.known_keys():
                    raise ValueError(
                        f"unknown key '{key}'{nearest(str(key), cls.known_keys())} "
                        f"Allowed: {', '.join(cls.known_keys())}."
                    )
        return value

    def plain(self) -> dict[str, Any]:
        """Return the recipe with all defaults filled in, as plain JSON-able values."""
        return self.model_dump(mode="json", by_alias=True)


class Named(Section):
    """A section with a name, which a bare text may stand for: ``sgd`` is ``{name: sgd}``."""

    name: str

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, handler(schema)]}


class WithArguments(Section):
    """A section that names a library class: keys beyond its own are arguments of that class."""

    model_config = ConfigDict(extra="allow")

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the named class."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _arguments_are_words(self) -> Self:
        for key in self.arguments:
            if not key.isidentifier():
                near = nearest(key, [*self.known_keys(), key.replace("-", "_")])
                raise ValueError(
                    f"unknown key '{key}'{near} Allowed: {', '.join(self.known_keys())}"
                )
        return self
