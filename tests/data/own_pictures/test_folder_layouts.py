"""Every layout of captions in folders: each picture has its own, or one line says why not.

The bytes of a picture are its own, so what a listing pairs can be told for certain.
"""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flaxgan.data import open_dataset, train_batches
from flaxgan.data.own_pictures import list_pictures
from flaxgan.data.own_pictures.layouts import LAYOUTS
from flaxgan.data.own_pictures.shards import ReadOptions
from flaxgan.errors import UserError
from tests.conftest import ROOT
from tests.data.own_pictures.folders import config_of, encoded, expected_pixels, read, write_files

COUNT = 12
BYTES = {encoded(i): i for i in range(60)}


def understood(root, **options):
    """Number of a picture -> captions of all that can be used; and name -> reason of the rest."""
    usable, rejected = {}, {}
    for shard in list_pictures(root, ReadOptions(**options)).shards:
        for raw in shard.read():
            if raw.reason:
                rejected[raw.name] = raw.reason
            else:
                number = BYTES[raw.data]
                assert number not in usable
                usable[number] = raw
    return usable, rejected


def texts(usable):
    return {number: list(raw.captions) for number, raw in usable.items()}


def splits(usable):
    return {number: raw.split for number, raw in usable.items()}


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(rows, **dialect):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", **dialect).writerows(rows)
    return out.getvalue()


def two(i):
    """The captions of picture i."""
    return [f"picture {i}, a view", f"also {i}"]


def coco(root, folders=("train2017", "val2017"), where="annotations", images=""):
    """As cocodataset.org has it: several annotations for one image, images of two splits."""
    for split, numbers in zip(folders, (range(8), range(8, COUNT)), strict=True):
        write_files(root, {f"{images}{split}/{i:012d}.jpg": encoded(i) for i in numbers})
        rows = [
            {"id": 10 * i + k, "image_id": i, "caption": text}
            for i in reversed(numbers)
            for k, text in enumerate(two(i))
        ]
        infos = [
            {"id": i, "file_name": f"{i:012d}.jpg", "height": 24, "width": 32} for i in numbers
        ]
        value = {"info": {}, "licenses": [], "images": infos, "annotations": rows}
        boxes = [{"id": 1, "image_id": i, "bbox": [0, 0, 1, 1], "category_id": 1} for i in numbers]
        classes = [{"id": 1, "name": "person"}]
        boxed = {"images": infos, "annotations": boxes, "categories": classes}
        write_files(root, {f"{where}/captions_{split}.json": json.dumps(value)})
        write_files(root, {f"{where}/instances_{split}.json": json.dumps(boxed)})


def coco_2014(root):
    coco(root, ("train2014", "val2014"), images="images/")


def karpathy(root):
    images = []
    for i in range(COUNT):
        folder, split = (("val2014", "test"), ("train2014", "train"), ("val2014", "restval"))[i % 3]
        write_files(root, {f"{folder}/COCO_{i}.jpg": encoded(i)})
        sentences = [{"raw": text, "tokens": text.split(), "imgid": i} for text in two(i)]
        row = {"filename": f"COCO_{i}.jpg", "filepath": folder, "split": split, "imgid": i}
        images.append({**row, "sentences": sentences})
    write_files(root, {"dataset_coco.json": json.dumps({"images": images, "dataset": "coco"})})


def lavis(root):
    rows = []
    for i in range(COUNT):
        write_files(root, {f"val2014/COCO_val2014_{i:012d}.jpg": encoded(i)})
        image = f"val2014/COCO_val2014_{i:012d}.jpg"
        if i % 2:
            rows.append({"image": image, "caption": two(i)})
        else:
            rows += [{"image": image, "caption": t, "image_id": f"coco_{i}"} for t in two(i)]
    write_files(root, {"annotations/coco_karpathy_val.json": json.dumps(rows)})


