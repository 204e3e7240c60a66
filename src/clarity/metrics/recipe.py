"""Metric recipes: own the keys of an entry under `metrics`; knows the classes by name only."""

from typing import Annotated, Literal

from pydantic import Field

from clarity.recipes import WithArguments


class MetricRecipe(WithArguments):
    """A metric by class name; keys beyond these are arguments of that class.

    What is left out comes from the registry (`clarity.metrics.registry`): signs, scaling and images
    are part of a metric's definition, and a default is no secret.
    """

    metric: Annotated[
        str, Field(description="a Quantus class, one of CLarity's, or module:Class of your own")
    ]
    datasets: Annotated[
        list[str] | None, Field(min_length=1, description="only these datasets; all if left out")
    ] = None
    images: Annotated[
        Literal["single", "scenes"] | None,
        Field(description="single test images, or two-class scenes"),
    ] = None
    sign: Annotated[
        Literal["signed", "positive", "absolute"] | None,
        Field(description="what is kept of a map's signs"),
    ] = None
    scale: Annotated[
        Literal["none", "max"] | None,
        Field(description="max divides each map by its largest absolute value"),
    ] = None
    softmax: Annotated[
        bool | None, Field(description="probabilities instead of calibrated scores")
    ] = None
    family: Annotated[
        str | None,
        Field(
            min_length=1,
            description="what this is a setting of: tables compare the rankings of a family. "
            "`settings: {NAME: {argument: value}}` makes a family of an entry",
        ),
    ] = None
