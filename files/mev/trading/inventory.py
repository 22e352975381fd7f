"""What a chain's trades may be paid with: the executor's own capital, and what pools give before they are paid."""


class Inventory:
    """Written by the pipeline before each block's strategies are asked; wei of the wrapped native coin."""

    def __init__(self, flash_wei: int = 0, arbitrage_flash_wei: int = 0) -> None:
        """With at most `flash_wei` a pool may be owed within a liquidation, within an arbitrage with `arbitrage_flash_wei`; 0 is never."""
        self.flash_wei = flash_wei
        self.arbitrage_flash_wei = arbitrage_flash_wei
        # None where nobody has looked: then strategies go by the capital that they are told.
        self.capital_wei: int | None = None

    @property
    def empty(self) -> bool:
        """Whether the executor is known to hold nothing."""
        return self.capital_wei == 0
