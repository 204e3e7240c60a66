"""Target functions: own the scores g_c(x) that are explained, a module for each kind.

A score maps images to one number a class. It is what methods are built with: beside the scores
they find in it the encoder, the layer whose maps class activation methods weight, and the way from
the last maps to the scores.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from clarity.attribution.recipe import CLASS, FOILS, TargetName
from clarity.models.classifier import (
    HEADS,
    VOTE_TEMPERATURE,
    Classifier,
    HeadName,
    direction,
)
from clarity.models.encoders import Encoder
from clarity.recipes import nearest

#: Added to the share of a class in a vote, so that the logarithm of a class without references is a
#: number. A reference opposite to the nearest has a share of 4e-13 of its.
NO_SHARE = 1e-12

#: Targets that read a head of the classifier.
HEAD_OF: dict[str, HeadName] = {
    "logit": "linear",
    "log-probability": "linear",
    "probe": "probe",
    "probe-normalised": "probe-normalised",
    "prototype": "prototype",
    "prototype-centred": "prototype-centred",
    "logit-uncalibrated": "linear",
    "probe-normalised-on-raw": "probe-normalised",
}


class UnknownClass(ValueError):
    """A foil is no class of this dataset; the message says which there are."""


class Score(nn.Module, ABC):
    """Scores g(x) [B, classes] for images [B, C, H, W] in [0, 1], through an encoder.

    Attributes:
        encoder: from normalised images to embeddings.
    """

    encoder: Encoder

    @property
    def layer(self) -> nn.Module:
        """The module whose output [B, K, h, w] class activation methods weight."""
        return self.encoder.cam_layer

    @abstractmethod
    def normalised(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] in [0, 1] to the encoder's input."""

    @abstractmethod
    def of_embeddings(self, embeddings: Tensor, *, fixed_length: bool = False) -> Tensor:
        """Map embeddings [B, D] to scores [B, classes].

        Args:
            embeddings: not normalised.
            fixed_length: see `clarity.models.classifier.direction`.
        """

    def of_maps(self, maps: Tensor, *, fixed_length: bool = False) -> Tensor:
        """Map the encoder's last maps [B, K, h, w] to scores [B, classes]."""
        return self.of_embeddings(self.encoder.pooled(maps), fixed_length=fixed_length)

    def forward(self, images: Tensor) -> Tensor:
        """Score every class of every image."""
        return self.of_embeddings(self.encoder(self.normalised(images)))


class TargetFunction(Score):
    """The score of each class by one of a classifier's heads, or minus that of a foil.

    Scores g_c, for logits l and embeddings of direction u:

    - ``logit``: the calibrated logit of the linear head; ``probe`` and ``probe-normalised`` those
      of the probes;
    - ``log-probability``: l_c - log sum_k exp l_k. Its gradient is that of the logit minus those
      of all classes weighted by their probabilities;
    - ``prototype``: the calibrated cosine to the mean direction of the class in training, which
      needs no head, so that it means the same for every loss; ``prototype-centred``: the same
      after the mean of all classes was subtracted;
    - ``knn``: the logarithm of the class's share in a soft vote of all references, each with the
      weight exp(cos / 0.07) (Wu et al., 2018, "Unsupervised Feature Learning via Non-Parametric
      Instance Discrimination", section 3.4). The head of that name lets the nearest alone vote,
      and is flat for a class that none of them has;
    - ``similarity``: the mean cosine to the training references of the class, the class's corpus,
      divided by the temperature of the prototypes.
      With a foil, to the corpus of other classes: Lin et al., 2023, "Contrastive Corpus
      Attribution for Explaining Representations" (COCOA), equation 3.

    Two more are no good scores to compare losses by, and are there to show what they do:

    - ``logit-uncalibrated``: the logit of the linear head before its temperature, whose scale the
      loss decides;
    - ``probe-normalised-on-raw``: the weights of ``probe-normalised``, fitted to u, applied to z,
      and not calibrated: how the released code of Arrighi et al., 2026, arXiv 2604.22540, scores
      CIFAR-10 with encoders that were trained without a head.

    And g_c minus the foil's (Jacovi et al., 2021, "Contrastive Explanations for Model
    Interpretability"):

    - ``runner-up``: the highest of the others at the image at hand, so that g is the margin;
    - ``others``: the mean of the others;
    - ``softmax``: the mean of the others weighted by their probabilities, the weights held constant
      (Wang and Wang, 2022, "'Why Not Other Classes?': Towards Class-Contrastive Back-Propagation
      Explanations", weighted contrast);
    - ``class:NAME``: that class's. A class contrasted with itself scores 0.
    """

    def __init__(
        self,
        model: Classifier,
        target: TargetName = "logit",
        foil: str | None = None,
        class_names: Sequence[str] = (),
    ) -> None:
        """Wrap ``model``; its weights are shared, not copied.

        Args:
            model: the classifier.
            target: the kind of score.
            foil: one of `FOILS`, or "class:" and one of ``class_names``; None for the score itself.
            class_names: one name a class.

        Raises:
            UnknownClass: if there is no such class.
        """
        super().__init__()
        self.model = model
        self.encoder = model.encoder
        self.target = target
        self.foil = foil
        self._minus = _foil(foil, class_names)
        if target in ("knn", "similarity"):
            classes = model.shape.classes
            members = nn.functional.one_hot(model.reference_labels, classes).to(model.references)
            self.register_buffer("members", members, persistent=False)
            sizes = members.sum(dim=0).clamp_min(1)
            corpora = members.T @ model.references / sizes[:, None]
            self.register_buffer("corpora", corpora, persistent=False)

    def extra_repr(self) -> str:
        """Name what no weight tells."""
        return f"target={self.target}, foil={self.foil}"

    def without_foil(self, images: Tensor) -> Tensor:
        """Score every class of every image for itself: calibrated, where the target is."""
        return self._scores(self.encoder(self.normalised(images)), False)

    def normalised(self, images: Tensor) -> Tensor:
        """Subtract the training mean and divide by the standard deviation, channel by channel."""
        return (images - self.model.mean) / self.model.std

    def of_embeddings(self, embeddings: Tensor, *, fixed_length: bool = False) -> Tensor:
        """Map embeddings [B, D] to scores [B, classes]."""
        return self._minus(self._scores(embeddings, fixed_length))

    def _scores(self, embeddings: Tensor, fixed_length: bool) -> Tensor:
        if self.target == "logit-uncalibrated":
            return self.model.head_scores(embeddings, fixed_length=fixed_length)
        if self.target == "probe-normalised-on-raw":
            raw: Tensor = self.model.probe_normalised(embeddings)
            return raw
        if self.target in HEAD_OF:
            head = HEAD_OF[self.target]
            scores = self.model.scores(embeddings, head, fixed_length=fixed_length)
            return scores.log_softmax(dim=1) if self.target == "log-probability" else scores
        unit = direction(embeddings, fixed_length)
        if self.target == "similarity":
            scale = self.model.temperatures[HEADS.index("prototype")]
            return unit @ self.get_buffer("corpora").T / scale
        votes = unit @ self.model.references.T / VOTE_TEMPERATURE
        weights = (votes - votes.amax(dim=1, keepdim=True).detach()).exp()
        shares = weights @ self.get_buffer("members") / weights.sum(dim=1, keepdim=True)
        return (shares + NO_SHARE).log()


