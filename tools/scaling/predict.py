"""A model of the time of a training step on many devices: arithmetic, then averaging gradients.

Predictions from published figures of the hardware; nothing here was measured.
"""

import dataclasses
from collections.abc import Sequence

LINK_SHARE = 0.8  # assumption: of a link's published rate, what an all-reduce reaches
HOP_S = 1e-6  # assumption: seconds for the first byte to the next device of an island
NETWORK_HOP_S = 5e-6  # assumption: the same between islands


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Devices in islands with fast links, and a network between the islands.

    Attributes:
      name: of device and links.
      peak: FLOP/s of a device in bfloat16, dense.
      memory: bytes of a device.
      link: bytes/s that a device sends within its island, one direction, all its links together.
      island: devices in an island.
      network: bytes/s that a device sends to other islands, one direction.
      axes: dimensions of the torus that an island is; 1 where a switch joins all.
      closed_from: devices from which on the axes of a torus are closed to rings; a smaller mesh
        reaches half of the links' rate.
    """

    name: str
    peak: float
    memory: float
    link: float
    island: int
    network: float
    axes: int = 1
    closed_from: int = 1


# sources: docs/scaling.md, under the table
HARDWARE = (
    Hardware("H100 SXM, NVLink, InfiniBand NDR", 989.4e12, 80e9, 450e9, 8, 50e9),
    Hardware("TPU v5p, ICI", 459e12, 95e9, 600e9, 8960, 6.25e9, axes=3, closed_from=64),
    Hardware("TPU v5e, ICI", 197e12, 16e9, 200e9, 256, 3.125e9, axes=2, closed_from=256),
)


def ring_seconds(
    num_bytes: float, count: int, bandwidth: float, *, hop_s: float, axes: int = 1
) -> float:
    """Time of an all-reduce over a ring, or over all rings of a torus at once.

    Every device sends (n - 1) / n of the bytes twice: once to add up, once to spread the sums
    (Patarasuk & Yuan 2009).

    Args:
      num_bytes: of the value that every device has.
      count: devices n.
      bandwidth: bytes/s that a device sends.
      hop_s: seconds for the first byte to the next device.
      axes: dimensions of the torus, of about n^(1 / axes) devices each.
    """
    hops = axes * (count ** (1.0 / axes) - 1.0)
    return 2.0 * (count - 1) / count * num_bytes / bandwidth + 2.0 * hops * hop_s


def all_reduce_seconds(num_bytes: float, count: int, hardware: Hardware) -> float:
    """Time of an all-reduce: a sum within each island, then of each share over the islands.

    Raises:
      ValueError: the devices do not fill the islands.
    """
    inside = min(count, hardware.island)
    islands, rest = divmod(count, inside)
    if rest:
        raise ValueError(f"{count} devices do not fill islands of {hardware.island}")
    link = hardware.link * LINK_SHARE * (1.0 if inside >= hardware.closed_from else 0.5)
    seconds = ring_seconds(num_bytes, inside, link, hop_s=HOP_S, axes=hardware.axes)
    if islands > 1:
        network = hardware.network * LINK_SHARE
        seconds += ring_seconds(num_bytes / inside, islands, network, hop_s=NETWORK_HOP_S)
    return seconds


def compute_seconds(flops: float, hardware: Hardware, mfu: float) -> float:
    """Time of operations at a share `mfu` of the peak."""
    return flops / (hardware.peak * mfu)


def efficiency(
    flops: float,
    gradient_bytes: Sequence[float],
    count: int,
    hardware: Hardware,
    *,
    mfu: float,
    overlap: float,
) -> float:
    """Time of the arithmetic over the time of the step.

    Args:
      flops: of one device in one step.
      gradient_bytes: of each network: they are averaged one after the other.
      count: devices.
      hardware: see HARDWARE.
      mfu: share of the peak that the arithmetic reaches.
      overlap: share of the arithmetic behind which averaging can hide, 0 to 1.
    """
    compute = compute_seconds(flops, hardware, mfu)
    averaging = sum(all_reduce_seconds(x, count, hardware) for x in gradient_bytes)
    return compute / (compute + max(0.0, averaging - overlap * compute))
