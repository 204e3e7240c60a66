"""Method recipes: own the keys of an entry under `methods`; knows the classes by name only."""

from typing import Annotated, Literal

from pydantic import Field

from clarity.recipes import WithArguments

#: Methods that see neither model nor class: what a good metric must rank last.
CONTROLS = ("RandomMap", "SobelMap")


class MethodRecipe(WithArguments):
    """An attribution method by class name; keys beyond these are arguments of that class."""

    method: Annotated[
        str, Field(description="a captum.attr class, a control, or module:Class of your own")
    ]
    target: Annotated[
        Literal["logit", "prototype", "contrast"],
        Field(description="the score that is explained for a class"),
    ] = "logit"
    baseline: Annotated[
        Literal["black", "white", "grey"] | None,
        Field(description="the image that stands for 'nothing', for methods that take one"),
    ] = None
    channels: Annotated[
        Literal["sum", "mean", "max-abs"],
        Field(description="how a map over colour channels becomes one over pixels, sign kept"),
    ] = "sum"

    @property
    def is_control(self) -> bool:
        """Whether the method looks at neither the model nor the class."""
        return self.method in CONTROLS
