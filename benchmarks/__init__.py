"""Scripts that compare this package with its peers, side by side in one run."""
