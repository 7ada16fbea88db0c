"""From published files to a model: formats, families, vocabularies, and the model itself."""
