"""Loss recipes: own the keys of an entry under `losses`; knows the classes by name only."""

from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt

from clarity.recipes import WithArguments

#: The losses that are not classes of pytorch-metric-learning.
CROSS_ENTROPY = "cross-entropy"

ClassChoice = str | dict[str, Any]


class LossRecipe(WithArguments):
    """A loss by class name; keys beyond these are arguments of that class.

    `miner`, `distance` and `reducer` are class names of pytorch-metric-learning, or
    `{name: Class, argument: value}`.
    """

    loss: Annotated[str, Field(description="cross-entropy, or a pytorch-metric-learning class")]
    miner: ClassChoice | None = None
    distance: ClassChoice | None = None
    reducer: ClassChoice | None = None
    views: Annotated[PositiveInt, Field(le=4, description="augmented views of each image")] = 1
    learning_rate: Annotated[
        PositiveFloat | None, Field(description="instead of the dataset's; a confounder")
    ] = None

    @property
    def uses_head(self) -> bool:
        """Whether the loss trains the linear head; otherwise it is a probe, fitted afterwards."""
        return self.loss == CROSS_ENTROPY

    @property
    def parts(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """The named parts of the loss: key to (class name, arguments)."""
        chosen: dict[str, tuple[str, dict[str, Any]]] = {}
        for key in ("miner", "distance", "reducer"):
            choice = getattr(self, key)
            if isinstance(choice, str):
                chosen[key] = (choice, {})
            elif choice is not None:
                arguments = dict(choice)
                chosen[key] = (str(arguments.pop("name", "")), arguments)
        return chosen
