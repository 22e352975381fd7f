"""The floor of what is shown and told: web pages and what listens for people and their programs; it may know every floor below, and none knows it."""
