"""One update: state, objective, step, how it is mapped over devices, optimisers, augmentation."""
