"""Write docs/cat-dog.md and its figures from the results of config/cat-dog.yaml.

    python docs/cat_dog.py --data FOLDER

One picture of a dog and a cat, the last of the evaluation set, is explained for both classes: by
every method on the pretrained encoder, and by some on what each loss made of it. The picture itself
is in no figure, and the maps are shown at a quarter of its size, so that none redraws it.
"""

import argparse
import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import yaml
from coverage import base_and_target, save_small
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from clarity import storage
from clarity.attribution.methods import Explainer, Setting
from clarity.attribution.protocol import MethodUnavailable
from clarity.attribution.recipe import CLASS, MethodRecipe
from clarity.config import Config, load_config
from clarity.data.sets import EvaluationSet, Splits, to_input
from clarity.figures import style
from clarity.figures.maps import PAIR_GAP, broken, draw_key, draw_map
from clarity.figures.sheet import sheet
from clarity.grid import Cell, Run
from clarity.losses.recipe import CROSS_ENTROPY
from clarity.models import classifier, networks, weights
from clarity.models.classifier import HEADS, Classifier, HeadName, Shape
from clarity.models.recipe import LITE0_NORMALISATION
from clarity.runtime import deterministic
from clarity.stages.attribute import setting
from clarity.training.batches import part
from clarity.training.heads import embed, set_heads

ROOT = Path(__file__).parents[1]
DATASET = "cat-dog"
TARGETS = ("logit", "prototype", "contrast")
CPU = torch.device("cpu")

#: ImageNet's classes of the breeds in both.png, by the names of the two classes.
BREEDS = {"Dog": 243, "Cat": 282}
IMAGENET_CLASSES = 1000

#: What methods of config/methods.yaml, made for 32x32, are given at 224x224 instead.
SUPERPIXELS = {"name": "slic", "count": 49}
AT_SIZE = {
    "smoothgrad": {"noise": {"name": "smoothgrad", "samples": 10}},
    "smoothgrad-squared": {"noise": {"name": "smoothgrad-squared", "samples": 10}},
    "vargrad": {"noise": {"name": "vargrad", "samples": 10}},
    "integrated-gradients": {"n_steps": 16},
    "integrated-gradients-blur": {"n_steps": 16},
    "gradient-shap": {"n_samples": 16},
    "deeplift-shap": {"baseline": {"name": "sample", "count": 8}},
    "occlusion": {"sliding_window_shapes": [3, 48, 48], "strides": [3, 16, 16]},
    "feature-ablation-slic": {"segments": SUPERPIXELS},
    "feature-permutation": {"baseline": {"name": "sample", "count": 4}},
    "shapley-sampling": {"n_samples": 4, "segments": SUPERPIXELS},
    "kernel-shap": {"n_samples": 200, "segments": SUPERPIXELS},
    "lime": {"n_samples": 200, "segments": SUPERPIXELS},
    "rise": {"n_masks": 200},
}

#: A pass for each of 1,280 channels and image of a class: for the logit alone.
ONCE = ("scorecam",)

#: It sees no model, and would redraw the picture.
LEFT_OUT = "SobelMap"

#: The methods of the figure of all models, by their titles; Grad-CAM's maps are those of the run.
SHOWN = {
    "Grad-CAM": {"method": "LayerGradCam"},
    "LRP": {"method": "LRP", "composite": "EpsilonPlus"},
    "Occlusion": {
        "method": "Occlusion",
        "sliding_window_shapes": [3, 56, 56],
        "strides": [3, 28, 28],
    },
    "Integrated gradients": {"method": "IntegratedGradients", "n_steps": 16, "baseline": "blur"},
}

#: Rows that are no loss of the config: the encoder before training, and what cross-entropy made of
#: it with a head that was fitted afterwards, as the other losses' heads are.
PRETRAINED = "pretrained"
REFITTED = "cross-entropy, fitted head"

#: What the key says of the boxes.
BOXES = "black the box of its class, grey the other"

#: Pixels of the picture to a side of a pixel of a map that is shown.
POOLED = 4

