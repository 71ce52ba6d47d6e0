#!/usr/bin/env bash
# jax 0.10.2: with a symbolic batch, x[:, 1:5, 2:6] is exported as a gather, not as a slice.
#
# Both sliced axes have fixed sizes and fixed bounds; only the batch, which is taken whole, is
# symbolic. With a fixed batch the same line becomes one stablehlo.slice. With a symbolic one it
# becomes stablehlo.dynamic_gather with index arithmetic around it, an operator that converters of
# StableHLO or jaxprs must know. jax.lax.slice_in_dim, axis by axis, stays a slice
# (real_dynamic_slice).
#
# Needs Python 3.11 or newer and the network; installs pinned packages into a temporary folder.
# Prints what it found; exit code 0: jax does so, 1: it does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 flatbuffers==25.12.19
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

print("jax", jax.__version__)
x = np.arange(3 * 8 * 8, dtype=np.float32).reshape(3, 8, 8)
(batch,) = export.symbolic_shape("b")


def indexed(x):
    return x[:, 1:5, 2:6]


def axis_by_axis(x):
    return jax.lax.slice_in_dim(jax.lax.slice_in_dim(x, 1, 5, axis=1), 2, 6, axis=2)


operators = {}
for function in (indexed, axis_by_axis):
    for size in (3, batch):
        shape = jax.ShapeDtypeStruct((size, 8, 8), jnp.float32)
        exported = export.export(jax.jit(function))(shape)
        np.testing.assert_array_equal(exported.call(x), x[:, 1:5, 2:6])
        found = re.findall(r"stablehlo\.(\w*slice|\w*gather)\b(?!<)", exported.mlir_module())
        operators[function.__name__, str(size)] = set(found)
        print(f"{function.__name__}, batch {size}: {', '.join(sorted(set(found)))}")

as_found = {
    ("indexed", "3"): {"slice"},
    ("indexed", "b"): {"dynamic_gather"},
    ("axis_by_axis", "3"): {"slice"},
    ("axis_by_axis", "b"): {"real_dynamic_slice"},
}
same = operators == as_found
print("as described above" if same else "not as described above")
sys.exit(not same)
PYTHON
