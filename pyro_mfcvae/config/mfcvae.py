"""Definition of a model and its training: frozen dataclasses, with JSON in and out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, cast, get_args

from pyro_mfcvae import likelihoods, networks, priors
from pyro_mfcvae._utils.checks import WrongTypeError, integer, one_of, set_checked
from pyro_mfcvae._utils.registry import resolve
from pyro_mfcvae._utils.tables import html_table
from pyro_mfcvae.config.schedule import Schedule
from pyro_mfcvae.config.stage import Stage
from pyro_mfcvae.data.columns import Column
from pyro_mfcvae.data.schema import Schema

T = TypeVar("T")

Objective = Literal["analytic", "monte_carlo", "marginal", "vade"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)
DataInit = bool | Literal["subspaces", "as_published"]
# Factories that JSON knows by name.
_FACTORIES: dict[str, type] = {
    **priors.FACTORIES,
    **priors.WEIGHTS,
    **likelihoods.FACTORIES,
    **networks.FACTORIES,
}


@dataclass(frozen=True)
class Facet:
    """One clustering of the data.

    Attributes:
        clusters: number of clusters K_j.
        latent_dim: dimension D_j of the facet's latent; where a schedule unmixes, its share of the latent
            that is, and the facet then has the dimension of the subspace that is found.
        prior: a name from ``priors.available()``, or a factory ``(clusters, latent_dim)`` that returns a
            ``FacetPrior`` or a ``MixtureSameFamily`` distribution.

    Raises:
        ValueError: for less than one cluster or dimension, or an unknown name.
    """

    clusters: int
    latent_dim: int
    prior: str | priors.PriorFactory = "diagonal_gaussian"

    def __post_init__(self) -> None:
        set_checked(self, integer, "clusters", "latent_dim", least=1)
        object.__setattr__(self, "prior", resolve("prior", self.prior, priors.FACTORIES))

    def _repr_html_(self) -> str:
        return facet_table([self])


@dataclass(frozen=True)
class MFCVAEConfig:
    """A Multi-Facet Clustering VAE and how it is trained.

    Attributes:
        facets: the J clusterings, from the lowest level of the ladder to the deepest.
        likelihood: a name from ``likelihoods.available()``, or a factory ``(x_shape) -> Likelihood``.
        network: a name from ``networks.available()``, or a factory
            ``(shape, latent_dims) -> (encoder, decoder)``.
        schedule: stages of training; None is the progressive schedule.
        elbo: objective of :class:`FacetELBO`.
        num_kl_samples: number of samples of each latent, wherever the objective estimates a facet term;
            ``"analytic"`` needs none for Gaussian components.
        num_particles: number of samples of all latents for the likelihood, in each step of training.
        data_init: whether the networks are initialised by a batch of the data, with
            :func:`networks.initialize_from_data`; with ``"as_published"`` as in the paper's code; with
            ``"subspaces"``, each facet's encoder moreover
            starts by looking at one of the :func:`independent_subspaces` of the data, and that of the
            nuisance at what they leave.
        schema: columns of a table, by which data go by name; :func:`pyro_mfcvae.fit` takes it from a table.
        nuisance: dimension of the nuisance, a latent z ~ N(0, I) without clusters, for variation that no
            clustering should have to explain; 0 is none. It is no facet, and has no number. It takes part
            from the first stage on, and in a ladder it is the deepest latent, with a level of its own.

    Raises:
        TypeError: for a value of another type.
        ValueError: for an unknown name, less than one sample, a schedule for another number of facets, or a
            KL weight of a nuisance that is not there.

    References:
        Falck et al. (2021); for a space without clusters, Mautz, Ye, Plant, Boehm (2020), Non-Redundant
        Subspace Clusterings with Nr-Kmeans and Nr-DipMeans.

    Example:
        >>> config = MFCVAEConfig(facets=(Facet(10, 5), Facet(10, 5)))
        >>> config.likelihood
        Bernoulli(missing=False)
        >>> MFCVAEConfig.from_json(config.to_json()) == config
        True
    """

    facets: tuple[Facet, ...]
    likelihood: str | likelihoods.LikelihoodFactory = "bernoulli"
    network: str | networks.NetworkFactory = "fully_connected_ladder"
    schedule: Schedule | None = None
    elbo: Objective = "analytic"
    num_kl_samples: int = 1
    num_particles: int = 1
    data_init: DataInit = False
    nuisance: int = 0
    schema: Schema | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "facets", check_facets(self.facets))
        for name, factories in (("likelihood", likelihoods.FACTORIES), ("network", networks.FACTORIES)):
            object.__setattr__(self, name, resolve(name, getattr(self, name), factories))
        J = len(self.facets)
        schedule = Schedule.progressive(J) if self.schedule is None else self.schedule
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule: got {schedule!r}, expected a Schedule")
        if schedule.num_facets != J:
            raise ValueError(
                f"schedule: its stages introduce {schedule.num_facets} facets, but there are {J}; "
                f"use Schedule.progressive({J}, ...)"
            )
        object.__setattr__(self, "schedule", schedule)
        set_checked(self, one_of, "elbo", known=OBJECTIVES)
        set_checked(self, integer, "num_kl_samples", "num_particles", least=1)
        if not isinstance(self.data_init, bool) and self.data_init not in ("subspaces", "as_published"):
            raise ValueError(
                f"data_init: got {self.data_init!r}, expected False, True, 'subspaces' or 'as_published'"
            )
        set_checked(self, integer, "nuisance", least=0)
        if self.schema is not None and not isinstance(self.schema, Schema):
            raise WrongTypeError(
                f"schema: got a {type(self.schema).__name__}, expected a Schema; use data.Schema.infer(table)"
            )
        weights = [stage.nuisance_kl_weight for stage in schedule.stages]
        if not self.nuisance and any(weight is not None for weight in weights):
            raise ValueError(
                f"nuisance: got 0 with nuisance_kl_weight={weights} in the stages, expected a dimension of "
                "at least 1; give one, or leave the weights out"
            )

    @property
    def latent_dims(self) -> tuple[int, ...]:
        """Dimension of each latent: those of the J facets and, last, that of the nuisance if there is one."""
        return (*(facet.latent_dim for facet in self.facets), *([self.nuisance] if self.nuisance else []))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the schedule."""
        return cast(Schedule, self.schedule).stages

    @property
    def held_out(self) -> float:
        """Fraction of the data that is not trained on."""
        return cast(Schedule, self.schedule).held_out

    @property
    def keep_optimizer(self) -> bool:
        """Whether one optimiser trains all stages."""
        return cast(Schedule, self.schedule).keep_optimizer

    def _repr_html_(self) -> str:
        schedule = cast(Schedule, self.schedule)
        notes = [f"{name}: {getattr(self, name)}" for name in ("likelihood", "network", "nuisance", "elbo")]
        if self.schema is not None:
            notes.append(f"columns: {self.schema.summary()}")
        return facet_table(self.facets, notes) + schedule._repr_html_()

    def to_json(self) -> str:
        """Write this configuration as JSON.

        Raises:
            TypeError: if it holds a factory that is not one of the package's own.
        """
        return json.dumps(_encode(self, "config"), indent=1)

    def known_fields(self) -> dict[str, Any]:
        """Return what :meth:`to_json` writes, and a description of factories that it refuses."""
        return cast(dict[str, Any], _encode(self, "config", keeps_unknown=True))

    @classmethod
    def from_json(cls, text: str, *, ignores_unknown: bool = False) -> MFCVAEConfig:
        """Read what :meth:`to_json` wrote.

        Args:
            text: the JSON.
            ignores_unknown: whether fields that are not known are left out, as those of a later version of
                this package are; else they are an error.

        Raises:
            ValueError: if the text is not JSON of a configuration.
        """
        read = _Reader(ignores_unknown)
        try:
            fields = json.loads(text)
            fields["facets"] = tuple(
                read.dataclass(Facet, {**facet, "prior": read.factory(facet["prior"], priors.FACTORIES)})
                for facet in fields["facets"]
            )
            schedule = dict(fields["schedule"])
            schedule["stages"] = tuple(read.dataclass(Stage, stage) for stage in schedule["stages"])
            fields["schedule"] = read.dataclass(Schedule, schedule)
            fields["likelihood"] = read.factory(fields["likelihood"], likelihoods.FACTORIES)
            fields["network"] = read.factory(fields["network"], networks.FACTORIES)
            if fields.get("schema") is not None:
                columns = fields["schema"]["columns"]
                fields["schema"] = Schema(tuple(read.dataclass(Column, column) for column in columns))
            return read.dataclass(cls, fields)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"text: not the JSON of an MFCVAEConfig ({error})") from error


