"""The arithmetic, stated to the bit in NumPy: what every backend and instruction set must give."""
