"""Text generation: prompts, the loop that batches continuously, sampling, stops. No runtime is imported here."""
