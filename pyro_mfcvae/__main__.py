"""``python -m pyro_mfcvae``."""

import sys

from pyro_mfcvae.cli import main

if __name__ == "__main__":
    sys.exit(main())