def llava(root):
    rows = []
    for i in range(COUNT):
        write_files(root, {f"images/00{i % 2}/{i}.jpg": encoded(i)})
        turns = [
            {"from": "human", "value": "Describe the image.\n<image>"},
            {"from": "gpt", "value": f"{two(i)[0]}"},
            {"from": "human", "value": "What colour is it?"},
            {"from": "gpt", "value": "Not a caption."},
        ]
        rows.append({"id": str(i), "image": f"00{i % 2}/{i}.jpg", "conversations": turns})
    rows.append({"id": "words only", "conversations": turns})
    write_files(root, {"blip_558k.json": json.dumps(rows)})


def metadata_json(root):
    write_files(root, {f"{i}.png": encoded(i) for i in range(COUNT)})
    rows = [{"file_name": f"{i}.png", "text": two(i)} for i in range(COUNT)]
    write_files(root, {"metadata.json": json.dumps({"version": 1, "items": rows})})


def kohya_meta(root):
    write_files(root, {f"img/{i}.webp": encoded(i) for i in range(COUNT)})
    keys = ["/home/somebody/set/img/{}.webp", "img/{}.webp", "{}"]
    rows = {
        keys[i % 3].format(i): {
            "caption": two(i)[0],
            "tags": "1girl, solo",
            "train_resolution": [8, 8],
        }
        for i in range(COUNT)
    }
    write_files(root, {"meta_cap.json": json.dumps(rows)})


def diffusiondb(root):
    for part in (1, 2):
        numbers = range(6 * part - 6, 6 * part)
        rows = {f"uuid-{i}.png": {"p": two(i)[0], "se": 1, "c": 7.0, "st": 50} for i in numbers}
        folder = f"part-00000{part}"
        write_files(root, {f"{folder}/uuid-{i}.png": encoded(i) for i in numbers})
        write_files(root, {f"{folder}/{folder}.json": json.dumps(rows)})


def imagefolder_parquet(root):
    for split, numbers in (("train", range(8)), ("test", range(8, COUNT))):
        write_files(root, {f"{split}/a/{i}.png": encoded(i) for i in numbers})
        names = [f"a/{i}.png" for i in numbers]
        columns = {"file_name": names, "text": [two(i)[0] for i in numbers]}
        pq.write_table(pa.table(columns), Path(root, split, "metadata.parquet"))


def flickr8k_captions(root):
    write_files(root, {f"Images/{i}_ab.jpg": encoded(i) for i in range(COUNT)})
    rows = [["image", "caption"], *([f"{i}_ab.jpg", t] for i in range(COUNT) for t in two(i))]
    write_files(root, {"captions.txt": table(rows)})


def flickr8k_token(root):
    write_files(root, {f"Flicker8k_Dataset/{i}_ab.jpg": encoded(i) for i in range(1, COUNT)})
    text = "".join(f"{i}_ab.jpg#{k}\t{t}\n" for i in range(COUNT) for k, t in enumerate(two(i)))
    write_files(root, {"Flickr8k_text/Flickr8k.token.txt": text})
    names = "".join(f"{i}_ab.jpg\n" for i in range(1, 8))
    write_files(root, {"Flickr8k_text/Flickr_8k.trainImages.txt": names})


def flickr30k_results(root):
    write_files(root, {f"flickr30k_images/{i}.jpg": encoded(i) for i in range(COUNT)})
    text = "image_name| comment_number| comment\n"
    text += "".join(f"{i}.jpg| {k}| {t}\n" for i in range(COUNT) for k, t in enumerate(two(i)))
    text += "3.jpg| 4   a row without its last bar\n"
    write_files(root, {"results.csv": text})


def flickr30k_hub(root):
    write_files(root, {f"flickr30k-images/{i}.jpg": encoded(i) for i in range(COUNT)})
    rows = [["raw", "sentids", "split", "filename", "img_id"]]
    for i in range(COUNT):
        split = "test" if i >= 8 else "train"
        rows.append([json.dumps(two(i)), "[1, 2]", split, f"{i}.jpg", i])
    write_files(root, {"flickr_annotations_30k.csv": table(rows)})


def tsv_without_header(root):
    write_files(root, {f"{i}.jpg": encoded(i) for i in range(COUNT)})
    write_files(root, {"all.tsv": "".join(f"{i}.jpg\t{two(i)[0]}\n" for i in range(COUNT))})


