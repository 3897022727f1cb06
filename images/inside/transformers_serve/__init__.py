"""The family whose engine is `transformers serve`: how it is started, asked and given its model."""
