"""Pictures out of a trained generator: the sampler, grids, and the models that come with it."""
