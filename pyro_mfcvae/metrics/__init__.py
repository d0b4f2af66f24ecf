"""Scores of clusterings: one against labels, several against each other, and some that need no labels.

Clusters are integers of any values, and labels classes of any kind: both are names, not sizes. Everything
comes from contingency tables of the cells that occur, so neither time nor memory grows with the number of
pairs of data. Information is in nats.
"""

from pyro_mfcvae.metrics.confidence import Calibration, calibration, mean_confidence, sharpness
from pyro_mfcvae.metrics.facets import (
    best_per_label,
    matching,
    one_to_one,
    redundancy,
    score_table,
)
from pyro_mfcvae.metrics.matched import MatchedConfusion, confusion, hungarian_accuracy, matched_confusion
from pyro_mfcvae.metrics.runs import affine_r2, agreement, align_facets, matched_agreement
from pyro_mfcvae.metrics.scores import (
    ari,
    class_weighted_purity,
    homogeneity,
    nmi,
    purity,
    variation_of_information,
)
from pyro_mfcvae.metrics.usage import alive_clusters, effective_clusters, entropy_of_use

__all__ = [
    "Calibration",
    "MatchedConfusion",
    "affine_r2",
    "agreement",
    "align_facets",
    "alive_clusters",
    "ari",
    "best_per_label",
    "calibration",
    "class_weighted_purity",
    "confusion",
    "effective_clusters",
    "entropy_of_use",
    "homogeneity",
    "hungarian_accuracy",
    "matched_agreement",
    "matched_confusion",
    "matching",
    "mean_confidence",
    "nmi",
    "one_to_one",
    "purity",
    "redundancy",
    "score_table",
    "sharpness",
    "variation_of_information",
]