class ConfigFields(TypedDict, total=False):
    """The fields of :class:`MFCVAEConfig`, as keywords of which none is required."""

    facets: tuple[Facet, ...]
    likelihood: str | likelihoods.LikelihoodFactory
    network: str | networks.NetworkFactory
    schedule: Schedule | None
    elbo: Objective
    num_kl_samples: int
    num_particles: int
    data_init: DataInit
    nuisance: int
    schema: Schema | None


def configured(defaults: ConfigFields, overrides: ConfigFields) -> MFCVAEConfig:
    """Make a configuration of defaults and overrides.

    Raises:
        WrongTypeError: for an override of no field.
    """
    known = tuple(ConfigFields.__annotations__)
    for name, value in overrides.items():
        if name not in known:
            raise WrongTypeError(
                f"{name}: got {value!r} for no field of MFCVAEConfig, expected some of {known}"
            )
    return MFCVAEConfig(**(defaults | overrides))


def check_facets(facets: object) -> tuple[Facet, ...]:
    """Return facets as a tuple.

    Raises:
        WrongTypeError: if they are anything but a sequence of at least one facet.
    """
    found = tuple(facets) if isinstance(facets, Iterable) else ()
    if not found or not all(isinstance(facet, Facet) for facet in found):
        given = found or facets
        raise WrongTypeError(f"facets: got {given!r}, expected at least one Facet, in a tuple or a list")
    return found