#: Lengths of the figure of all models, in inches.
MAP, LABEL, TARGET_GAP, ROW_GAP, BLOCK_GAP = 0.56, 0.98, 0.1, 0.17, 0.3
HEADER, FOOTER = 0.62, 0.5


@dataclass(frozen=True)
class Subject:
    """The picture and where its two animals are.

    Attributes:
        images: the evaluation set, whose last row is the picture.
        picture: [1, C, H, W] in [0, 1].
        classes: the numbers of the two classes among the dataset's.
        names: their names.
        masks: bool [2, H, W], their boxes.
    """

    images: EvaluationSet
    picture: Tensor
    classes: tuple[int, int]
    names: tuple[str, str]
    masks: np.ndarray

    @property
    def scenes(self) -> np.ndarray:
        """The rows of all two-class scenes, the picture the last."""
        return np.flatnonzero(~self.images.single)

    @classmethod
    def read(cls, results: Path) -> "Subject":
        """Take the picture from the run's evaluation set."""
        images = EvaluationSet.read(results / f"dataset={DATASET}" / "evaluation.safetensors")
        assert images.own_pictures
        assert images.masks is not None
        first, second = images.classes[-1].tolist()
        return cls(
            images,
            to_input(images.images[-1:], CPU),
            (first, second),
            (images.class_names[first], images.class_names[second]),
            images.masks[-1],
        )


def frozen(config: Config, splits: Splits) -> Classifier:
    """Return the pretrained encoder as it comes, with heads fitted to the training images."""
    recipe = config.datasets[DATASET]
    shape = Shape(recipe.encoder.plain(), *splits.train_images.shape[1:3], len(splits.class_names))
    model = _pretrained(shape)
    parts = part(splits.train_images, splits.train_labels, recipe, DATASET)
    set_heads(model, parts, False, DATASET, CPU)
    return model


def refitted(model: Classifier) -> Classifier:
    """Return a copy of a classifier, its linear head replaced by the probe."""
    found = copy.deepcopy(model)
    found.head.load_state_dict(model.probe.state_dict())
    found.temperatures[HEADS.index("linear")] = model.temperatures[HEADS.index("probe")]
    return found


def of_imagenet(two_classes: Classifier, subject: Subject) -> Classifier:
    """Return the network as trained on ImageNet, its prototypes of two breeds those of the pets.

    Args:
        two_classes: the same encoder with the prototypes of the dataset's classes.
        subject: which classes these are.
    """
    shape = two_classes.shape
    model = _pretrained(Shape(shape.encoder, shape.channels, shape.size, IMAGENET_CLASSES))
    state = weights.read(networks._lite0_weights())
    model.head.load_state_dict({"weight": state["_fc.weight"], "bias": state["_fc.bias"]})
    for number, name in zip(subject.classes, subject.names, strict=True):
        model.prototypes[BREEDS[name]] = two_classes.prototypes[number]
    return model


def _pretrained(shape: Shape) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of heads that are replaced
        model = Classifier(shape, pretrained=True)
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in LITE0_NORMALISATION)
    model.mean.copy_(mean)
    model.std.copy_(std)
    return model.eval().requires_grad_(False)


def explained(
    recipe: MethodRecipe,
    target: str,
    model: Classifier,
    image: Tensor,
    pair: Sequence[int],
    known: Setting,
) -> np.ndarray:
    """Return the maps [2, H, W] of both classes of an image [1, C, H, W].

    The foil of a contrast is the other class by its name: on ImageNet, the runner-up of the dog's
    breed is another breed.

    Raises:
        MethodUnavailable: if the method cannot explain the model.
    """
    if target != "contrast":
        explain = Explainer(recipe.model_copy(update={"target": target}), model, known)
        return explain(image, torch.tensor([list(pair)]))[0].numpy()
    maps = []
    for own, other in (tuple(pair), tuple(pair)[::-1]):
        foil = f"{CLASS}{known.class_names[other]}"
        explain = Explainer(recipe.model_copy(update={"foil": foil}), model, known)
        maps.append(explain(image, torch.tensor([own]))[0].numpy())
    return np.stack(maps)


