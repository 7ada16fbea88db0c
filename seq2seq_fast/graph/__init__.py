"""What a model computes as recorded calls, which the kernel runs at once."""