def dalle_mini_tsv(root):
    write_files(root, {f"{i % 2}/{i}.jpg": encoded(i) for i in range(COUNT)})
    rows = [["image_file", "caption"], *([f"{i % 2}/{i}.jpg", two(i)[0]] for i in range(COUNT))]
    write_files(root, {"captions.tsv": table(rows, delimiter="\t")})


def windows_metadata(root):
    write_files(root, {f"images/{i}.png": encoded(i) for i in range(COUNT)})
    rows = [{"file_name": f"images\\{i}.png", "text": two(i)} for i in range(COUNT)]
    write_files(root, {"metadata.jsonl": lines(rows)})


def printed_lists(root):
    write_files(root, {f"{i}.png": encoded(i) for i in range(COUNT)})
    rows = [["file_name", "text"]]
    for i in range(COUNT):
        shown = [str(two(i)), str(np.array(two(i))), json.dumps(two(i))][i % 3]
        rows.append([f"{i}.png", shown])
    write_files(root, {"metadata.csv": table(rows)})


def numbered_columns(root):
    write_files(root, {f"{i}.png": encoded(i) for i in range(COUNT)})
    rows = [
        {"file_name": f"{i}.png", "caption_0": two(i)[0], "caption_1": two(i)[1], "title": "no"}
        for i in range(COUNT)
    ]
    write_files(root, {"metadata.jsonl": lines(rows)})


def blip_column(root):
    write_files(root, {f"{i}.png": encoded(i) for i in range(COUNT)})
    rows = [
        {"file_name": f"{i}.png", "title": f"IMG_{i}", "blip_caption": two(i)[0]}
        for i in range(COUNT)
    ]
    write_files(root, {"metadata.jsonl": lines(rows)})


def empty_beside_filled(root):
    write_files(root, {f"{i}.png": encoded(i) for i in range(COUNT)})
    rows = [
        {"file_name": f"{i}.png", "text": "" if i % 2 else two(i)[0], "caption": two(i)[0]}
        for i in range(COUNT)
    ]
    write_files(root, {"metadata.jsonl": lines(rows)})


def nested_sentences(root):
    write_files(root, {f"{i}.png": encoded(i) for i in range(COUNT)})
    rows = [
        {"file_name": f"{i}.png", "sentences": [{"raw": t, "sentid": 1} for t in two(i)]}
        for i in range(COUNT)
    ]
    write_files(root, {"metadata.jsonl": lines(rows)})


def side_files(root):
    for i in range(COUNT):
        write_files(root, {f"a/{i}.png": encoded(i)})
        match i % 4:
            case 0:
                write_files(root, {f"a/{i}.txt": two(i)[0], f"a/{i}.caption": two(i)[1]})
            case 1:
                write_files(root, {f"a/{i}.png.txt": "\n".join(two(i))})
            case 2:
                write_files(root, {f"a/{i}.json": json.dumps({"caption": two(i), "width": 3})})
            case 3:
                both = {f"a/{i}.txt": "\n".join(two(i)), f"a/{i}.json": '{"caption": "no"}'}
                write_files(root, both)


def img2dataset(root):
    for i in range(COUNT):
        shard = f"0000{i % 2}"
        name = f"{shard}/{shard}{i:04d}"
        fields = {"caption": two(i)[0], "url": "http://x", "key": name, "status": "success"}
        files = {f"{name}.jpg": encoded(i), f"{name}.txt": two(i)[0], f"{name}.json": fields}
        write_files(
            root, {k: json.dumps(v) if isinstance(v, dict) else v for k, v in files.items()}
        )
    for shard in ("00000", "00001"):
        columns = {"url": ["http://x"], "caption": ["?"], "key": ["0"], "status": ["success"]}
        pq.write_table(pa.table(columns), Path(root, f"{shard}.parquet"))
        write_files(root, {f"{shard}_stats.json": '{"count": 6}'})


