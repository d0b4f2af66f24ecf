"""Tables whose columns are of different kinds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

from pyro_mfcvae._utils.checks import flag, integer, integers, one_of, set_checked
from pyro_mfcvae.likelihoods.base import ElementwiseLikelihood, Likelihood, LikelihoodFactory
from pyro_mfcvae.likelihoods.bernoulli import Bernoulli
from pyro_mfcvae.likelihoods.beta_binomial import BetaBinomial
from pyro_mfcvae.likelihoods.categorical import Categorical
from pyro_mfcvae.likelihoods.continuous_bernoulli import ContinuousBernoulli
from pyro_mfcvae.likelihoods.counts import CountLikelihood, NegativeBinomial, Poisson
from pyro_mfcvae.likelihoods.discretized_logistic import DiscretizedLogistic
from pyro_mfcvae.likelihoods.gaussian import Gaussian
from pyro_mfcvae.likelihoods.known import ExposureLikelihood
from pyro_mfcvae.likelihoods.log_normal import LogNormal
from pyro_mfcvae.likelihoods.precise import Precise
from pyro_mfcvae.likelihoods.zero_inflated import ZeroInflatedNegativeBinomial

# What a name means for columns of a table: they are of any scale, and some have more noise than others.
KINDS: dict[str, LikelihoodFactory] = {
    "gaussian": Gaussian(sigma=0.5, standardize=True, learn="element", floor=0.1),
    "bernoulli": Bernoulli(),
    "continuous_bernoulli": ContinuousBernoulli(),
    "categorical": Categorical(),
    "poisson": Poisson(),
    "negative_binomial": NegativeBinomial(),
    "zero_inflated_negative_binomial": ZeroInflatedNegativeBinomial(),
    "beta_binomial": BetaBinomial(),
    "log_normal": LogNormal(),
    "discretized_logistic": DiscretizedLogistic(),
}
# Kinds whose columns are given with a number each: of categories, or that counts are out of.
NUMBERED: dict[str, Callable[[int], LikelihoodFactory]] = {
    "categorical": Categorical,
    "beta_binomial": BetaBinomial,
}
Part = tuple[LikelihoodFactory, tuple[int, ...]]
Named = tuple[LikelihoodFactory, tuple[int | str, ...]]  # before the table is known


class _Columns(dist.TorchDistribution):  # type: ignore[misc]
    """Distributions of single elements side by side.

    Args:
        parts: distributions with batch shapes (..., D_p) and event shape ().
        columns: indices of the D_p columns of each part.
        order: place of each of the D columns in the parts one after another.
        dtype: type of values of columns that are not standardised.
    """

    arg_constraints: dict[str, Constraint] = {}  # noqa: RUF012
    support = dist.constraints.real

    def __init__(
        self,
        parts: Sequence[dist.TorchDistribution],
        columns: Sequence[Tensor],
        order: Tensor,
        dtype: torch.dtype,
    ) -> None:
        self.parts, self.columns, self.order, self.dtype = tuple(parts), tuple(columns), order, dtype
        super().__init__((*parts[0].batch_shape[:-1], len(order)), validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> dist.Distribution:
        """Return the distribution with another batch shape."""
        parts = [part.expand((*batch_shape[:-1], part.batch_shape[-1])) for part in self.parts]
        return _Columns(parts, self.columns, self.order, self.dtype)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Sample one value for each column."""
        return _join((part.sample(sample_shape) for part in self.parts), self.order)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p of each column in nats, (..., D)."""
        each = zip(self.parts, self.columns, strict=True)
        values = ((part, value.index_select(-1, c)) for part, c in each)
        return _join(
            (part.log_prob(x if isinstance(part, Precise) else x.to(self.dtype)) for part, x in values),
            self.order,
        )


class MixedLikelihood(ElementwiseLikelihood):
    r"""Columns of different kinds, independent given z: :math:`p(x|z) = \prod_p p_p(x_{I_p}|z)`.

    I_p are the columns of part p. Densities of real columns and probabilities of discrete ones multiply.
    The encoder sees each column as its own likelihood prepares it.

    Args:
        x_shape: shape of one datum, (D,).
        parts: factories of likelihoods, and the columns that each is for, together all of 0 .. D - 1 once.
        missing: whether entries of x may be NaN.
        names: names of the columns, for error messages; empty goes by their numbers.
        exposure: column that says how much was counted of a datum, which ``parts`` lack; None is none.

    References:
        Nazabal, Olmos, Ghahramani, Valera (2020), Handling Incomplete Heterogeneous Data using VAEs.
    """

    order: Tensor

    def __init__(
        self,
        x_shape: tuple[int, ...],
        parts: Iterable[Part],
        missing: bool = True,
        names: Sequence[str] = (),
        exposure: int | None = None,
    ) -> None:
        super().__init__(x_shape, missing)
        self.names = tuple(names)
        built: list[ElementwiseLikelihood] = []
        columns = []
        if exposure is not None:
            parts = [(ExposureLikelihood, (exposure,)), *parts]
        for factory, part_columns in parts:
            part = factory((len(part_columns),))
            if not isinstance(part, ElementwiseLikelihood):
                raise TypeError(
                    f"columns: the likelihood of {list(part_columns)} is a {type(part).__name__}, expected "
                    "an ElementwiseLikelihood, in which columns are independent given z"
                )
            if exposure is not None and isinstance(part, CountLikelihood) and part.exposure:
                raise ValueError(
                    f"exposure: got column {exposure} beside the {part.exposure!r} of the counts "
                    f"{list(part_columns)}, expected one of them; leave one out"
                )
            part.allows_missing = False  # which is seen to here
            built.append(part)
            columns.append(torch.tensor(part_columns))
        self.parts = nn.ModuleList(built)
        for index, places in enumerate(columns):
            self.register_buffer(f"columns_{index}", places, persistent=False)
        self.register_buffer("order", torch.cat(columns).argsort(), persistent=False)
        self.dtype = torch.float64 if any(part.dtype == torch.float64 for part in built) else torch.float32
        self._given: list[ElementwiseLikelihood] | None = None  # parts that know something of the data
        self._input_sizes = [part.input_shape[0] for part in built]
        self._feature_sizes = [part.features_shape[0] for part in built]

    @property
    def features_shape(self) -> tuple[int, ...]:
        """Shape of the decoder's output: that of all parts, one after another."""
        return (sum(self._feature_sizes),)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the encoder's input: that of all parts, one after another, and of what is observed."""
        return (sum(self._input_sizes) + self.allows_missing * self.x_shape[0],)

    def given(self, x: Tensor | None) -> Likelihood:
        r"""Return the likelihood of data x (N, D) of whose columns something is known."""
        if x is None:
            return self
        each = zip(self._exposed(x), self._columns, strict=True)
        given = [part.given(x.index_select(1, columns)) for part, columns in each]
        if all(one is other for one, other in zip(given, self._parts, strict=True)):
            return self
        likelihood = copy.copy(self)
        likelihood._given = cast(list[ElementwiseLikelihood], given)
        return likelihood

    def elements(self, features: Tensor) -> dist.Distribution:
        r"""Return the columns' distributions, (N, D)."""
        each = zip(self._parts, features.split(self._feature_sizes, -1), strict=True)
        parts = [part.elements(f) for part, f in each]
        return _Columns(parts, self._columns, self.order, features.dtype)

    def mean(self, features: Tensor) -> Tensor:
        r"""Return E[x | z], or the most probable category, in the units of each column, (N, D)."""
        each = zip(self._parts, features.split(self._feature_sizes, -1), strict=True)
        return _join((part.mean(f) for part, f in each), self.order)

    def check(self, x: Tensor, name: str) -> None:
        """Raise a ValueError that names the column where x (N, D) is outside the support."""
        for part, columns in zip(self._parts, self._columns, strict=True):
            for column in columns.tolist():
                label = repr(self.names[column]) if self.names else column
                part.check(x[:, [column]], f"{name}, column {label}")

    def calibrate(self, x: Tensor) -> None:
        """Take from x (N, D) what the columns' likelihoods need."""
        if isinstance(self._parts[0], ExposureLikelihood):  # by which the counts are then divided
            self._parts[0].calibrate(x[:, self._columns[0].to(x.device)])
        for part, columns in zip(self._exposed(x), self._columns, strict=True):
            part.calibrate(x[:, columns.to(x.device)])

    def encode(self, x: Tensor) -> Tensor:
        """Return the inputs of the columns' likelihoods, one after another."""
        each = zip(self._exposed(x), self._columns, strict=True)
        return torch.cat([part.encode(x.index_select(1, columns)) for part, columns in each], 1)

    @property
    def _parts(self) -> list[ElementwiseLikelihood]:
        return self._given or list(self.parts)  # type: ignore[arg-type]

    def _exposed(self, x: Tensor) -> list[ElementwiseLikelihood]:
        """Return the parts, those of counts with the exposures of data x (N, D)."""
        known = self._parts[0]
        if not isinstance(known, ExposureLikelihood):
            return self._parts
        exposure = known.relative(x.index_select(1, self._columns[0].to(x.device)))
        return [p.exposed(exposure) if isinstance(p, CountLikelihood) else p for p in self._parts]

    @property
    def _columns(self) -> list[Tensor]:
        return [getattr(self, f"columns_{index}") for index in range(len(self.parts))]


