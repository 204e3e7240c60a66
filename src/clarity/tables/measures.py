"""Measures: own the names, groups, order and meaning of what is measured of a model.

They are computed elsewhere (`clarity.models.geometry`, `clarity.trust`) and read from files, so
that tables, figures and report need not load what computes them.
"""

#: The groups of measures, in the order of the tables.
GROUPS = (
    "accuracy",
    "calibration",
    "geometry",
    "out-of-distribution",
    "adversarial",
    "corruption",
)

#: What the measures mean, in the order of the tables; what follows a ":" in a name is left out.
MEASURES = {
    "accuracy": "share of the test images that the linear head (logits) classifies right",
    "accuracy_probe": "the same by logistic regression on the frozen embeddings",
    "accuracy_probe_normalised": "the same by logistic regression on embeddings of unit length",
    "accuracy_prototype": "share of the test images whose nearest class prototype is right",
    "accuracy_prototype_centred": "the same with embeddings and prototypes centred",
    "accuracy_knn": "share of the test images that the nearest training images classify right",
    "accuracy_scenes": "share of the two-class scenes whose two classes are the two best logits; "
    "empty without scenes",
    "accuracy_scenes_prototype": "the same by class prototypes",
    "accuracy-subset": "accuracy of the linear head on the test images that are attacked and "
    "corrupted, before that",
    "nll": "negative log-likelihood of the labels, calibrated logits; lower is better",
    "brier": "squared error of the probabilities, summed over classes; lower is better",
    "ece": "expected calibration error, 15 bins; lower is better",
    "silhouette": "mean silhouette of the classes with cosine distance; higher is better",
    "davies-bouldin": "spread within classes over distance between their centres, worst pair of "
    "each class; lower is better",
    "calinski-harabasz": "variance between over variance within classes; higher is better",
    "distance-ratio": "mean distance within classes over that between classes; lower is better",
    "r-precision": "share of an image's R nearest neighbours that are of its class, R being the "
    "size of the class; higher is better",
    "map-at-r": "mean average precision at R; higher is better",
    "precision-at-1": "share of images whose nearest neighbour is of their class; higher is better",
    "alignment": "mean squared distance of two images of a class; lower is better",
    "uniformity": "logarithm of the mean Gaussian potential of all pairs; lower is more uniform",
    "effective-rank": "number of directions that the embeddings make use of; no value is better",
    "nc1": "neural collapse: spread within classes relative to that of the class means; lower is "
    "more collapsed",
    "ood-msp-auroc": "detection of the named dataset's images by the maximum softmax probability: "
    "area under the ROC curve; higher is better",
    "ood-msp-fpr95": "the same: share of own images taken for foreign at the threshold at which "
    "95 % of the foreign ones are; lower is better",
    "ood-energy-auroc": "detection of the named dataset's images by the energy of the logits: area "
    "under the ROC curve; higher is better",
    "ood-energy-fpr95": "the same: false positives at 95 % true ones; lower is better",
    "ood-knn-auroc": "detection of the named dataset's images by the distance to the nearest "
    "training embeddings: area under the ROC curve; higher is better",
    "ood-knn-fpr95": "the same: false positives at 95 % true ones; lower is better",
    "fgsm-accuracy": "accuracy under the fast gradient sign method, pixels changed by at most the "
    "named radius (of a range from 0 to 1); higher is better",
    "pgd-accuracy": "accuracy under projected gradient descent within the named radius; higher is "
    "better",
    "corruption-gaussian-noise": "accuracy under Gaussian noise of the named severity",
    "corruption-shot-noise": "accuracy under shot noise of the named severity",
    "corruption-impulse-noise": "accuracy under impulse noise of the named severity",
    "corruption-defocus-blur": "accuracy under defocus blur of the named severity",
    "corruption-brightness": "accuracy under brightening of the named severity",
    "corruption-contrast": "accuracy under loss of contrast of the named severity",
    "corruption-pixelate": "accuracy under pixelation of the named severity",
    "corruption-jpeg": "accuracy under JPEG compression of the named severity",
    "corruption-mean": "mean accuracy over all corruptions and severities; higher is better",
}


def place(measure: str) -> tuple[int, str]:
    """Return what measures are sorted by: the order of `MEASURES`, others after them by name."""
    name = measure.partition(":")[0]
    known = list(MEASURES)
    return (known.index(name) if name in MEASURES else len(known), measure)


def meaning(measure: str) -> str:
    """Return in words what a measure is."""
    name, _, detail = measure.partition(":")
    if name not in MEASURES:
        return "the measure of this name in geometry.parquet or trust.parquet"
    return f"{MEASURES[name]}; {detail}" if detail else MEASURES[name]


def is_single_severity(measure: str) -> bool:
    """Whether a measure is an accuracy at one severity of one corruption: too many to show all."""
    return measure.startswith("corruption-") and ":" in measure