def cub(root):
    for i in range(COUNT):
        folder = ("001.Black_footed_Albatross", "002.Laysan_Albatross")[i % 2]
        write_files(root, {f"CUB_200_2011/images/{folder}/bird_{i}.jpg": encoded(i)})
        write_files(root, {f"CUB_200_2011/segmentations/{folder}/bird_{i}.png": encoded(20 + i)})
        write_files(root, {f"text/{folder}/bird_{i}.txt": "\n".join(two(i)) + "\n"})
    write_files(root, {"CUB_200_2011/images.txt": "1 001.Black_footed_Albatross/bird_0.jpg\n"})
    write_files(root, {"CUB_200_2011/classes.txt": "1 001.Black_footed_Albatross\n"})
    write_files(root, {"CUB_200_2011/bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n"})


def oxford_102(root):
    for i in range(COUNT):
        write_files(root, {f"jpg/image_{i:05d}.jpg": encoded(i)})
        folder = f"class_{i % 3:05d}"
        write_files(root, {f"text_c10/{folder}/image_{i:05d}.txt": "\n".join(two(i))})
    write_files(root, {"imagelabels.mat": b"MATLAB", "text_c10/class_00001.h5": b"\x89HDF"})


def mm_celeba(root):
    for i in range(COUNT):
        write_files(root, {f"images/{i}.jpg": encoded(i)})
        write_files(root, {f"celeba-caption/{i}.txt": "\n".join(two(i)) + "\n"})
    write_files(
        root, {"CelebA-HQ-to-CelebA-mapping.txt": "idx orig_idx orig_file\n0 119613 x.jpg\n"}
    )


def kohya_repeats(root):
    for i in range(COUNT):
        write_files(root, {f"img/{('10_sks dog', '3_ohwx cat')[i % 2]}/{i}.png": encoded(i)})


def classes(root):
    for i in range(COUNT):
        write_files(root, {f"pets/{('great_dane', '002.Tabby')[i % 2]}/{i}.png": encoded(i)})
    write_files(root, {"README.md": "x", "LICENSE.txt": "x", "classes.txt": "great_dane\n"})


def synsets(root):
    for i in range(COUNT):
        write_files(root, {f"train/{('n01440764', 'n01443537')[i % 2]}/{i}.JPEG": encoded(i)})
    meanings = "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n"
    write_files(root, {"LOC_synset_mapping.txt": meanings})


def both(i):
    return two(i)


def first(i):
    return two(i)[:1]


def of_class(*names):
    return lambda i: [names[i % len(names)]]


LAST = dict.fromkeys(range(8), "train") | dict.fromkeys(range(8, COUNT), "test")
# layout -> its cases: (writer, number -> captions, number -> split)
TABLE = {
    "table": [
        (imagefolder_parquet, first, LAST),
        (flickr8k_captions, both, None),
        (flickr8k_token, both, None),
        (flickr30k_results, both, None),
        (flickr30k_hub, both, LAST),
        (tsv_without_header, first, None),
        (dalle_mini_tsv, first, None),
        (windows_metadata, both, None),
        (printed_lists, both, None),
        (numbered_columns, both, None),
        (blip_column, first, None),
        (empty_beside_filled, first, None),
        (nested_sentences, both, None),
    ],
    "coco": [(coco, both, LAST), (coco_2014, both, LAST)],
    "karpathy": [(karpathy, both, {i: "train" if i % 3 else "test" for i in range(COUNT)})],
    "llava": [(llava, first, None)],
    "json list": [(lavis, both, dict.fromkeys(range(COUNT), "test")), (metadata_json, both, None)],
    "json object": [(kohya_meta, first, None), (diffusiondb, first, None)],
    "text files": [(side_files, both, None), (img2dataset, first, None)],
    "text tree": [(cub, both, None), (oxford_102, both, None), (mm_celeba, both, None)],
    "folders": [
        (kohya_repeats, of_class("sks dog", "ohwx cat"), None),
        (classes, of_class("great dane", "Tabby"), None),
        (synsets, of_class("tench", "goldfish"), None),
    ],
}
CASES = [(layout, *case) for layout, cases in TABLE.items() for case in cases]
MISSING = {"flickr8k_token": {"Flickr8k_text/Flickr8k.token.txt: 2 pictures": "file is missing"}}


