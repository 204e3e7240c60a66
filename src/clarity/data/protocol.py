"""Protocol: owns the keys of a dataset that say how every loss is trained on it."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError

from clarity.models.recipe import EncoderRecipe
from clarity.recipes import Named, Section, nearest

#: No loss is trained otherwise than the others.
NONE: dict[str, dict[str, Any]] = {}


class Augment(Section):
    """Label-preserving random changes of a training image, the same for every loss."""

    shift: Annotated[int, Field(ge=0, description="largest shift in pixels, both axes")] = 0
    crop: Annotated[
        float,
        Field(gt=0, le=1, description="smallest share of the area that a crop keeps, then resized"),
    ] = 1.0
    flip: Annotated[bool, Field(description="mirror left to right with probability 1/2")] = False
    brightness: Annotated[
        float, Field(ge=0, lt=1, description="factor in [1 - b, 1 + b] on all channels")
    ] = 0.0
    contrast: Annotated[
        float, Field(ge=0, lt=1, description="factor in [1 - c, 1 + c] around the mean grey")
    ] = 0.0
    saturation: Annotated[
        float, Field(ge=0, lt=1, description="factor in [1 - s, 1 + s] around each pixel's grey")
    ] = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5, description="turn in [-h, h] of the circle")] = 0.0
    jitter: Annotated[
        float, Field(ge=0, le=1, description="share of images whose colours change at all")
    ] = 1.0
    grey: Annotated[float, Field(ge=0, le=1, description="share of images made grey")] = 0.0


class Optimizer(Named):
    """A gradient method; its learning rate and weight decay are keys of the dataset."""

    name: Annotated[
        Literal["adamw", "adam", "radam", "sgd", "lars"], Field(description="the method")
    ] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1, description="of sgd and lars")] = 0.9
    nesterov: Annotated[bool, Field(description="Nesterov's momentum, for sgd and lars")] = False


class Normalisation(Section):
    """What is subtracted from each channel and what it is divided by, for images in [0, 1]."""

    mean: Annotated[list[float], Field(min_length=1, max_length=4)]
    std: Annotated[list[PositiveFloat], Field(min_length=1, max_length=4)]


class EarlyStopping(Section):
    """Stop when accuracy no longer rises, and keep the best epoch; a confounder, hence off."""

    patience: Annotated[PositiveInt, Field(description="epochs without a better one")] = 10
    share: Annotated[
        float,
        Field(gt=0, lt=0.5, description="share of the training images kept for this choice alone"),
    ] = 0.1


class Training(Section):
    """How every loss is trained on a dataset: a difference here would pass for one of losses."""

    encoder: EncoderRecipe = EncoderRecipe.model_validate("convnet")
    epochs: Annotated[PositiveInt, Field(description="passes over the training images")] = 10
    batch_size: Annotated[PositiveInt, Field(description="images a step, views counted")] = 128
    samples_per_class: Annotated[
        PositiveInt | None,
        Field(description="images of a class in each batch; none shuffles regardless of class"),
    ] = None
    budget: Annotated[
        Literal["images", "epochs"],
        Field(
            description="images: every loss sees the same number, so one with two views half as "
            "many different ones a step; epochs: the same number of passes, whatever the views"
        ),
    ] = "images"
    optimizer: Optimizer = Optimizer()
    learning_rate: Annotated[PositiveFloat, Field(description="peak of the schedule")] = 0.003
    weight_decay: Annotated[
        float, Field(ge=0, description="decoupled for adamw, else added to the gradient")
    ] = 0.0005
    schedule: Annotated[
        Literal["one-cycle", "cosine", "linear", "constant"],
        Field(description="how the rate goes after warm-up"),
    ] = "one-cycle"
    warm_up: Annotated[
        float, Field(ge=0, lt=1, description="share of the steps in which the rate rises")
    ] = 0.25
    validation: Annotated[
        float,
        Field(gt=0, lt=0.5, description="share of the training images kept for calibration"),
    ] = 0.1
    early_stopping: EarlyStopping | None = None
    normalisation: Annotated[
        Normalisation | None,
        Field(description="what pretrained weights expect, else computed, if left out"),
    ] = None
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(description="of the encoder in training; auto is bfloat16 on GPUs"),
    ] = "auto"
    compile: Annotated[bool, Field(description="compile the encoder with torch.compile")] = False
    augment: Augment = Augment()
    exceptions: Annotated[
        dict[str, dict[str, Any]],
        Field(description="by loss, keys of this list that differ for it: a confounder"),
    ] = NONE

    def training_part(self, loss: str) -> dict[str, Any]:
        """Return the keys that concern training by a loss, plain: what `train` depends on."""
        return self.for_loss(loss).plain()

    def source_part(self) -> dict[str, Any]:
        """Return the keys that concern the images, plain: what `prepare` depends on."""
        return {
            key: value for key, value in self.plain().items() if key not in Training.known_keys()
        }

    def for_loss(self, loss: str) -> "Training":
        """Return the keys of training alone, with the exceptions of ``loss`` in place."""
        known = Training.known_keys()
        plain = {key: value for key, value in self.plain().items() if key in known}
        exceptions = plain.pop("exceptions")
        return Training(**{**plain, **exceptions.get(loss, {})})

    def training_problems(self, where: str, views: Mapping[str, int]) -> Iterator[str]:
        """Yield what is wrong with training beyond single keys, each with its place.

        Args:
            where: the place in the config, such as ``datasets.cifar10``.
            views: by loss, the augmented views of each image.
        """
        names = list(views)
        yield from self.encoder.problems(f"{where}.encoder")
        for loss, changes in self.exceptions.items():
            place = f"{where}.exceptions.{loss}"
            if loss not in names:
                yield f"{place}: no such loss{nearest(loss, names)} Allowed: {', '.join(names)}"
            allowed = [key for key in Training.known_keys() if key != "exceptions"]
            unknown = [key for key in changes if key not in allowed]
            for key in unknown:
                yield f"{place}.{key}: unknown key{nearest(key, allowed)}"
            if unknown:
                continue
            try:
                yield from self.for_loss(loss)._own_problems(place)
            except ValidationError as error:
                for detail in error.errors():
                    key = ".".join(map(str, detail["loc"]))
                    yield f"{place}.{key}: found {detail['input']!r}; {detail['msg']}"
        yield from self._own_problems(where)
        for loss, count in views.items():
            if loss not in self.exceptions:
                yield from self._budget_problems(where, loss, count)

    def _budget_problems(self, where: str, loss: str, views: int) -> Iterator[str]:
        """Yield that batches of whole groups of a class, in views, would differ between losses."""
        group = (self.samples_per_class or 1) * views
        if self.budget == "images" and self.batch_size % group:
            yield (
                f"{where}.batch-size: found {self.batch_size}, wanted a multiple of {group} "
                f"(samples-per-class {self.samples_per_class or 1} x {views} views of '{loss}'), "
                f"so that all losses see as many images a step"
            )

    def _own_problems(self, where: str) -> Iterator[str]:
        if self.validation + (self.early_stopping.share if self.early_stopping else 0) >= 0.6:
            yield f"{where}.validation: found more kept back than to learn from"
        if self.samples_per_class is not None and self.samples_per_class > self.batch_size:
            yield (
                f"{where}.samples-per-class: found {self.samples_per_class}, wanted at most the "
                f"batch-size, {self.batch_size}"
            )
