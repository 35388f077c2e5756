"""A recipe: TOML with the place of each key, the tables, what they must not say, and every problem in words."""
