"""Functions that all parts of the package use: devices, files, tensors, tables, checks."""
