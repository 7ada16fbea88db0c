"""From logits to tokens: the options of a search, and the searches."""
