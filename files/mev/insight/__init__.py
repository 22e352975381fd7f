"""What happened and who earned it: read from the ledger, never written into it."""
