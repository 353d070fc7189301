"""Drivers of benches; a leaf that knows nothing of the rest."""
