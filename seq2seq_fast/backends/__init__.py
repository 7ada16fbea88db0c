"""What runs the contract: the compiled kernel or NumPy, and which of them a call uses."""
