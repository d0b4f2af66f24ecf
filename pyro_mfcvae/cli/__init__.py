"""The command line: ``python -m pyro_mfcvae COMMAND``.

``demo`` and ``fit`` train models; ``evaluate``, ``report``, ``predict`` and ``sample`` look at them;
``export`` makes programs of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pyro_mfcvae._utils.version import __version__
from pyro_mfcvae.cli import exporting, fitting, generating, looking, predicting
from pyro_mfcvae.cli.arguments import PROGRAM, Parser, complain
from pyro_mfcvae.cli.output import flush

__all__ = ["main"]

DESCRIPTION = """\
Cluster data in several ways at once. A Multi-Facet Clustering VAE finds several partitions
(facets) of the same data, such as by colour and by shape, without being shown any label."""
EXAMPLES = """\
examples:
  python -m pyro_mfcvae demo                       see it work, on pictures that it renders itself
  python -m pyro_mfcvae fit data.npy --out result  cluster an array (N, D) or (N, C, H, W) of your own
  python -m pyro_mfcvae fit mnist --out result --root DIR --seed 0,1,2
  python -m pyro_mfcvae evaluate result data.npz   score its clusters by labels, on these or on other data
  python -m pyro_mfcvae report result data.npz --out report.html
  python -m pyro_mfcvae predict result data.npy --out clusters.csv
  python -m pyro_mfcvae sample result --facet 1 --cluster 3 --out grid.png
  python -m pyro_mfcvae export result --out model.onnx
  python -m pyro_mfcvae fit --help                 all options of a command
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; None takes those of the process.

    Returns:
        The exit code: 0; 1 if training diverged or memory ran out; 2 for bad arguments or data; 130 if it was
        interrupted. One line on the standard error says what is wrong.
    """
    whole = parser()
    try:
        arguments = whole.parse_args(argv)
        if arguments.run is None:
            whole.print_help()
            return 2
        arguments.run(arguments)
    except SystemExit as request:  # argparse's way to end --help, --version and bad arguments
        return int(request.code or 0)
    except KeyboardInterrupt:
        return 130
    except FloatingPointError as error:
        return complain(error, 1)
    except (ValueError, TypeError, OSError, OverflowError, ImportError) as error:
        return complain(error, 2)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        reason = (str(error) or "MemoryError").splitlines()[0]
        return complain(f"memory: got too little ({reason}); use fewer data, or a smaller model or batch", 1)
    finally:
        flush()
    return 0


def parser() -> Parser:
    """Make the parser of all commands; what it parses has the command to call as ``run``."""
    whole = Parser(
        prog=f"python -m {PROGRAM}",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    whole.set_defaults(run=None)
    commands = whole.add_subparsers(title="commands", metavar="COMMAND")
    fitting.add_demo(commands)
    fitting.add_fit(commands)
    looking.add_evaluate(commands)
    looking.add_report(commands)
    predicting.add_predict(commands)
    generating.add_sample(commands)
    exporting.add_export(commands)
    return whole
