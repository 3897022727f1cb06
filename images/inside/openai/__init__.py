"""OpenAI's API as far as a model here can speak it, a module a route."""
