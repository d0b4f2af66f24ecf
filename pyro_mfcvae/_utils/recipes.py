"""Texts that tell objects apart which make models: configurations, factories, functions."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from pyro_mfcvae._utils.tensors import digest_of

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, range)
OURS = ("pyro_mfcvae.", "pyro.", "torch.", "builtins", "abc", "typing")  # modules that a version stands for


def describe(value: object) -> str:
    """Describe an object so that another one, which may do something else, has another text.

    Functions are told by their code, with defaults, what they enclose, and plain values of their module that
    they use; classes by the code of their methods; other objects by their attributes.

    Args:
        value: object to describe.

    Raises:
        TypeError: for an object that cannot be told from others.
    """
    return _describe(value, ())


def _describe(value: Any, within: tuple[int, ...]) -> str:
    if id(value) in within:
        return "itself"
    within = (*within, id(value))
    if isinstance(value, PLAIN):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return digest_of(value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value)))
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_describe(k, within)}: {_describe(v, within)}' for k, v in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_describe(v, within) for v in value)}]"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(_describe(v, within) for v in value))}}}"
    if isinstance(value, types.CodeType):
        return _describe_code(value, within)
    if isinstance(value, types.FunctionType):
        return _describe_function(value, within)
    if isinstance(value, types.MethodType):
        return f"{_describe(value.__func__, within)} of {_describe(value.__self__, within)}"
    if isinstance(value, functools.partial):
        return f"partial {_describe((value.func, value.args, value.keywords), within)}"
    if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType)):
        return _describe_class(value, within) if isinstance(value, type) else f"{value.__name__}"
    return _describe_object(value, within)


def _describe_code(code: types.CodeType, within: tuple[int, ...]) -> str:
    return f"code {code.co_code.hex()} {code.co_names} {_describe(code.co_consts, within)}"


def _describe_function(function: types.FunctionType, within: tuple[int, ...]) -> str:
    name = f"{function.__module__}.{function.__qualname__}"
    if function.__module__.startswith(OURS):
        return name
    used = {n: function.__globals__[n] for n in function.__code__.co_names if n in function.__globals__}
    plain = {n: v for n, v in used.items() if isinstance(v, PLAIN)}
    enclosed = [cell.cell_contents for cell in function.__closure__ or ()]
    parts = (function.__code__, function.__defaults__, function.__kwdefaults__, enclosed, plain)
    return f"{name} {_describe(parts, within)}"


def _describe_class(kind: type, within: tuple[int, ...]) -> str:
    name = f"{kind.__module__}.{kind.__qualname__}"
    if f"{kind.__module__}.".startswith(OURS):
        return name
    methods = {n: v for n, v in vars(kind).items() if isinstance(v, types.FunctionType)}
    return f"{name} {_describe(methods, within)} {_describe(kind.__bases__, within)}"


def _describe_object(value: Any, within: tuple[int, ...]) -> str:
    kind = _describe(type(value), within)
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return f"{kind} {_describe(fields, within)}"
    if isinstance(value, nn.Module):
        return f"{kind} {value!r} {_describe(dict(value.state_dict()), within)}"
    if hasattr(value, "__dict__"):
        return f"{kind} {_describe(vars(value), within)}"
    if "__repr__" in vars(type(value)):
        return f"{kind} {value!r}"
    raise TypeError(f"{type(value).__qualname__} has nothing that tells one from another")