def facet_table(facets: Sequence[Facet], notes: Sequence[str] = ()) -> str:
    """Write facets as an HTML table, with lines of text below."""
    rows = [[str(j), str(f.clusters), str(f.latent_dim), str(f.prior)] for j, f in enumerate(facets)]
    return html_table([["facet", "clusters", "dimensions", "prior"], *rows], notes)


def _encode(value: object, path: str, *, keeps_unknown: bool = False) -> object:
    """Turn dataclasses into objects for JSON, in which a factory names itself."""
    if isinstance(value, (tuple, list)):
        return [_encode(v, f"{path}[{i}]", keeps_unknown=keeps_unknown) for i, v in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: _encode(getattr(value, f.name), f"{path}.{f.name}", keeps_unknown=keeps_unknown)
            for f in dataclasses.fields(value)
        }
        names = [name for name, factory in _FACTORIES.items() if factory is type(value)]
        if names:
            return {"name": names[0], **fields}
        if isinstance(value, (MFCVAEConfig, Facet, Schedule, Stage, Schema, Column)):
            return fields
    elif value is None or isinstance(value, (str, int, float, bool)):
        return value
    if keeps_unknown:
        return {"unknown": f"{value!r:.200}"}
    raise TypeError(
        f"{path}: {value!r} cannot be written as JSON, which knows only the package's own factories "
        f"{tuple(_FACTORIES)}"
    )


@dataclass(frozen=True)
class _Reader:
    """Reads dataclasses and factories from JSON."""

    ignores_unknown: bool

    def dataclass(self, kind: type[T], fields: Mapping[str, Any]) -> T:
        if self.ignores_unknown:
            known = {field.name for field in dataclasses.fields(cast(Any, kind))}
            fields = {name: value for name, value in fields.items() if name in known}
        return kind(**fields)

    def factory(self, fields: Mapping[str, object], factories: Mapping[str, type]) -> Any:
        arguments = {field: self.value(value) for field, value in fields.items()}
        name = arguments.pop("name")
        if not isinstance(name, str) or name not in factories:
            raise ValueError(f"name: got {name!r}, expected one of {tuple(factories)}")
        return self.dataclass(factories[name], arguments)

    def value(self, value: object) -> object:
        """Read a value of a factory, which may have other factories within."""
        if isinstance(value, list):
            return [self.value(v) for v in value]
        return self.factory(value, _FACTORIES) if isinstance(value, dict) and "name" in value else value
