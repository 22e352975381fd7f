"""From candidate to fill: strategies, simulation, risk, execution and the ledger that all of them write."""
