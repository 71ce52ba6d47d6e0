"""What the parity tests share."""

import pytest


@pytest.fixture(scope="session")
def torch():
    """torch in one thread, and a torchvision that can be imported.

    Reference packages import torchvision for pure Python parts. Where its compiled operators do not
    fit the installed torch its import fails; none of them is needed here, so they are declared.
    """
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    library = None
    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401
    yield torch
    del library  # not before: operators live as long as it does