def share(values: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of what is positive in a map [H, W] that lies in a mask; nan if nothing."""
    positive = values.clip(min=0)
    total = positive.sum(dtype=np.float64)
    return float(positive[mask].sum(dtype=np.float64) / total) if total else float("nan")


def pooled(maps: np.ndarray) -> np.ndarray:
    """Average maps [..., H, W] over squares of `POOLED` pixels."""
    *front, height, width = maps.shape
    squares = maps.reshape(*front, height // POOLED, POOLED, width // POOLED, POOLED)
    return np.asarray(squares.mean(axis=(-3, -1)))


# --- every method on the pretrained network ---------------------------------------------------


def all_methods() -> dict[str, MethodRecipe]:
    """Return the methods of config/methods.yaml, each once, with arguments for this size."""
    config = load_config(yaml.safe_load((ROOT / "config" / "methods.yaml").read_text()))
    found = {}
    for entry, recipe in config.methods.items():
        name, target = base_and_target(config, entry)
        if target != "logit" or recipe.method == LEFT_OUT:
            continue
        found[name] = MethodRecipe.model_validate({**recipe.plain(), **AT_SIZE.get(name, {})})
    return found


def maps_of_all_methods(
    model: Classifier, subject: Subject
) -> dict[tuple[str, str], np.ndarray | str]:
    """Explain the picture on the network of ImageNet: maps [2, H, W] by method and target."""
    names = [str(number) for number in range(IMAGENET_CLASSES)]
    pair = BREEDS[subject.names[0]], BREEDS[subject.names[1]]
    known = Setting(references=to_input(subject.images.references, CPU), class_names=names)
    found: dict[tuple[str, str], np.ndarray | str] = {}
    for name, recipe in all_methods().items():
        for target in TARGETS[:1] if recipe.is_control or name in ONCE else TARGETS:
            try:
                found[name, target] = explained(recipe, target, model, subject.picture, pair, known)
            except MethodUnavailable as reason:
                found[name, target] = str(reason)
    return found


def figure_of_all_methods(
    maps: Mapping[tuple[str, str], np.ndarray | str], subject: Subject
) -> Figure:
    """Draw a row a method and a pair of maps a target."""
    small = {k: v if isinstance(v, str) else pooled(v) for k, v in maps.items()}
    return sheet(
        small,
        rows=list(dict.fromkeys(method for method, _ in maps)),
        columns=TARGETS,
        pair=(subject.names[0].lower(), subject.names[1].lower()),
        under=_white(subject),
        masks=subject.masks,
        below=BOXES,
    )


def _white(subject: Subject) -> np.ndarray:
    return np.ones([side // POOLED for side in subject.masks.shape[1:]])


# --- some methods on what each loss made of it ------------------------------------------------


def load(results: Path, run: Run) -> Classifier:
    """Return the model of a run."""
    return classifier.load(results / run.folder / "model.safetensors", CPU)


def stored(results: Path, run: Run, target: str, rows: Sequence[int]) -> np.ndarray:
    """Return the run's own Grad-CAM maps [rows, 2, H, W]."""
    method = "gradcam" if target == "logit" else f"gradcam-{target}"
    path = results / Cell(run, method).folder / "attributions.safetensors"
    return storage.read_tensor_rows(path, "maps", list(rows))


def maps_of_models(
    results: Path, config: Config, models: Mapping[str, Classifier], subject: Subject
) -> dict[tuple[str, str, str], np.ndarray]:
    """Explain the picture on each model: maps [2, H, W] by method, model and target."""
    known = setting(subject.images, CPU, config.seeds[0], None)
    found = {}
    for title, plain in SHOWN.items():
        recipe = MethodRecipe.model_validate(plain)
        for name, model in models.items():
            for target in TARGETS:
                if title == "Grad-CAM" and name in config.losses:
                    run = Run(DATASET, name, config.seeds[0])
                    found[title, name, target] = stored(results, run, target, subject.scenes[-1:])[
                        0
                    ]
                    continue
                found[title, name, target] = explained(
                    recipe, target, model, subject.picture, subject.classes, known
                )
    return found


@style.styled
def figure_of_models(maps: Mapping[tuple[str, str, str], np.ndarray], subject: Subject) -> Figure:
    """Draw a block a method, in it a row a model and a pair of maps a target."""
    titles, models = (list(dict.fromkeys(key[place] for key in maps)) for place in (0, 1))
    group = 2 * MAP + PAIR_GAP + TARGET_GAP
    block = LABEL + len(TARGETS) * group, HEADER + len(models) * (MAP + ROW_GAP)
    lines = -(-len(titles) // 2)
    width, height = 2 * block[0] + BLOCK_GAP, lines * (block[1] + BLOCK_GAP / 2) + FOOTER
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for place, title in enumerate(titles):
        left = place % 2 * (block[0] + BLOCK_GAP)
        top = place // 2 * (block[1] + BLOCK_GAP / 2)
        middle = left + LABEL + (len(TARGETS) * group - TARGET_GAP) / 2
        _word(axes, title, middle, top + 0.16, size=style.BASE_SIZE + 1, weight="bold")
        for column, target in enumerate(TARGETS):
            x = left + LABEL + column * group
            _word(axes, target, x + group / 2 - TARGET_GAP / 2, top + 0.38, weight="bold")
            for slot, name in enumerate(subject.names):
                at = x + slot * (MAP + PAIR_GAP) + MAP / 2
                _word(axes, name.lower(), at, top + HEADER - 0.09, color=style.MUTED)
            for row, model in enumerate(models):
                y = top + HEADER + row * (MAP + ROW_GAP)
                if column == 0:
                    label = "\n".join(broken(model, 14, 2))
                    axes.text(x - 0.07, y + MAP / 2, label, ha="right", va="center")
                _pair(axes, maps[title, model, target], subject, x, y)
    draw_key(axes, LABEL, height - FOOTER + 0.14, BOXES)
    return figure


def _word(
    axes: Axes, text: str, x: float, y: float, *, size: float = style.BASE_SIZE, **look: str
) -> None:
    axes.text(x, y, text, ha="center", va="center", fontsize=size, **look)


def _pair(axes: Axes, maps: np.ndarray, subject: Subject, x: float, y: float) -> None:
    """Draw two maps with the share of what is positive in the box of their class."""
    for slot, values in enumerate(maps):
        at = x + slot * (MAP + PAIR_GAP)
        draw_map(axes, pooled(values), _white(subject), subject.masks, slot, at, y, MAP)
        found = share(values, subject.masks[slot])
        text = "none" if np.isnan(found) else f"{found:.2f}"
        _word(axes, text, at + MAP / 2, y + MAP + 0.075, size=style.TINY_SIZE + 0.5)


# --- the table ---------------------------------------------------------------------------------


def shares(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share of each class's map [2, H, W] in each class's mask: [map, mask]."""
    return np.array([[share(values, mask) for mask in masks] for values in maps])


@dataclass(frozen=True)
class Line:
    """A model and target: shares [seed, map, mask], shares in mosaics [seed], accuracies [seed]."""

    picture: np.ndarray
    mosaics: np.ndarray
    accuracy: np.ndarray


def lines_of(
    results: Path, config: Config, untrained: Classifier, splits: Splits, subject: Subject
) -> dict[tuple[str, str], Line]:
    """Return what Grad-CAM's maps have in the boxes, by model and target."""
    found = {
        (PRETRAINED, target): together([computed(untrained, target, splits, subject)])
        for target in TARGETS
    }
    for loss in config.losses:
        runs = [Run(DATASET, loss, seed) for seed in config.seeds]
        for target in TARGETS:
            found[loss, target] = together([of_run(results, run, target, subject) for run in runs])
        if loss == CROSS_ENTROPY:
            models = [refitted(load(results, run)) for run in runs]
            found[REFITTED, "logit"] = together(
                [computed(model, "logit", splits, subject) for model in models]
            )
    return found


def of_run(results: Path, run: Run, target: str, subject: Subject) -> Line:
    """Return what stands in the files of a run."""
    predictions = storage.read_table(results / run.folder / "predictions.parquet")
    column = "correct_prototype" if target == "prototype" else "correct"
    return measured(
        stored(results, run, target, subject.scenes),
        predictions.loc[predictions["split"] == "test", column].mean(),
        subject,
    )


def computed(model: Classifier, target: str, splits: Splits, subject: Subject) -> Line:
    """Return the same for a model that is no run's."""
    images = subject.images
    known = setting(images, CPU, 0, None)
    recipe = MethodRecipe.model_validate(SHOWN["Grad-CAM"])
    maps = [
        explained(
            recipe, target, model, to_input(images.images[[row]], CPU), images.classes[row], known
        )
        for row in subject.scenes
    ]
    head: HeadName = "prototype" if target == "prototype" else "linear"
    predicted = model.scores(embed(model, splits.test_images, CPU), head).argmax(1).numpy()
    return measured(np.stack(maps), np.mean(predicted == splits.test_labels), subject)


def measured(maps: np.ndarray, accuracy: float, subject: Subject) -> Line:
    """Return a line of one seed from the maps [S, 2, H, W] of all scenes, the picture the last."""
    assert subject.images.masks is not None
    masks = subject.images.masks[subject.scenes]
    found = np.array([shares(*scene) for scene in zip(maps, masks, strict=True)])
    own = found[:-1, [0, 1], [0, 1]]
    return Line(found[-1:], np.nanmean(own, keepdims=True)[0], np.array([accuracy]))


def together(lines: Sequence[Line]) -> Line:
    """Return the lines of several seeds as one."""
    return Line(
        *(np.concatenate([getattr(line, field.name) for line in lines]) for field in fields(Line))
    )


def table(lines: Mapping[tuple[str, str], Line], subject: Subject) -> str:
    """Return the table as Markdown: means over seeds, and each seed."""
    first, second = (name.lower() for name in subject.names)
    head = [
        f"| model | target | {first}: own box (other) | {second}: own box (other) "
        "| mosaics: own tiles | accuracy |",
        "|---|---|---|---|---|---|",
    ]
    rows = []
    for (model, target), line in lines.items():
        cells = [model, target]
        for slot in range(2):
            own, other = line.picture[:, slot, slot], line.picture[:, slot, 1 - slot]
            each = " · ".join(_pair_of(*two) for two in zip(own, other, strict=True))
            mean = _pair_of(own.mean(), other.mean())
            cells.append(f"{mean}<br>{each}" if len(own) > 1 else mean)
        cells += [_numbers(line.mosaics), _numbers(line.accuracy)]
        rows.append(f"| {' | '.join(cells)} |")
    area = subject.masks.mean(axis=(1, 2))
    null = [_pair_of(area[slot], area[1 - slot]) for slot in range(2)]
    rows.append(f"| *evenly spread map* | | {null[0]} | {null[1]} | 0.50 | |")
    return "\n".join([*head, *rows])


def _pair_of(own: float, other: float) -> str:
    return f"{own:.2f} ({other:.2f})"


def _numbers(values: Iterable[float]) -> str:
    each = list(values)
    mean = f"{np.mean(each):.2f}"
    return mean if len(each) == 1 else f"{mean} ({min(each):.2f} to {max(each):.2f})"


TEXT = """# A dog and a cat in one picture

Made by `python docs/cat_dog.py` from a run of [config/cat-dog.yaml](../config/cat-dog.yaml): an
EfficientNet-Lite0, trained on ImageNet and then for {epochs} epochs on {train} pictures of cats
and dogs (Oxford-IIIT Pet), tested on {test}; {seeds}. What is explained is another
picture, of a dog and, below it, a cat. Its licence is not known, so no figure shows it: only the
boxes around the two animals, which overlap a little, and maps at a quarter of its size.

![Maps by four methods of models trained with three losses](cat-dog.png)

**Maps for dog and for cat, seed {seed}.** Below each map: the share of what is positive in it
that lies in the box of its class. A map that is spread evenly has {first_area:.2f} in the dog's
box and {second_area:.2f} in the cat's. *Pretrained* is the encoder before this training, with
heads fitted to its embeddings.

## Grad-CAM in the boxes

The share of what is positive in a map that lies in the box of its class, in brackets that in the
box of the other animal: the mean over seeds and, if there are several, each. Mosaics are
{mosaics} images of four test pictures each, two of a class. The accuracy is that of the head that
is explained, on the {test} test pictures; of several seeds, the mean and the range.

{table}

What this shows, and what it does not:

- **With two classes, the logit of one class says little by itself.** Cross-entropy sees only the
  difference of the two logits: whatever is added to both changes no probability. What the two
  have in common is left over from the start of training, so that the map of one logit can lie
  anywhere, and the contrast to the other class is what was trained. A fitted head gives each
  class half of the log-odds: there, the maps of logit and contrast are the same up to their
  scale.
- **The head is a part of what is explained.** *{refitted}* is the encoder of cross-entropy with
  such a head in place of its own, which so few steps hardly trained. Where the two rows differ,
  the encoder is not the reason. Losses are to be compared at the same kind of head, or by
  prototypes.
- **The maps of prototypes are not contrasts.** The directions of the two class means have a
  cosine of 0.6 to 0.7 here: much of what speaks for one class speaks for the other too.
- **The pretrained encoder tells the two apart before any of the losses was applied.** Compare
  with its rows before a loss is given the credit.
- **One picture and {seeds} of a short training rank no losses.** Differences between rows
  mean little until they are larger than those between the seeds of a row.

## Every method on the pretrained network

![Maps by every method of the pretrained network](cat-dog-pretrained.png)

**Maps for the dog's breed and the cat's, by every method of
[config/methods.yaml](../config/methods.yaml)**, of the network as it was trained on ImageNet. The
logits are its own, of 1,000 classes (bull mastiff and tiger cat); the foil of the contrast is the
other animal's breed, since the runner-up of a breed of dogs is another breed of dogs; prototypes
are those of the dogs and the cats in the training pictures. Methods that perturb the picture have
50 to 512 passes, those with noise or steps 8 to 16: fewer than one would take for results.
ScoreCAM, a pass for each of 1,280 channels, is shown for the logit alone, as are controls, which
know no target. The Sobel control is left out, since it would redraw the picture.
InternalInfluence, a gradient with respect to the last maps, is the same everywhere, since this
network takes their mean.
"""


def page(
    config: Config, lines: Mapping[tuple[str, str], Line], splits: Splits, subject: Subject
) -> str:
    """Return the page as Markdown."""
    return TEXT.format(
        table=table(lines, subject),
        seeds=f"{len(config.seeds)} seed{'s' if len(config.seeds) > 1 else ''}",
        seed=config.seeds[0],
        epochs=config.datasets[DATASET].epochs,
        train=len(splits.train_labels),
        test=len(splits.test_labels),
        mosaics=len(subject.scenes) - 1,
        refitted=REFITTED,
        first_area=subject.masks[0].mean(),
        second_area=subject.masks[1].mean(),
    )


def main() -> None:
    """Write the page and its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "cat-dog.yaml")
    parser.add_argument("--data", type=Path, required=True, help="FOLDER of that config")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "cat-dog")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    chosen = parser.parse_args()
    plain = yaml.safe_load(chosen.config.read_text())
    config = load_config(plain | {"data": str(chosen.data)})
    results = chosen.results
    subject = Subject.read(results)
    splits = Splits.read(results / f"dataset={DATASET}" / "data.safetensors")
    with deterministic("cpu", 1):
        untrained = frozen(config, splits)
        models = {PRETRAINED: untrained}
        for loss in config.losses:
            models[loss] = load(results, Run(DATASET, loss, config.seeds[0]))
            if loss == CROSS_ENTROPY:
                models[REFITTED] = refitted(models[loss])
        drawn = figure_of_models(maps_of_models(results, config, models, subject), subject)
        save_small(drawn, chosen.out / "cat-dog.png")
        lines = lines_of(results, config, untrained, splits, subject)
        maps = maps_of_all_methods(of_imagenet(untrained, subject), subject)
        drawn = figure_of_all_methods(maps, subject)
        save_small(drawn, chosen.out / "cat-dog-pretrained.png")
    storage.write_text(chosen.out / "cat-dog.md", page(config, lines, splits, subject))


if __name__ == "__main__":
    main()
