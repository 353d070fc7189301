"""Which bench serves whom: state, decisions, placement."""
