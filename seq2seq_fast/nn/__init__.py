"""The layers that encoder-decoder models are made of, and their packed weights."""
