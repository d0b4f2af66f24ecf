"""The whole job in one call: ``fit`` and ``compare``, and runs in parallel."""
