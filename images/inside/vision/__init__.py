"""Models that look at pictures: decoding and preprocessing without torch, and what they are held to."""
