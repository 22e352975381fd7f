"""What the chains hold, exact to the wei."""
