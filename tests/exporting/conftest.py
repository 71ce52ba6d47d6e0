from tests.drawing.conftest import tiny_file  # noqa: F401
