"""What is copied into every image: the contract, the gate, the server. Imports nothing else of `images`."""
