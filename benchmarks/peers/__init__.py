"""The networks and losses of some configs in PyTorch, written to run as fast as it can there.

Maps are NCHW in memory format channels_last, Adam is fused, attention is PyTorch's own, and no
gradient is computed that nobody reads. Modules are named as in flaxgan, so that
`from_flax.state_dict` takes its parameters; parity tests hold both to the same pictures, losses
and gradients.
"""
