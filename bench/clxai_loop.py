"""The five facets of arXiv 2604.22540 by the straightforward loop, and by CLarity in whole batches.

    python bench/clxai_loop.py [--images N] [--looped N] [--encoder NAME] [--device cuda]

The loop is what published code of this kind does: image by image, over the same libraries
(pytorch-grad-cam, Quantus, scikit-image), with Grad-CAM and Eigen-CAM made anew for each facet.
Both judge the same images by the same noise and the same random classes on a ResNet-18 for 32x32
pixels, of random weights, on one thread.

Both need the same passes of the network, two times 96 of them an image for pixel flipping alone, so
that a batch saves what a pass costs beside its arithmetic: little for a ResNet-18 on a CPU, nearly
all on a GPU. What the passes alone would take stands beside the times.

Values agree but for rounding where definitions do, with two exceptions:

- Eigen-CAM. pytorch-grad-cam leaves the sign of a principal component as the library of linear
  algebra has it, so the loop turns it as CLarity does (`SignedEigenCAM`); and the loop rectifies
  maps before they are upsampled, CLarity afterwards. It is timed and not compared.
- Pixel flipping puts pixels in another order where their relevance differs by rounding alone, as
  that of maps does which OpenCV or torch has upsampled. It is compared on the loop's own maps.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import quantus
import torch
from pytorch_grad_cam import EigenCAM, GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_with_sign_correction
from quantus.helpers import utils as quantus_utils
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from clarity.attribution.methods import Explainer
from clarity.attribution.recipe import MethodRecipe
from clarity.data.scenes import generate_single
from clarity.metrics.evaluate import Cost, Subject, evaluate
from clarity.metrics.recipe import MetricRecipe
from clarity.models.classifier import Classifier, Shape
from clarity.runtime import deterministic
from clarity.seeds import derive_seed

CLASSES = 10
NOISE = 0.02
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
DATASET, SEED = "bench", 0
METHODS = ("GradCAM", "EigenCAM")

#: CLarity's recipe of each facet; contrastivity is Grad-CAM's alone.
FACETS = {
    "pixel flipping": {"metric": "ReleasedPixelFlipping"},
    "continuity": {"metric": "ReleasedContinuity"},
    "contrastivity": {"metric": "SsimRandomClass", "zero_maps": "scored"},
    "complexity": {"metric": "ReleasedComplexity"},
    "sparseness": {"metric": "ReleasedSparseness"},
}

#: The values of all images by method, and by method and facet.
OfMethods = dict[str, np.ndarray]
Values = dict[tuple[str, str], np.ndarray]


class SignedEigenCAM(EigenCAM):
    """Eigen-CAM with the sign that makes the value largest in size positive."""

    def get_cam_image(self, *arguments: Any, **_: Any) -> np.ndarray:
        """Return the projection of the activations, the fourth argument."""
        found: np.ndarray = get_2d_projection_with_sign_correction(arguments[3])
        return found


class OfNormalised(nn.Module):
    """The network as a loop over a loader has it: its images are normalised already."""

    def __init__(self, model: Classifier) -> None:
        """Share the weights of ``model``."""
        super().__init__()
        self.encoder, self.fc = model.encoder, model.head

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images to logits."""
        logits: Tensor = self.fc(self.encoder(images))
        return logits


def network(encoder: str, device: str) -> Classifier:
    """Return the network with random weights and the statistics of batches of noise."""
    torch.manual_seed(0)
    stem = {"stem": "small"} if "resnet" in encoder else {}
    model = Classifier(Shape({"name": encoder, **stem}, 3, 32, CLASSES))
    model.mean.copy_(torch.tensor(MEAN).reshape(1, 3, 1, 1))
    model.std.copy_(torch.tensor(STD).reshape(1, 3, 1, 1))
    with torch.no_grad():
        # Logits of a spread as after training, not all alike.
        model.head.weight.mul_(10)
        model.train()
        for _ in range(3):
            model(torch.rand(64, 3, 32, 32))
    return model.eval().to(device)


def pictures(count: int) -> np.ndarray:
    """Return images [count, 3, 32, 32] in [0, 1]."""
    return generate_single(count, split="test", seed=0).images.astype(np.float32) / 255


def generator(row: int) -> np.random.RandomState:
    """Return the generator from which all draws of an image come."""
    return np.random.RandomState(derive_seed("metric", DATASET, SEED, row))


# --- the loop -----------------------------------------------------------------------------------


