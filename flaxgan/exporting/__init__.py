"""A trained generator, with its text path, for programs that know neither Flax nor this package."""
