"""Data sets written by the tools that people use: each picture keeps its own caption.

Needs the extra `parity`: datasets, img2dataset, webdataset. Pictures are told apart by their mean
colour, because the tools write them anew.
"""

import functools
import http.server
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from flaxgan.data.own_pictures import list_pictures
from flaxgan.data.own_pictures.shards import ReadOptions
from flaxgan.errors import UserError

pytestmark = [
    pytest.mark.parity,
    # of the tools themselves
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
COUNT = 12


def picture(i):
    return Image.new("RGB", (48, 40), (20 * i, 120, 200))


def caption(i):
    return f'thing {i}, with a comma and "quotes"'


def understood(root, **options):
    """Number of a picture by its colour -> captions and split."""
    found = {}
    for shard in list_pictures(root, ReadOptions(**options)).shards:
        for raw in shard.read():
            assert not raw.reason, (raw.name, raw.reason, raw.detail)
            red = np.asarray(Image.open(io.BytesIO(raw.data)).convert("RGB"))[..., 0].mean()
            assert round(red / 20) not in found
            found[round(red / 20)] = (list(raw.captions), raw.split)
    return found


OWN = {i: ([caption(i)], "") for i in range(COUNT)}


@pytest.fixture
def hub():
    """A `datasets.Dataset` of pictures, captions and classes."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "caption": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["tabby_cat", "dog"]),
        }
    )
    rows = {
        "image": [picture(i) for i in range(COUNT)],
        "caption": [caption(i) for i in range(COUNT)],
        "label": [i % 2 for i in range(COUNT)],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_save_to_disk(hub, tmp_path):
    hub.save_to_disk(tmp_path / "one")
    assert understood(tmp_path / "one") == OWN


def test_save_to_disk_of_splits(hub, tmp_path):
    parts = hub.train_test_split(test_size=4, shuffle=False)
    parts.save_to_disk(tmp_path / "both")
    expected = {i: ([caption(i)], "train" if i < 8 else "test") for i in range(COUNT)}
    assert understood(tmp_path / "both") == expected


def test_a_shuffled_part_is_saved_as_it_is(hub, tmp_path):
    hub.shuffle(seed=1).select(range(8)).save_to_disk(tmp_path / "part")
    found = understood(tmp_path / "part")
    assert len(found) == 8
    assert found == {i: OWN[i] for i in found}


def test_to_parquet(hub, tmp_path):
    hub.to_parquet(tmp_path / "a.parquet")
    assert understood(tmp_path) == OWN
    assert understood(tmp_path / "a.parquet") == OWN


def test_class_labels(hub, tmp_path):
    hub.remove_columns("caption").to_parquet(tmp_path / "a.parquet")
    hub.remove_columns("caption").save_to_disk(tmp_path / "arrow" / "b")
    expected = {i: ([("tabby cat", "dog")[i % 2]], "") for i in range(COUNT)}
    assert understood(tmp_path / "a.parquet") == expected
    assert understood(tmp_path / "arrow") == expected


def test_imagefolder_reads_the_same(tmp_path):
    """What Hugging Face's own reader makes of metadata.csv, .jsonl and .parquet."""
    datasets = pytest.importorskip("datasets")
    import pyarrow as pa
    import pyarrow.parquet as pq

    for kind in ("jsonl", "csv", "parquet"):
        root = tmp_path / kind
        for split, numbers in (("train", range(8)), ("test", range(8, COUNT))):
            (root / split).mkdir(parents=True)
            for i in numbers:
                picture(i).save(root / split / f"{i}.png")
            columns = {
                "file_name": [f"{i}.png" for i in numbers],
                "text": [caption(i) for i in numbers],
            }
            table = pa.table(columns)
            file = root / split / f"metadata.{kind}"
            if kind == "jsonl":
                file.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
            elif kind == "csv":
                table.to_pandas().to_csv(file, index=False)
            else:
                pq.write_table(table, file)
        theirs = datasets.load_dataset(
            "imagefolder", data_dir=str(root), cache_dir=str(tmp_path / "cache" / kind)
        )
        expected = {
            round(np.asarray(row["image"])[..., 0].mean() / 20): ([row["text"]], split)
            for split in ("train", "test")
            for row in theirs[split]
        }
        assert understood(root) == expected


def test_webdataset_writer(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(str(tmp_path / "train-%03d.tar"), maxcount=5, verbose=0) as sink:
        for i in range(COUNT):
            sink.write(
                {
                    "__key__": f"{i:06d}",
                    "jpg": picture(i),
                    "txt": caption(i),
                    "cond.png": picture(0),
                }
            )
    assert understood(tmp_path) == OWN


@pytest.fixture
def addresses(tmp_path):
    """A table of addresses and captions, and a server on this machine that has the pictures."""
    for i in range(COUNT):
        (tmp_path / "served").mkdir(exist_ok=True)
        picture(i).save(tmp_path / "served" / f"{i}.jpg", quality=95)
    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        rows = [
            {"url": f"http://127.0.0.1:{server.server_port}/{i}.jpg", "caption": caption(i)}
            for i in range(COUNT)
        ]
        file = tmp_path / "urls.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        yield file
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def download(addresses, out, output_format, caption_col):
    img2dataset = pytest.importorskip("img2dataset")
    img2dataset.download(
        processes_count=1,
        thread_count=2,
        url_list=str(addresses),
        image_size=48,
        resize_mode="no",
        output_folder=str(out),
        output_format=output_format,
        input_format="jsonl",
        url_col="url",
        caption_col=caption_col,
        number_sample_per_shard=5,
        enable_wandb=False,
    )


@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet"])
def test_img2dataset(addresses, tmp_path, output_format):
    download(addresses, tmp_path / "out", output_format, "caption")
    assert understood(tmp_path / "out") == OWN


@pytest.mark.parametrize("output_format", ["files", "webdataset"])
def test_img2dataset_without_captions_is_refused_or_rejected(addresses, tmp_path, output_format):
    download(addresses, tmp_path / "out", output_format, None)
    try:
        shards = list_pictures(tmp_path / "out").shards
    except UserError:
        return
    assert {raw.reason for shard in shards for raw in shard.read()} == {"no caption"}


def test_coco_as_pycocotools_reads_it(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    from tests.data.own_pictures.test_folder_layouts import coco as write
    from tests.data.own_pictures.test_folder_layouts import texts
    from tests.data.own_pictures.test_folder_layouts import understood as by_bytes

    write(tmp_path)
    expected = {}
    for file in sorted((tmp_path / "annotations").glob("captions_*.json")):
        theirs = coco.COCO(str(file))
        for i in theirs.getImgIds():
            expected[i] = [row["caption"] for row in theirs.loadAnns(theirs.getAnnIds(imgIds=i))]
    usable, _ = by_bytes(tmp_path)
    assert texts(usable) == expected
