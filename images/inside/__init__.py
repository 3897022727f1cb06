"""What is copied into every image: contract, records, gate and server. Imports nothing else of `images`."""