class Loop:
    """The facets, image by image."""

    def __init__(self, model: Classifier, images: np.ndarray) -> None:
        """Normalise the images and predict their classes."""
        self.model = OfNormalised(model).eval()
        self.device = model.mean.device
        self.images = (torch.from_numpy(images).to(self.device) - model.mean) / model.std
        with torch.no_grad():
            self.predicted = self.model(self.images).argmax(dim=1).tolist()
        self.layers = [model.encoder.cam_layer]

    @contextmanager
    def cams(self) -> Iterator[dict[str, Any]]:
        """Open both methods, and take their hooks away in the end."""
        made = {
            "GradCAM": GradCAM(model=self.model, target_layers=self.layers),
            "EigenCAM": SignedEigenCAM(model=self.model, target_layers=self.layers),
        }
        try:
            yield made
        finally:
            for cam in made.values():
                cam.activations_and_grads.release()

    def map_of(self, cam: Any, image: Tensor, label: int) -> np.ndarray:
        """Return the map of one image [1, C, H, W] in [0, 1]."""
        found: np.ndarray = cam(input_tensor=image, targets=[ClassifierOutputTarget(label)])[0]
        return found

    def judged(self, metric: Any, score: Callable[[Any], float]) -> OfMethods:
        """Judge both methods' maps by a metric of Quantus."""
        found: OfMethods = {}
        with self.cams() as cams:
            for name, cam in cams.items():
                values = []
                for row, label in enumerate(self.predicted):
                    image = self.images[row : row + 1]
                    attribution = self.map_of(cam, image, label)
                    result = metric(
                        model=self.model,
                        x_batch=image.cpu().numpy(),
                        y_batch=np.array([label]),
                        a_batch=attribution[None],
                        device=str(self.device),
                    )[0]
                    values.append(np.nan if np.all(attribution == 0) else score(result))
                found[name] = np.array(values)
        return found

    def pixel_flipping(self) -> OfMethods:
        """Flip 32 channel values a step."""
        metric = quantus.PixelFlipping(
            perturb_baseline="black",
            features_in_step=32,
            disable_warnings=True,
            display_progressbar=False,
        )
        return self.judged(
            metric,
            lambda curve: float(quantus_utils.calculate_auc(np.array(curve)) / (len(curve) - 1)),
        )

    def complexity(self) -> OfMethods:
        """Take the entropy of each map."""
        return self.judged(
            quantus.Complexity(disable_warnings=True, display_progressbar=False), float
        )

    def sparseness(self) -> OfMethods:
        """Take the Gini index of each map."""
        return self.judged(
            quantus.Sparseness(disable_warnings=True, display_progressbar=False), float
        )

    def continuity(self) -> OfMethods:
        """Compare each map with that under noise."""
        found: OfMethods = {}
        with self.cams() as cams:
            for name, cam in cams.items():
                values = []
                for row, label in enumerate(self.predicted):
                    image = self.images[row : row + 1]
                    noise = generator(row).standard_normal(image.shape[1:]).astype(np.float32)
                    drawn = NOISE * torch.from_numpy(noise).to(self.device)
                    noisy = (image + drawn).clamp(0, 1)
                    pair = [self.map_of(cam, x, label) for x in (image, noisy)]
                    values.append(structural_similarity(*pair, data_range=1.0))
                found[name] = np.array(values)
        return found

    def contrastivity(self) -> OfMethods:
        """Compare each map with that of a random other class."""
        values = []
        with self.cams() as cams:
            for row, label in enumerate(self.predicted):
                drawn = generator(row).randint(0, CLASSES - 1)
                other = int(drawn + (drawn >= label))
                image = self.images[row : row + 1]
                pair = [self.map_of(cams["GradCAM"], image, c) for c in (label, other)]
                values.append(structural_similarity(*pair, data_range=1.0))
        return {"GradCAM": np.array(values)}

    def grad_cams(self) -> np.ndarray:
        """Return Grad-CAM's maps, of the same class twice, as CLarity stores them."""
        with self.cams() as cams:
            maps = [
                self.map_of(cams["GradCAM"], self.images[row : row + 1], label)
                for row, label in enumerate(self.predicted)
            ]
        return np.stack([maps, maps], axis=1)

    def __call__(self) -> Values:
        """Return every facet of every method."""
        facets = {
            "pixel flipping": self.pixel_flipping,
            "continuity": self.continuity,
            "contrastivity": self.contrastivity,
            "complexity": self.complexity,
            "sparseness": self.sparseness,
        }
        return {
            (method, facet): values
            for facet, work in facets.items()
            for method, values in work().items()
        }


# --- CLarity ------------------------------------------------------------------------------------