class CorpusSimilarity(Score):
    """Mean cosine to a corpus of images minus that to a foil corpus; needs no classes.

    Lin et al., 2023, "Contrastive Corpus Attribution for Explaining Representations", equation 3:
    g(x) = mean over corpus of cos(h(x), h(r)) - mean over foil of cos(h(x), h(r)). A corpus of one
    image explains the similarity to that image.
    """

    def __init__(
        self,
        encoder: Encoder,
        corpora: Sequence[Tensor],
        foil: Tensor | None = None,
        *,
        normalise: Callable[[Tensor], Tensor] = lambda images: images,
    ) -> None:
        """Embed the corpora once.

        Args:
            encoder: from normalised images to embeddings.
            corpora: images [R, C, H, W] in [0, 1] of each corpus; they take the place of classes.
            foil: images [R, C, H, W] that stand for everything else.
            normalise: from images in [0, 1] to the encoder's input.
        """
        super().__init__()
        self.encoder = encoder
        self._normalise = normalise
        with torch.no_grad():
            means = [direction(encoder(normalise(images))).mean(dim=0) for images in corpora]
            corpus = torch.stack(means)
            if foil is not None:
                corpus = corpus - direction(encoder(normalise(foil))).mean(dim=0)
        self.register_buffer("corpora", corpus, persistent=False)

    def normalised(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] in [0, 1] to the encoder's input."""
        return self._normalise(images)

    def of_embeddings(self, embeddings: Tensor, *, fixed_length: bool = False) -> Tensor:
        """Map embeddings [B, D] to similarities [B, corpora]."""
        return direction(embeddings, fixed_length) @ self.get_buffer("corpora").T


def _foil(foil: str | None, class_names: Sequence[str]) -> Callable[[Tensor], Tensor]:
    """Return what subtracts the foil's score from scores [B, classes]."""
    if foil is None:
        return lambda scores: scores
    if foil in FOILS:
        return {
            "runner-up": _minus_runner_up,
            "others": _minus_others,
            "softmax": _minus_weighted,
        }[foil]
    name = foil.removeprefix(CLASS)
    if name not in class_names:
        raise UnknownClass(
            f"foil: no class '{name}'{nearest(name, class_names)} There are: "
            f"{', '.join(class_names) or 'none'}"
        )
    place = list(class_names).index(name)
    return lambda scores: scores - scores[:, place : place + 1]


def _minus_runner_up(scores: Tensor) -> Tensor:
    """Subtract from each class's score the highest score among the other classes."""
    best, order = scores.topk(2, dim=1)
    is_best = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order[:, :1], True)
    return scores - torch.where(is_best, best[:, 1:], best[:, :1])


def _minus_others(scores: Tensor) -> Tensor:
    """Subtract from each class's score the mean of the others."""
    others = scores.shape[1] - 1
    return scores - (scores.sum(dim=1, keepdim=True) - scores) / others


def _minus_weighted(scores: Tensor) -> Tensor:
    """Subtract from each class's score the mean of the others by their constant probabilities."""
    fixed = scores.detach()
    best, order = fixed.topk(2, dim=1)
    is_best = torch.zeros_like(fixed, dtype=torch.bool).scatter_(1, order[:, :1], True)
    # Sums over all but one, as the sum of all minus that one. Where the best is left out nothing of
    # weight would remain, so there the runner-up sets the scale.
    weights = (fixed - best[:, :1]).exp()
    products = weights * scores
    total, whole = products.sum(dim=1, keepdim=True), weights.sum(dim=1, keepdim=True)
    others = (total - products) / (whole - weights).masked_fill(is_best, 1)
    rest = (fixed - best[:, 1:]).exp().masked_fill(is_best, 0)
    of_best = (rest * scores).sum(dim=1, keepdim=True) / rest.sum(dim=1, keepdim=True)
    return scores - torch.where(is_best, of_best, others)
