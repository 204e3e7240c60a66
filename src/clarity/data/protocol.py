"""Protocol: owns the keys of a dataset that say how every loss is trained on it."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from clarity.recipes import Section


class Augment(Section):
    """Label-preserving random changes of a training image, the same for every loss."""

    shift: Annotated[int, Field(ge=0, description="largest shift in pixels, both axes")] = 0
    flip: Annotated[bool, Field(description="mirror left to right with probability 1/2")] = False
    brightness: Annotated[
        float, Field(ge=0, lt=1, description="factor in [1 - b, 1 + b] on all channels")
    ] = 0.0


class Training(Section):
    """How every loss is trained on a dataset: a difference here would pass for one of losses."""

    encoder: Annotated[Literal["convnet"], Field(description="network up to the embedding")] = (
        "convnet"
    )
    epochs: Annotated[PositiveInt, Field(description="passes over the training images")] = 10
    batch_size: Annotated[PositiveInt, Field(description="images a step, before views")] = 128
    samples_per_class: Annotated[
        PositiveInt | None,
        Field(description="images of a class in each batch; none shuffles regardless of class"),
    ] = None
    learning_rate: Annotated[PositiveFloat, Field(description="peak of the one-cycle schedule")] = (
        0.003
    )
    weight_decay: Annotated[float, Field(ge=0, description="AdamW's decoupled decay")] = 0.0005
    validation: Annotated[
        float,
        Field(gt=0, lt=0.5, description="share of the training images kept for calibration"),
    ] = 0.1
    augment: Augment = Augment()

    def training_part(self) -> dict[str, Any]:
        """Return the keys that concern training, plain: what `train` depends on."""
        return {key: value for key, value in self.plain().items() if key in Training.known_keys()}

    def source_part(self) -> dict[str, Any]:
        """Return the keys that concern the images, plain: what `prepare` depends on."""
        return {
            key: value for key, value in self.plain().items() if key not in Training.known_keys()
        }
