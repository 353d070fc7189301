"""Who asks: authenticators behind one protocol, and what each role may do."""
