"""flaxgan: text-to-image GANs in JAX and Flax."""

__version__ = "0.1.0"
