"""Examples, and what data sets there are, for the help of commands that train."""

from pyro_mfcvae.cli.arguments import DATA_VARIABLE

DEMO_EXAMPLE = """\
example:
  python -m pyro_mfcvae demo --out demo
"""
FIT_EXAMPLES = f"""\
data sets:
  mnist      the digits, in DIR/MNIST/raw as torchvision stores them (--root DIR, or the environment
             variable {DATA_VARIABLE}); scored on the 10,000 test images
  svhn       house numbers cut to digits, in DIR/train_32x32.mat and DIR/test_32x32.mat; scored on the
             26,032 test images
  shapes     4,800 rendered rooms with an object; scored on a fifth of them, held out
  shapes3d   4,800 images of 3D Shapes, in DIR/3dshapes.h5; scored on a fifth of them, held out
  FILE.npy   one array, the datum first: (N, D), (N, H, W) or (N, C, H, W); bytes are scaled to [0, 1]
  FILE.npz   an array "x" and, to score the clusters by and never to train on, classes "y", (N,) or (N, F)
  FILE.csv   a table whose first row names the columns, or .tsv or .parquet: real numbers, counts,
             categories, booleans and dates; clusters.csv is written, too
  FILE.h5ad  an AnnData, that is its X

examples:
  python -m pyro_mfcvae fit table.csv --out result --labels species --drop id
  python -m pyro_mfcvae fit data.npy --out result --clusters 10,5 --latent-dims 3
  python -m pyro_mfcvae fit data.npz --out result --clusters 10 --epochs 50
  python -m pyro_mfcvae fit mnist --out result --epochs 40,20 --seed 0,1,2
  python -m pyro_mfcvae fit data.npy --out result --restarts 5 --workers auto
  python -m pyro_mfcvae fit mnist --out result --checkpoints kept

Facets are numbered from 0. --epochs has a number for each stage of the schedule: where one latent is unmixed,
for it and for all facets together; in a ladder, for each facet, the deepest first.
"""
