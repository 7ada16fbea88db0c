"""Text in, text out: sentences, what is copied as it is, translations."""
