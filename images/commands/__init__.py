"""What `invoke` offers, by what it is about: each parses, calls `images.*` and prints."""
