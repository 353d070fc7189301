"""What follows from a fact: steps, retries, compensation."""