class Whole:
    """The facets, all images in batches."""

    def __init__(self, model: Classifier, images: np.ndarray) -> None:
        """Predict the classes of the images, those to be explained and the runners-up."""
        self.model, self.images = model, images
        self.device = model.mean.device
        with torch.no_grad():
            scores = model(torch.from_numpy(images).to(self.device))
        self.classes = scores.topk(2, dim=1).indices.cpu().numpy()
        self.passes = 0

    def subject(self, method: str, maps: np.ndarray | None = None) -> Subject:
        """Return the maps of a method, made here unless given, as metrics are given them."""
        recipe = {
            "GradCAM": {"method": "LayerGradCam", "relu_attributions": True},
            "EigenCAM": {"method": "EigenCAM"},
        }[method]
        explainer = Explainer(
            MethodRecipe.model_validate({**recipe, "target": "logit-uncalibrated"}), self.model
        )

        def explain(_: Any, pixels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
            asked = [torch.from_numpy(array).to(self.device) for array in (pixels, wanted)]
            found: np.ndarray = explainer(*asked).cpu().numpy()
            return found

        if maps is None:
            maps = explain(None, self.images, self.classes)
            self.passes += len(maps)
        return Subject(
            images=self.images[: len(maps)],
            maps=maps,
            classes=self.classes[: len(maps)],
            single=np.ones(len(maps), dtype=bool),
            masks=None,
            model=explainer.score,
            explain=explain,
        )

    def judged(self, subject: Subject, facets: Iterable[str]) -> dict[str, np.ndarray]:
        """Judge maps by some facets."""
        recipes = {facet: MetricRecipe.model_validate(FACETS[facet]) for facet in facets}
        costs: dict[str, Cost] = {}
        frame = evaluate(subject, recipes, dataset=DATASET, seed=SEED, costs=costs)
        self.passes += sum(cost.forward + cost.explained for cost in costs.values())
        return {facet: frame.loc[frame["metric"] == facet, "value"].to_numpy() for facet in recipes}

    def __call__(self) -> Values:
        """Return every facet of every method."""
        found: Values = {}
        for method in METHODS:
            facets = [f for f in FACETS if f != "contrastivity" or method == "GradCAM"]
            judged = self.judged(self.subject(method), facets)
            found |= {(method, facet): values for facet, values in judged.items()}
        return found


# --- both ---------------------------------------------------------------------------------------


def five_facets(
    images: int = 32,
    looped: int = 3,
    encoder: str = "torchvision/resnet18",
    device: str = "cpu",
) -> dict[str, Any]:
    """Compare the two on one machine.

    Args:
        images: that CLarity judges.
        looped: how many of them the loop judges too, at several seconds each.
        encoder: the network.
        device: "cpu", where one thread is used, or "cuda".

    Returns:
        Seconds an image of both and their ratio; the passes that CLarity made for an image, a map
        counting as one, and the seconds that so many take by themselves; and the largest difference
        of Grad-CAM's values by facet, over the images that both judge.
    """
    # As a stage runs: on one thread, and on a GPU without TensorFloat-32, for both alike.
    with deterministic(device, 1):
        model, pixels = network(encoder, device), pictures(images)
        loop = Loop(model, pixels[:looped])
        start = time.perf_counter()
        theirs = loop()
        loop_seconds = (time.perf_counter() - start) / looped
        maps = loop.grad_cams()
        model.requires_grad_(False)
        start = time.perf_counter()
        batches = Whole(model, pixels)
        ours = batches()
        seconds = (time.perf_counter() - start) / images
        passes = batches.passes / images
        bare = _seconds_of_a_pass(model, pixels[:64]) * passes
        ours["GradCAM", "pixel flipping"] = batches.judged(
            batches.subject("GradCAM", maps), ["pixel flipping"]
        )["pixel flipping"]
    return {
        "loop seconds an image": loop_seconds,
        "clarity seconds an image": seconds,
        "ratio": loop_seconds / seconds,
        "passes an image": passes,
        "seconds of the passes alone": bare,
        "largest difference": {
            facet: float(np.abs(ours["GradCAM", facet][:looped] - theirs["GradCAM", facet]).max())
            for facet in FACETS
        },
    }


@torch.no_grad()
def _seconds_of_a_pass(model: Classifier, images: np.ndarray) -> float:
    """Return the least seconds that an image takes in a batch."""
    batch = torch.from_numpy(images).to(model.mean.device)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        model(batch).cpu()
        times.append(time.perf_counter() - start)
    return min(times) / len(images)


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--looped", type=int, default=3)
    parser.add_argument("--encoder", default="torchvision/resnet18")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    for name, value in five_facets(**vars(chosen)).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
