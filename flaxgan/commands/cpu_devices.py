"""How many jax devices are made of the cores of a CPU, from the work and without importing jax.

Each device keeps, updates and averages all parameters by itself, and adds up gradients with the
others: memory traffic that grows with the number of devices, for the same pictures. It pays where
parameters do enough meanwhile: each is multiplied once for a picture in a dense layer, and once for
each place of a map in a convolution. docs/speed.md has the measurements.
"""

PLACES = 256  # of a 16 x 16 map
USES = {"mlp": 1}  # of each parameter for one picture; families that are not named: PLACES
MIN_USES = 256  # of each parameter on each device in a step


def cpu_devices(batch_size: int, cores: int, family: str) -> int:
    """The most devices, up to one for each core, that divide the batch and have enough to do.

    Args:
      batch_size: pictures in a step on all devices; 0: any number of devices will do.
      cores: that this process may use.
      family: of `flaxgan.models.FAMILIES`.
    """
    if not batch_size:
        return cores
    uses = USES.get(family, PLACES)
    counts = [n for n in range(1, cores + 1) if batch_size % n == 0]
    return max(n for n in counts if n == 1 or batch_size // n * uses >= MIN_USES)
