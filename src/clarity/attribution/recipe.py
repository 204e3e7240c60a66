"""Method recipes: own the keys of an entry under `methods`; knows the classes by name only."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from clarity.recipes import Named, WithArguments, nearest

#: Methods that see neither model nor class: what a good metric must rank last.
CONTROLS = ("RandomMap", "SobelMap", "ConstantMap", "CentreGaussian")

#: The scores that can be explained (`clarity.attribution.targets`).
TargetName = Literal[
    "logit",
    "log-probability",
    "probe",
    "probe-normalised",
    "prototype",
    "prototype-centred",
    "knn",
    "similarity",
    "logit-uncalibrated",
    "probe-normalised-on-raw",
]

#: Keys that are for methods with a parameter of that name: the key, and the parameter.
TAKEN = {"baseline": "baselines", "segments": "feature_mask"}

#: Baselines that depend on the image, and so are no distribution for all.
OF_THE_IMAGE = ("mean", "blur")

#: What a class may be contrasted with, beside a class by its name.
FOILS = ("runner-up", "others", "softmax")

#: What stands before the name of a class that is a foil.
CLASS = "class:"


class Baseline(Named):
    """The image that stands for "nothing"; a name alone stands for ``{name: ...}``."""

    name: Annotated[
        Literal["black", "white", "grey", "mean", "blur", "uniform", "sample"],
        Field(
            description="a grey level, the mean colour of the image, the image blurred, uniform "
            "noise, or training images"
        ),
    ]
    blur: Annotated[
        float, Field(gt=0, le=1, description="standard deviation, as a share of the image's side")
    ] = 0.1
    count: Annotated[
        PositiveInt, Field(le=32, description="images of sample or uniform, for methods of several")
    ] = 16

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> Self:
        if self.name != "blur" and self.blur != type(self).model_fields["blur"].default:
            raise ValueError(f"blur: found with {self.name}, wanted with the name blur alone")
        several = self.name in ("sample", "uniform")
        if not several and self.count != type(self).model_fields["count"].default:
            raise ValueError(f"count: found with {self.name}, wanted with sample or uniform alone")
        return self


class Segments(Named):
    """The regions that are removed together; a name alone stands for ``{name: ...}``."""

    name: Annotated[
        Literal["grid", "slic"], Field(description="squares, or superpixels by k-means")
    ] = "grid"
    count: Annotated[int, Field(ge=2, description="regions, about")] = 49
    compactness: Annotated[
        PositiveFloat, Field(description="of slic: how much place counts against colour")
    ] = 10.0

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> Self:
        unused = self.compactness != type(self).model_fields["compactness"].default
        if self.name != "slic" and unused:
            raise ValueError(f"compactness: found with {self.name}, wanted with slic alone")
        return self


class Noise(Named):
    """Noise around the image that a method is averaged over; a name alone will do."""

    name: Annotated[
        Literal["smoothgrad", "smoothgrad-squared", "vargrad"],
        Field(description="mean, mean square or variance over the noise"),
    ]
    samples: Annotated[PositiveInt, Field(description="draws of noise")] = 25
    stdev: Annotated[
        PositiveFloat, Field(description="standard deviation, for images in [0, 1]")
    ] = 0.15

    @model_validator(mode="after")
    def _a_variance_takes_two(self) -> Self:
        if self.name == "vargrad" and self.samples < 2:
            raise ValueError("samples: found 1, wanted 2 or more for a variance")
        return self


class MethodRecipe(WithArguments):
    """An attribution method by class name; keys beyond these are arguments of that class."""

    method: Annotated[
        str,
        Field(
            description="a class of clarity.attribution or captum.attr, or module:Class of your own"
        ),
    ]
    target: Annotated[
        TargetName,
        Field(
            description="the score that is explained for a class; `contrast` is short for the "
            "logit with the foil runner-up",
            json_schema_extra={"enum": [*get_args(TargetName), "contrast"]},
        ),
    ] = "logit"
    foil: Annotated[
        str | None,
        Field(
            description="what is subtracted from the score: the runner-up's, the mean of the "
            "others', their mean by probability (softmax), or that of a class (class:NAME)"
        ),
    ] = None
    baseline: Annotated[
        Baseline | None, Field(description="the image that stands for nothing; black if left out")
    ] = None
    segments: Annotated[
        Segments | None,
        Field(description="regions that perturbation methods remove; a grid if left out"),
    ] = None
    noise: Annotated[
        Noise | None, Field(description="average over noise around the image (NoiseTunnel)")
    ] = None
    sign: Annotated[
        Literal["signed", "positive", "absolute"],
        Field(description="what is kept of signs, before channels become one"),
    ] = "signed"
    channels: Annotated[
        Literal["sum", "mean", "max-abs"],
        Field(description="how a map over colour channels becomes one over pixels, sign kept"),
    ] = "sum"

    @model_validator(mode="before")
    @classmethod
    def _contrast_alone(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("target") == "contrast":
            if "foil" in value and value["foil"] is None:
                raise ValueError("foil: found null with the target contrast, wanted a foil")
            return {"foil": "runner-up", **value, "target": "logit"}
        return value

    @field_validator("foil")
    @classmethod
    def _foil_is_known(cls, value: str | None) -> str | None:
        if value is not None and value not in FOILS and not value.startswith(CLASS):
            raise ValueError(
                f"found '{value}'{nearest(value, FOILS)} Allowed: {', '.join(FOILS)}, or "
                f"{CLASS}NAME for a class of the dataset"
            )
        return value

    @model_validator(mode="after")
    def _controls_see_no_noise(self) -> Self:
        if self.noise is not None and self.is_control:
            raise ValueError(f"noise: found with the control {self.method}, which sees no model")
        return self

    @property
    def is_control(self) -> bool:
        """Whether the method looks at neither the model nor the class."""
        return self.method in CONTROLS
