"""The pages, and what writes those that can be read off the repository."""