def test_the_table_is_whole():
    assert {layout.name for layout in LAYOUTS} == set(TABLE)


@pytest.mark.parametrize(
    ("layout", "write", "expected", "split"), CASES, ids=[case[1].__name__ for case in CASES]
)
def test_every_picture_has_its_own_captions(tmp_path, layout, write, expected, split):
    write(tmp_path)
    usable, rejected = understood(tmp_path)
    numbers = range(write is flickr8k_token, COUNT)
    assert texts(usable) == {i: expected(i) for i in numbers}
    assert rejected == MISSING.get(write.__name__, {})
    assert splits(usable) == (split or dict.fromkeys(numbers, ""))
    only, _ = understood(tmp_path, captions=layout)
    assert texts(only) == texts(usable)


@pytest.mark.parametrize("write", [coco, cub, kohya_repeats], ids=lambda f: f.__name__)
def test_what_is_listed_is_what_is_trained_on(tmp_path, write):
    write(tmp_path / "pictures")
    usable, _ = understood(tmp_path / "pictures")
    config = config_of(tmp_path / "pictures", tmp_path / "tfds")
    imported = read(config)
    pixels = {i: expected_pixels(i).tobytes() for i in range(COUNT)}
    numbers = {value: i for i, value in pixels.items()}
    assert {
        numbers[image.tobytes()]: captions for image, captions, _ in imported.values()
    } == texts(usable)


def folders_of(*names):
    def write(root):
        for i in range(COUNT):
            write_files(root, {f"{names[i % len(names)]}/{i}.png": encoded(i)})

    return write


def paired_folders(root):
    for i in range(6):
        write_files(root, {f"images/{i}.png": encoded(i), f"masks/{i}.png": encoded(20 + i)})


def with_files(write, files):
    def more(root):
        write(root)
        write_files(root, files)

    return more


def numbers_beside(root):
    for i in range(COUNT):
        text = f"{i} 0.5 0.5 0.25 0.125\n1 0.1 0.2 0.3 4e-2\n"
        write_files(root, {f"{i}.png": encoded(i), f"{i}.txt": text})


