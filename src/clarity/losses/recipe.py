"""Loss recipes: own the keys of an entry under `losses`; know the classes by name only."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from clarity import catalogue
from clarity.recipes import Named, Section, WithArguments, nearest

#: The loss that is no class of pytorch-metric-learning: it trains the linear head.
CROSS_ENTROPY = "cross-entropy"

#: What cross-entropy takes, and the numbers that each may be: label smoothing (Szegedy et al.,
#: 2016, "Rethinking the Inception Architecture", section 7) and a temperature in training.
CROSS_ENTROPY_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "label_smoothing": ("a number from 0 to below 1", lambda value: 0 <= value < 1),
    "temperature": ("a number greater than 0", lambda value: value > 0),
}

#: Arguments that the library has no default for, as in the papers.
DEFAULTS: dict[str, dict[str, Any]] = {
    # Wang et al., 2019, "Ranked List Loss", section 4.2: RLL-Simpler with m = 0.4, T_n = 10.
    "RankedListLoss": {"margin": 0.4, "Tn": 10},
}

#: Losses of two views of an image as such, which take no labels (Bardes et al., 2022, "VICReg").
OF_VIEW_PAIRS = frozenset({"VICRegLoss"})

#: Classes that are there and cannot be used by name, and why.
NOT_USABLE = {
    "CrossBatchMemory": "write `memory: 1024` beside the loss that is to have it",
    "SelfSupervisedLoss": "write `self-supervised: true` beside the loss that is to be so",
    "InstanceLoss": (
        "it takes the batch's k-th image for the k-th class, as if a batch had one image of each "
        "class; NormalizedSoftmaxLoss is the same with weights for classes"
    ),
    "EmbeddingsAlreadyPackagedAsTriplets": "batches are no rows of triplets here",
    "BatchedDistance": "it calls a function for each part instead of returning distances",
    "DoNothingReducer": "it returns no number to minimise",
}


class Part(Named, WithArguments):
    """A class of pytorch-metric-learning that a loss is made of, or `module:Class` of your own."""

    name: Annotated[str, Field(description="the class; other keys are its arguments")]
    distance: "Part | None" = None


class Regularizer(Part):
    """A part that adds a penalty to the loss."""

    weight: Annotated[float, Field(ge=0, description="factor of the penalty")] = 1.0


#: The parts of a term: key, and the kind of class it names in the catalogue.
PARTS = {
    "miner": "miners",
    "distance": "distances",
    "reducer": "reducers",
    "regularizer": "regularizers",
    "weight_regularizer": "regularizers",
}


class Projection(Section):
    """A network between embedding and loss that is thrown away after training.

    Chen et al., 2020, "A Simple Framework for Contrastive Learning" (SimCLR), section 4.2; Khosla
    et al., 2020, "Supervised Contrastive Learning", section 3.1: one hidden layer, 128 outputs.
    """

    size: Annotated[PositiveInt, Field(description="length of a projected embedding")] = 128
    layers: Annotated[PositiveInt, Field(le=4, description="linear layers")] = 2
    hidden: Annotated[
        PositiveInt | None, Field(description="width between them; the embedding's if left out")
    ] = None


class Term(WithArguments):
    """One loss by class name; keys beyond these are arguments of that class."""

    loss: Annotated[
        str | None,
        Field(description="cross-entropy, a pytorch-metric-learning class, or module:Class"),
    ] = None
    weight: Annotated[PositiveFloat, Field(description="factor in the sum of terms")] = 1.0
    miner: Part | None = None
    distance: Part | None = None
    reducer: Part | None = None
    regularizer: Annotated[Regularizer | None, Field(description="penalty on embeddings")] = None
    weight_regularizer: Annotated[
        Regularizer | None, Field(description="penalty on the loss's own class weights")
    ] = None
    memory: Annotated[
        PositiveInt | None,
        Field(description="earlier embeddings kept as negatives and positives (CrossBatchMemory)"),
    ] = None
    self_supervised: Annotated[
        bool, Field(description="the views of an image are its positives; no label is used")
    ] = False

    @property
    def uses_head(self) -> bool:
        """Whether the term works on logits of the linear head instead of embeddings."""
        return self.loss == CROSS_ENTROPY

    @property
    def of_view_pairs(self) -> bool:
        """Whether the loss compares two views of each image and takes no labels."""
        return self.loss in OF_VIEW_PAIRS

    @property
    def has_class_weights(self) -> bool:
        """Whether the loss compares images with weights for classes, not with each other."""
        return bool(_given(str(self.loss)) & {"embedding_size", "descriptors_dim"})

    @property
    def needs_pairs(self) -> bool:
        """Whether a batch must hold two images of one class for the loss to say anything."""
        without = self.uses_head or self.self_supervised or self.of_view_pairs
        return not (without or self.has_class_weights or self.loss == "ManifoldLoss")

    @property
    def all_arguments(self) -> dict[str, Any]:
        """The arguments of the class, CLarity's own defaults included."""
        return {**DEFAULTS.get(str(self.loss), {}), **self.arguments}

    @property
    def parts(self) -> dict[str, Part]:
        """The parts that are named, by key."""
        return {key: part for key in PARTS if (part := getattr(self, key)) is not None}

    def problems(self, where: str, views: int) -> Iterator[str]:
        """Yield what is wrong with the classes and with what must fit together."""
        if self.loss is None:
            yield f"{where}: no loss named; wanted `loss: Class` or a list of `terms`"
            return
        if self.uses_head:
            yield from self._cross_entropy_problems(where)
            return
        yield from _class_problems("losses", self.loss, self.all_arguments, where)
        for key, part in self.parts.items():
            yield from _part_problems(PARTS[key], part, f"{where}.{key.replace('_', '-')}")
        if self.self_supervised or self.of_view_pairs:
            if views < 2 or (self.of_view_pairs and views != 2):
                wanted = "2" if self.of_view_pairs else "at least 2"
                yield f"{where}.views: found {views}, wanted {wanted}, since no labels are used"
            if self.memory is not None:
                yield f"{where}.memory: an image has no positives among earlier ones without labels"
            if self.has_class_weights:
                yield f"{where}.self-supervised: {self.loss} has weights for classes"
        elif self.memory is not None and self.has_class_weights:
            yield f"{where}.memory: {self.loss} compares with class weights, not with other images"

    def _cross_entropy_problems(self, where: str) -> Iterator[str]:
        takes = ", ".join(CROSS_ENTROPY_RANGES)
        for key, value in self.arguments.items():
            if key not in CROSS_ENTROPY_RANGES:
                near = nearest(key, CROSS_ENTROPY_RANGES)
                yield f"{where}.{key}: unknown argument of cross-entropy{near} It takes: {takes}"
                continue
            wanted, fits = CROSS_ENTROPY_RANGES[key]
            number = isinstance(value, float | int) and not isinstance(value, bool)
            if not number or not fits(value):
                yield f"{where}.{key}: found {value!r}, wanted {wanted}"
        for key in (*self.parts, *(["memory"] if self.memory else [])):
            yield f"{where}.{key.replace('_', '-')}: cross-entropy takes none"
        if self.self_supervised:
            yield f"{where}.self-supervised: cross-entropy needs labels"


