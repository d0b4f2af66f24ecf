"""What training and predicting cost: one command, sections of ratios within one run, tables and JSON.

From the root of the repository, about a quarter of an hour for all sections:

    python tests/benchmarks/speed.py --json speed.json
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import costs
import growth
import torch
from measuring import Row, machine, table

from pyro_mfcvae.training import DeadClustersWarning

SECTIONS: dict[str, Callable[[bool, int], list[Row]]] = {
    "train": costs.train,
    "scaling": costs.scaling,
    "by_hand": costs.by_hand,
    "memory": costs.memory,
    "predict": costs.predict,
    "setup": costs.setup,
    "growth": growth.growth,
}
for _name in ("streaming", "compiling"):  # benchmarks of their own that have rows to add
    if importlib.util.find_spec(_name):
        SECTIONS[_name] = lambda quick, number, name=_name: importlib.import_module(name).rows(quick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds, to see that it runs; no figures")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="beside one; default: all cores")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DeadClustersWarning)  # models that hardly train

    result = {"machine": machine(arguments.threads), "quick": arguments.quick, "sections": {}}
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))
    for name in arguments.sections:
        rows = SECTIONS[name](arguments.quick, arguments.threads)
        result["sections"][name] = [{k: None if _is_nan(v) else v for k, v in row.items()} for row in rows]
        title = (SECTIONS[name].__doc__ or name).splitlines()[0]
        print(f"\n{name}: {title}\n{table(rows)}", flush=True)
    if arguments.json is not None:
        partial = arguments.json.with_name(arguments.json.name + ".part")
        partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, arguments.json)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


if __name__ == "__main__":
    main()