STYLEGAN = json.dumps({"labels": [["00000/0.png", 1], ["00001/1.png", 0]]})
REFUSED = {
    "splits": (folders_of("train2017", "val2017"), "no captions for the 12 pictures"),
    "splits below": (folders_of("data/train", "data/val"), "no captions for the 12 pictures"),
    "CycleGAN": (folders_of("trainA", "trainB"), "trainA names a split"),
    "one split": (folders_of("train", "more"), "train names a split"),
    "numbers": (folders_of("00000", "00001"), "00000 is a number"),
    "parts": (folders_of("part-000001", "part-000002"), "part-000001 says nothing"),
    "shards": (folders_of("shard_0", "batch 1"), "batch 1 says nothing"),
    "synsets": (folders_of("n01440764", "n01443537"), "n01440764 is a synset of WordNet"),
    "StyleGAN": (
        with_files(folders_of("00000", "00001"), {"dataset.json": STYLEGAN}),
        "00000 is a number",
    ),
    "unknown table": (
        with_files(folders_of("cat", "dog"), {"labels.csv": "id,breed\n1,x\n"}),
        "labels.csv is a file that may hold captions",
    ),
    "boxes": (
        with_files(folders_of("images/cat", "images/dog"), {"labels/cat/0.txt": "0 .5 .5 .2 .2"}),
        "labels/cat/0.txt is a file that may hold captions",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_folder_names_that_are_no_captions_are_refused(tmp_path, case):
    write, words = REFUSED[case]
    write(tmp_path)
    with pytest.raises(UserError, match=re.escape(words)) as error:
        list_pictures(tmp_path)
    assert "\n" not in str(error.value)
    assert "--data.captions folders" in str(error.value) or "put name.txt" in str(error.value)
    usable, _ = understood(tmp_path, need_captions=False)
    assert sorted(usable) == list(range(COUNT))


@pytest.mark.parametrize("case", ["numbers", "CycleGAN", "unknown table"])
def test_folder_names_can_be_insisted_on(tmp_path, case):
    REFUSED[case][0](tmp_path)
    usable, rejected = understood(tmp_path, captions="folders")
    assert len({raw.captions for raw in usable.values()}) == 2
    assert not rejected


def test_masks_and_control_pictures_are_left_out(tmp_path):
    paired_folders(tmp_path)
    with pytest.raises(UserError, match="no captions for the 6 pictures"):
        list_pictures(tmp_path)
    rows = [{"file_name": f"images/{i}.png", "text": f"picture {i}"} for i in range(6)]
    write_files(tmp_path, {"metadata.jsonl": lines(rows)})
    usable, rejected = understood(tmp_path)
    assert texts(usable) == {i: [f"picture {i}"] for i in range(6)}
    assert not rejected
    (note,) = list_pictures(tmp_path).notes
    assert note.startswith("6 pictures in masks are left out")
    usable, _ = understood(tmp_path, need_captions=False)
    assert sorted(usable) == list(range(6))


def test_masks_that_go_with_nothing_are_pictures(tmp_path):
    folders_of("masks", "hats")(tmp_path)
    usable, _ = understood(tmp_path)
    assert texts(usable) == {i: [("masks", "hats")[i % 2]] for i in range(COUNT)}


def test_boxes_beside_pictures_are_no_captions(tmp_path):
    numbers_beside(tmp_path)
    usable, rejected = understood(tmp_path)
    assert not usable
    assert set(rejected.values()) == {"numbers, not a caption"}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.tfrecord-00000-of-00001": b"x"}, "a.tfrecord-00000-of-00001 is TFRecord"),
        ({"db/data.mdb": b"x"}, "db/data.mdb is an LMDB database"),
        ({"sub/all.zip": b"PK"}, "unpack sub/all.zip first"),
        ({"Train_GCC.tsv": "a cat\thttp://example.org/1.jpg\n"}, "Train_GCC.tsv is a list of addr"),
        ({"1.0.0/features.json": "{}", "1.0.0/dataset_info.json": "{}"}, "is a prepared TFDS data"),
        ({"filenames.pickle": b"x"}, "filenames.pickle is pickled Python"),
        ({"anno.xml": "<a/>"}, "anno.xml is XML"),
    ],
)
@pytest.mark.parametrize("pictures", [False, True], ids=["alone", "with pictures"])
def test_errors_name_what_lies_there(tmp_path, files, words, pictures):
    write_files(tmp_path, files)
    if pictures:
        write_files(tmp_path, {f"{i}.png": encoded(i) for i in range(COUNT)})
    with pytest.raises(UserError, match=re.escape(words)) as error:
        list_pictures(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_below_its_metadata_is_noticed(tmp_path):
    write_files(tmp_path, {f"images/{i}.png": encoded(i) for i in range(COUNT)})
    rows = [{"file_name": f"images/{i}.png", "text": f"picture {i}"} for i in range(COUNT)]
    write_files(tmp_path, {"metadata.jsonl": lines(rows)})
    words = f"metadata.jsonl lies one folder up: --data.path {tmp_path}"
    with pytest.raises(UserError, match=re.escape(words)):
        list_pictures(tmp_path / "images")
    write_files(tmp_path, {f"images/{'ab'[i % 2]}/{i}.png": encoded(i) for i in range(COUNT)})
    with pytest.raises(UserError, match=re.escape(words)):
        list_pictures(tmp_path / "images")


def test_repeats_are_weights(tmp_path):
    kohya_repeats(tmp_path)
    usable, _ = understood(tmp_path)
    assert {i: raw.weight for i, raw in usable.items()} == {
        i: 3.0 if i % 2 else 10.0 for i in range(COUNT)
    }
    (note,) = list_pictures(tmp_path).notes
    assert "10 x '10_sks dog', 3 x '3_ohwx cat'" in note
    usable, _ = understood(tmp_path, weight_column="")
    assert {raw.weight for raw in usable.values()} == {1.0}
    write_files(tmp_path, {f"img/10_sks dog/{i}.txt": f"dog {i}" for i in range(0, COUNT, 2)})
    usable, rejected = understood(tmp_path)
    assert {i: (raw.weight, raw.captions) for i, raw in usable.items()} == {
        i: (10.0, (f"dog {i}",)) for i in range(0, COUNT, 2)
    }
    assert set(rejected.values()) == {"no caption"}


def test_one_repeated_folder_is_enough(tmp_path):
    folders_of("20_sks dog")(tmp_path)
    usable, _ = understood(tmp_path)
    assert texts(usable) == {i: ["sks dog"] for i in range(COUNT)}


@pytest.mark.parametrize("names", ["1_cat 2_dog 3_cow", "01_cat 05_dog", "0_cat 1_dog"])
def test_names_that_count_are_no_repeats(tmp_path, names):
    folders_of(*names.split())(tmp_path)
    usable, _ = understood(tmp_path)
    assert {raw.weight for raw in usable.values()} == {1.0}
    assert texts(usable)[0] == ["cat"]


def test_years_are_no_repeats(tmp_path):
    folders_of("2021_holiday", "2022_holiday")(tmp_path)
    usable, _ = understood(tmp_path)
    assert {raw.weight for raw in usable.values()} == {1.0}
    assert texts(usable)[0] == ["2021 holiday"]


def test_a_column_of_weights(tmp_path):
    write_files(tmp_path, {f"{i}.png": encoded(i) for i in range(COUNT)})
    rows = [{"file_name": f"{i}.png", "text": f"picture {i}", "n": i + 0.5} for i in range(COUNT)]
    write_files(tmp_path, {"metadata.jsonl": lines(rows)})
    usable, _ = understood(tmp_path, weight_column="n")
    assert {i: raw.weight for i, raw in usable.items()} == {i: i + 0.5 for i in range(COUNT)}
    words = "data.weight_column: metadata.jsonl line 1: column text holds 'picture 0', not a number"
    with pytest.raises(UserError, match=re.escape(words)):
        list_pictures(tmp_path, ReadOptions(weight_column="text"))


def test_weights_decide_how_often_pictures_are_shown(tmp_path):
    write_files(tmp_path, {f"p/{i}.png": encoded(i) for i in range(40)})
    rows = [
        {"file_name": f"{i}.png", "text": f"picture {i}", "n": (1, 3, 0.25)[i % 3]}
        for i in range(40)
    ]
    write_files(tmp_path, {"p/metadata.jsonl": lines(rows)})
    config = config_of(tmp_path / "p", tmp_path / "tfds", weight_column="n")
    dataset = open_dataset(config, "train")
    weights = [rows[int(dataset.captions(i)[0].split()[1])]["n"] for i in range(len(dataset))]
    epoch, epochs = round(sum(weights)), 400
    batches = train_batches(dataset, batch_size=epoch)
    shown = np.zeros((epochs, len(dataset)), int)
    for row in shown:
        np.add.at(row, [dataset.flat_captions.index(dataset.flat_captions[c])
                        for c in next(batches)["caption_ids"]], 1)  # fmt: skip
    assert (shown.sum(1) == epoch).all()
    share = shown.mean(0) / (np.array(weights) * epoch / sum(weights))
    np.testing.assert_allclose(share, 1.0, atol=0.25)
    whole = np.array(weights) == 3
    assert set(np.unique(shown[:, whole])) <= {2, 3, 4}
    assert set(np.unique(shown[:, np.array(weights) == 0.25])) == {0, 1}
    assert not np.array_equal(shown[0], shown[1])


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ("caption_*", ["a 1", "b 1"]),
        ("caption_b, story", ["b 1", "once 1"]),
        ("story", ["once 1"]),
    ],
)
def test_several_named_columns(tmp_path, wish, expected):
    write_files(tmp_path, {f"{i}.png": encoded(i) for i in range(COUNT)})
    rows = [
        {"file_name": f"{i}.png", "text": "no", "caption_a": f"a {i}", "caption_b": f"b {i}",
         "story": f"once {i}"} for i in range(COUNT)
    ]  # fmt: skip
    write_files(tmp_path, {"metadata.jsonl": lines(rows)})
    usable, _ = understood(tmp_path, caption_column=wish)
    assert list(usable[1].captions) == expected
    for missing in (f"{wish},tale", "tale_*"):
        with pytest.raises(UserError, match="has no column"):
            list_pictures(tmp_path, ReadOptions(caption_column=missing))


