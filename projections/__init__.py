"""Read models built from the journal."""
