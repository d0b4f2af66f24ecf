"""Data sets with labels to judge clusterings by, a file each; ``pyro_mfcvae.data`` has them all."""