@dataclass(frozen=True)
class Mixed:
    """Factory of a :class:`MixedLikelihood`, for tables whose columns are of different kinds.

    Attributes:
        columns: kind of columns to the columns: ``{"poisson": [0, 3], "categorical": {4: 3, 7: 2}}`` with,
            for categorical ones, their number of categories, and for ``"beta_binomial"`` ones what their
            counts are out of. Where a table with names is trained on, they may be names, as in
            ``{"poisson": ["visits"]}``, and its categories are counted. A kind is a name, or
            the factory of an :class:`ElementwiseLikelihood`. Here ``"gaussian"`` stands for
            ``Gaussian(sigma=0.5, standardize=True, learn="element", floor=0.1)``: columns are of any scale,
            and some have more noise than others. It is kept as pairs of a factory and its columns.
        others: kind of all columns that are not listed; None is what a table says of them, and else
            ``"gaussian"``.
        missing: whether entries may be NaN.
        names: names of all columns; a table that is trained on gives them.
        exposure: column, by its number or name, of how much was counted of a datum, such as hours or a
            library size. It is taken for known, by all columns of counts: their rates are multiples of it,
            by its mean, as :class:`CountLikelihood` has it, and log p(x | z) is that of all other columns.

    Raises:
        TypeError: for a kind that is neither a name nor a factory, or columns that are neither integers
            nor names.
        ValueError: for an unknown name, or columns that are not listed once, or not in the data; an exposure
            that is listed, or is of no counts.

    Example:
        >>> likelihood = Mixed({"categorical": {1: 4}, "poisson": [2]})((5,))
        >>> likelihood.features_shape  # one for each of the columns 0, 2, 3 and 4; four for column 1
        (8,)
    """

    columns: Mapping[Any, Sequence[int | str] | Mapping[Any, int]] | tuple[Part, ...] = ()
    others: str | LikelihoodFactory | None = None
    missing: bool = True
    names: tuple[str, ...] = ()
    exposure: int | str | None = None

    def __post_init__(self) -> None:
        given = self.columns
        pairs = list(given.items() if isinstance(given, Mapping) else given)
        parts: dict[LikelihoodFactory, list[int | str]] = {}
        for kind, columns in pairs:
            if isinstance(columns, Mapping):
                if kind not in NUMBERED:
                    raise ValueError(
                        f"columns: got {{{kind!r}: {columns!r}}}, expected a list of columns; only of "
                        f"{' and '.join(NUMBERED)} ones, each is given with a number"
                    )
                for column, n in columns.items():
                    parts.setdefault(NUMBERED[kind](n), []).extend(_columns([column]))
            else:
                parts.setdefault(_kind("columns", kind), []).extend(_columns(columns))
        listed = [column for columns in parts.values() for column in columns]
        if self.exposure is not None and not isinstance(self.exposure, str):
            set_checked(self, integer, "exposure", least=0)
        if self.exposure in listed:
            raise ValueError(f"exposure: got {self.exposure!r}, which is one of the columns; list it once")
        if len(set(listed)) < len(listed):
            raise ValueError(f"columns: got {listed}, expected numbers from 0 or names, each of them once")
        object.__setattr__(self, "columns", tuple((factory, tuple(c)) for factory, c in parts.items() if c))
        set_checked(self, _kind, "others", or_none=True)
        set_checked(self, flag, "missing")
        object.__setattr__(self, "names", tuple(self.names))

    def for_columns(self, names: Sequence[str], kinds: Sequence[LikelihoodFactory]) -> Mixed:
        """Return the factory for a table: columns by their number, and those not listed of these kinds.

        Args:
            names: names of the columns of the table.
            kinds: kind of each of them, which serves where none is given, and says how many categories a
                column has.

        Raises:
            ValueError: for a column that the table has not.
        """
        place = {name: i for i, name in enumerate(names)}
        chosen = list(kinds) if self.others is None else [cast(LikelihoodFactory, self.others)] * len(names)
        for factory, columns in cast(tuple[Named, ...], self.columns):
            for column in columns:
                i = place.get(column, -1) if isinstance(column, str) else column
                if i not in range(len(names)):
                    raise ValueError(
                        f"columns: got {column!r}, expected columns of the table, {tuple(names)}; look at "
                        "the spelling"
                    )
                is_categorical = isinstance(factory, Categorical) and isinstance(kinds[i], Categorical)
                chosen[i] = kinds[i] if is_categorical else factory
        exposure = self.exposure
        if isinstance(exposure, str):
            exposure = names.index(one_of("exposure", exposure, tuple(names), "look at the spelling"))
        parts: dict[LikelihoodFactory, list[int]] = {}
        for i, factory in enumerate(chosen):
            if i != exposure:
                parts.setdefault(factory, []).append(i)
        pairs = tuple((factory, tuple(columns)) for factory, columns in parts.items())
        return Mixed(pairs, missing=self.missing, names=tuple(names), exposure=exposure)

    def __call__(self, x_shape: tuple[int, ...]) -> Likelihood:
        r"""Build the likelihood for data of shape (N, D)."""
        if len(x_shape) != 1:
            raise ValueError(
                f"likelihood: mixed columns need data of shape (N, D), got data of shape {x_shape}; "
                "use a likelihood that is the same for all elements"
            )
        given = [column for _, columns in cast(tuple[Named, ...], self.columns) for column in columns]
        named = [column for column in [*given, self.exposure] if isinstance(column, str)]
        if named:
            raise ValueError(
                f"columns: got the name {named[0]!r} for data without names, expected numbers from 0; train "
                "on a table with names, or give its place"
            )
        parts = list(cast(tuple[Part, ...], self.columns))
        listed = {column for _, columns in parts for column in columns}
        exposure = cast(int | None, self.exposure)
        if exposure is not None:
            listed.add(exposure)
        if listed and max(listed) >= x_shape[0]:
            raise ValueError(
                f"columns: got {max(listed)}, expected columns of the data, 0 .. {x_shape[0] - 1}"
            )
        rest = tuple(column for column in range(x_shape[0]) if column not in listed)
        if rest:
            parts.append((cast(LikelihoodFactory, self.others or KINDS["gaussian"]), rest))
        likelihood = MixedLikelihood(x_shape, parts, self.missing, self.names, exposure)
        if exposure is not None and not any(isinstance(p, CountLikelihood) for p in likelihood.parts):
            raise ValueError(
                f"exposure: got column {exposure}, expected columns of counts beside it; leave it out"
            )
        return likelihood


def _columns(columns: object) -> tuple[int | str, ...]:
    """Check that columns are a list of numbers from 0, or of names."""
    if isinstance(columns, (list, tuple)) and all(isinstance(column, str) for column in columns):
        return tuple(columns)
    expected = "a list of numbers from 0, or of names"
    return integers("columns", columns, least=0, allow_none=True, expected=expected)


def _kind(field: str, kind: object) -> LikelihoodFactory:
    if isinstance(kind, str):
        if kind not in KINDS:
            raise ValueError(f"{field}: got {kind!r}, expected one of {tuple(KINDS)} or a factory")
        return KINDS[kind]
    if not callable(kind):
        raise TypeError(f"{field}: got {kind!r}, expected one of {tuple(KINDS)} or a factory")
    return cast(LikelihoodFactory, kind)


def _join(pieces: Iterable[Tensor], order: Tensor) -> Tensor:
    """Join pieces (..., D_p), and bring their columns into the order of the data."""
    return torch.cat(list(pieces), -1).index_select(-1, order)