def test_two_columns_like_captions_have_to_be_chosen_from(tmp_path):
    write_files(tmp_path, {f"{i}.png": encoded(i) for i in range(COUNT)})
    rows = [{"file_name": f"{i}.png", "blip_caption": "a", "llava_caption": "b"} for i in range(9)]
    write_files(tmp_path, {"metadata.jsonl": lines(rows)})
    words = "blip_caption, llava_caption could be: --data.caption-column blip_caption"
    with pytest.raises(UserError, match=words):
        list_pictures(tmp_path)


def test_what_a_column_holds_is_said(tmp_path):
    write_files(tmp_path, {f"{i}.png": encoded(i) for i in range(COUNT)})
    rows = [{"file_name": f"{i}.png", "text": i} for i in range(COUNT)]
    write_files(tmp_path, {"metadata.jsonl": lines(rows)})
    words = "no caption: metadata.jsonl line 1: column text holds 0, not text"
    with pytest.raises(UserError, match=words):
        list_pictures(tmp_path)
    rows[0]["text"] = "a caption"
    write_files(tmp_path, {"metadata.jsonl": lines(rows)})
    shards = list_pictures(tmp_path).shards
    details = {raw.name: raw.detail for shard in shards for raw in shard.read()}
    assert details["3.png"] == "metadata.jsonl line 4: column text holds 3, not text"


