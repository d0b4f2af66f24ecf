"""What every room uses: devices, files, tensors, tables, checks."""