class LossRecipe(Term):
    """A loss, or a weighted sum of `terms`, and what a batch is for it."""

    terms: Annotated[
        list[Term] | None,
        Field(min_length=1, description="losses to be summed, in place of `loss`"),
    ] = None
    views: Annotated[PositiveInt, Field(le=8, description="augmented views of each image")] = 1
    projection: Annotated[
        Projection | None, Field(description="network between embedding and metric losses")
    ] = None
    normalise: Annotated[
        bool, Field(description="the linear head works on embeddings of length 1")
    ] = False
    weights_learning_rate: Annotated[
        PositiveFloat | None,
        Field(
            description="peak rate of the loss's own weights; the larger of 0.01 and the model's"
        ),
    ] = None

    @model_validator(mode="after")
    def _one_loss_or_terms(self) -> Self:
        if self.terms is not None:
            fields = Term.model_fields.items()
            given = [str(f.alias) for name, f in fields if getattr(self, name) != f.default]
            given += self.arguments
            if given:
                raise ValueError(f"found `terms` and {', '.join(given)}; wanted these in the terms")
        return self

    @property
    def all_terms(self) -> list[Term]:
        """The losses that are summed: the terms, or the one loss."""
        return [self] if self.terms is None else self.terms

    @property
    def uses_head(self) -> bool:
        """Whether the loss trains the linear head; otherwise it is a probe, fitted afterwards."""
        return any(term.loss == CROSS_ENTROPY for term in self.all_terms)

    def problems(self, where: str, views: int | None = None) -> Iterator[str]:
        """Yield what is wrong beyond single keys, each with its place below ``where``."""
        count = self.views if views is None else views
        if self.terms is None:
            yield from super().problems(where, count)
        for place, term in enumerate(self.terms or ()):
            yield from term.problems(f"{where}.terms.{place}", count)
        if self.projection is not None and all(term.uses_head for term in self.all_terms):
            yield f"{where}.projection: cross-entropy has its head in that place"


def _part_problems(kind: str, part: Part, where: str) -> Iterator[str]:
    yield from _class_problems(kind, part.name, part.arguments, where)
    if part.distance is not None:
        yield from _part_problems("distances", part.distance, f"{where}.distance")


def _class_problems(
    kind: str, name: str, arguments: Mapping[str, Any], where: str
) -> Iterator[str]:
    if name in NOT_USABLE:
        yield f"{where}: {name} cannot be used by name: {NOT_USABLE[name]}"
    else:
        yield from catalogue.check(kind, name, arguments, where)


def _given(loss: str) -> frozenset[str]:
    """Return the arguments of a loss that CLarity gives; none for a name that is none."""
    try:
        return catalogue.find("losses", loss).given
    except catalogue.UnknownName:
        return frozenset()
