"""Cross-chain MEV: from chain events to a reconciled ledger, one way through eight floors."""

__version__ = "0.1.0"
