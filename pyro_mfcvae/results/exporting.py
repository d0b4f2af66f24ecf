"""A fitted model as a program that runs without this package: for PyTorch, and for ONNX."""

from __future__ import annotations

import copy
import json
import operator
import re
import warnings
from pathlib import Path
from typing import Any, Literal, cast, get_args

import pyro
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from pyro_mfcvae._utils.checks import one_of
from pyro_mfcvae._utils.files import replacing
from pyro_mfcvae._utils.version import __version__
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.results.levels import Level
from pyro_mfcvae.results.predictor import Predictor

Format = Literal["torch", "onnx"]
ENDINGS: dict[str, Format] = {".pt2": "torch", ".onnx": "onnx"}
EXAMPLE = 2  # data that the program is traced with; with one, PyTorch would take it for always one
METADATA = "pyro_mfcvae"


class Prediction(nn.Module):
    """What :meth:`FittedMFCVAE.predict` and others say, as one module.

    Args:
        model: the model, in evaluation mode.
        levels: what the clusters of each facet are made of.
    """

    def __init__(self, model: MFCVAE, levels: tuple[Level, ...]) -> None:
        super().__init__()
        self.model, self.levels = model, levels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return what is known of x (N, *x_shape), by name; see :meth:`FittedMFCVAE.export`."""
        q = self.model.encode(x)
        components = self.model.responsibilities(q)
        probabilities = [level.sums(r) for level, r in zip(self.levels, components, strict=True)]
        found = {"clusters": torch.stack([r.argmax(-1) for r in probabilities], 1)}
        for j, r in enumerate(probabilities):
            found |= {f"probabilities_{j}": r, f"latents_{j}": q[j].mean}
        return found


def export(predictor: Predictor, path: str | Path, format: str | None = None) -> None:
    """Write a fitted model as a program; see :meth:`FittedMFCVAE.export`."""
    path = Path(path)
    if format is None:
        if path.suffix.lower() not in ENDINGS:
            raise ValueError(
                f"path: got {str(path)!r}, expected a file {' or '.join(ENDINGS)}; end it so, or give format"
            )
        format = ENDINGS[path.suffix.lower()]
    chosen = one_of("format", format, get_args(Format))
    if chosen == "onnx":
        _check_onnx()
    program = _program(predictor)
    facts = json.dumps({"version": __version__, "clusters": predictor.clusters})
    with replacing(path) as file:
        if chosen == "torch":
            torch.export.save(program, file, extra_files={METADATA: facts})
        else:
            file.write(_onnx(program, facts))


def _program(predictor: Predictor) -> ExportedProgram:
    """Trace the prediction in float32 on the CPU, for any number of data."""
    copied = copy.copy(predictor)
    copied.model = copy.deepcopy(predictor.model).cpu()
    copied.precision = "float32"
    x = torch.zeros(EXAMPLE, *copied.model.x_shape, dtype=copied.model.likelihood.dtype)
    quiet = warnings.catch_warnings(action="ignore")  # of PyTorch's own code
    with copied.evaluating() as model, pyro.validation_enabled(False), quiet:
        traced = _trace(Prediction(model, copied.levels), x)
        return _trace(_folded(traced.module()), x)


def _trace(module: nn.Module, x: Tensor) -> ExportedProgram:
    sizes = ({0: torch.export.Dim("N", min=1)},)
    return torch.export.export(module, (x,), dynamic_shapes=sizes, strict=False)


def _folded(module: nn.Module) -> nn.Module:
    """Compute once what depends on parameters alone, such as the inverses of covariances."""
    graph_module = cast(fx.GraphModule, module)
    known: dict[fx.Node, Any] = {}
    for node in graph_module.graph.nodes:
        if node.op == "get_attr":
            value = operator.attrgetter(str(node.target))(graph_module)
            if isinstance(value, Tensor):
                known[node] = value
        elif _is_pure(node) and known.keys() >= {*node.all_input_nodes}:
            args, kwargs = fx.map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = node.target(*args, **kwargs)
    for index, (node, value) in enumerate(known.items()):
        users = [user for user in node.users if user not in known]
        if not users:
            continue
        graph_module.register_buffer(f"known_{index}", value.detach().clone())
        with graph_module.graph.inserting_before(node):
            constant = graph_module.graph.get_attr(f"known_{index}")
        for user in users:
            user.replace_input_with(node, constant)
    for node in reversed(known):
        graph_module.graph.erase_node(node)
    graph_module.recompile()
    return graph_module


def _is_pure(node: fx.Node) -> bool:
    """Whether a node computes something, and does nothing else; nothing is drawn in a prediction."""
    return isinstance(node.target, torch._ops.OpOverload) or node.target is operator.getitem


def _onnx(program: ExportedProgram, facts: str) -> bytes:
    """Translate a program, whose outputs keep their names."""
    names = list(program.module()(program.example_inputs[0][0]))
    try:
        with warnings.catch_warnings(action="ignore"):
            translated = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=["x"], output_names=names
            )
    except torch.onnx.OnnxExporterError as error:
        missing = re.search(r"op='([\w.]+)'", str(error))
        raise ValueError(
            f"format: got 'onnx' for a model that needs {missing[1] if missing else 'what it has not'}, "
            "expected a likelihood, network and priors whose operations ONNX has; use 'torch'"
        ) from error
    proto = cast(Any, translated).model_proto
    proto.metadata_props.add(key=METADATA, value=facts)
    content: bytes = proto.SerializeToString()
    return content


def _check_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"format: got 'onnx', but {error.name} is not installed, which writes it; run pip install "
            "'pyro-mfcvae[onnx]'"
        ) from error
