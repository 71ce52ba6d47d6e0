#!/usr/bin/env bash
# TFDS 4.9.10: the data source of a split prepared as Parquet ignores slices.
#
# "train[:5]" of 10 examples gives all 10, where array_record gives 5: a part that was held out is
# read, too. `num_examples` of the same split says 5. flaxgan cuts the rows itself
# (flaxgan/data/source.py).
#
# Needs Python 3.11 or 3.12 and the network; installs pinned packages into a temporary folder.
# Prints what it found; exit code 0: TFDS does so, 1: it does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet \
  tensorflow-datasets==4.9.10 array-record==0.8.6 pyarrow==26.0.1 importlib_resources==7.1.0
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import pathlib
import sys

import numpy as np
import tensorflow_datasets as tfds

tfds.disable_progress_bar()


class Numbers(tfds.core.GeneratorBasedBuilder):
    """0 to 9."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(sys.argv[1])

    def _info(self):
        features = tfds.features.FeaturesDict({"n": np.int64})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": ((i, {"n": i}) for i in range(10))}

    def _generate_examples(self):
        raise NotImplementedError


counts = {}
for kind in ("array_record", "parquet"):
    builder = Numbers(data_dir=f"{sys.argv[1]}/{kind}")
    builder.download_and_prepare(file_format=kind)
    for split in ("train[:5]", "train[5:]", "train[:50%]"):
        size, source = builder.info.splits[split].num_examples, builder.as_data_source(split)
        counts[kind, split] = len(source)
        print(f"{kind:<13} {split:<12} num_examples {size}, data source {len(source)}")
ignored = all(count == (5 if kind == "array_record" else 10) for (kind, _), count in counts.items())
print("Parquet: slices are ignored" if ignored else "Parquet: slices are not ignored")
sys.exit(not ignored)
PYTHON
