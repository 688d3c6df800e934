"""What was decided is kept here: vaults, provenance, governance, exchange. Knows nothing of who decides or asks."""