def test_an_unknown_layout_is_refused(tmp_path):
    write_files(tmp_path, {"a.png": encoded(0), "a.txt": "a"})
    with pytest.raises(UserError, match=r"data.captions must be one of: auto, table, .*not 'coc'"):
        list_pictures(tmp_path, ReadOptions(captions="coc"))
    with pytest.raises(UserError, match="has no captions of the layout 'coco'"):
        list_pictures(tmp_path, ReadOptions(captions="coco"))


def test_the_table_of_the_docs_has_every_layout_in_order():
    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z ]+)` \| (.+?) \| .+ \|$", page, re.MULTILINE)
    assert rows[: len(LAYOUTS)] == [(layout.name, layout.looks_like) for layout in LAYOUTS]


def test_a_name_that_several_pictures_have_is_none_of_them(tmp_path):
    write_files(tmp_path, {f"{'ab'[i % 2]}/{i // 2}.png": encoded(i) for i in range(COUNT)})
    rows = [["image", "caption"], *([f"{i}.png", f"picture {i}"] for i in range(COUNT // 2))]
    write_files(tmp_path, {"captions.csv": table(rows)})
    with pytest.raises(UserError, match="no captions for the 12 pictures"):
        list_pictures(tmp_path)
    rows += [[f"x/y/{'ab'[i % 2]}/{i // 2}.png", f"picture {i}"] for i in range(COUNT)]
    write_files(tmp_path, {"captions.csv": table(rows)})
    usable, rejected = understood(tmp_path)
    assert texts(usable) == {i: [f"picture {i}"] for i in range(COUNT)}
    assert rejected == {"captions.csv: 6 pictures": "file is missing"}


@pytest.mark.parametrize("hidden", [".hidden/1.png", "../1.png"])
def test_tables_reach_no_picture_outside_or_hidden(tmp_path, hidden):
    root = tmp_path / "root"
    write_files(root, {f"{i}.png": encoded(i) for i in range(1, COUNT)} | {hidden: encoded(30)})
    rows = [["image", "caption"], [hidden, "a secret"], ["2.png", "picture 2"]]
    write_files(root, {"captions.csv": table(rows)})
    usable, _ = understood(root)
    assert 30 not in usable
