"""Where the profit is, and how much to put in."""
