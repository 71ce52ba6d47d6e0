"""The web page: its files, and its scripts in node against Python."""

import base64
import dataclasses
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from flaxgan.commands import export
from flaxgan.drawing.drawer import noise
from flaxgan.drawing.loading import load_sampler
from flaxgan.errors import UserError
from flaxgan.exporting import npm, web
from flaxgan.text import e5
from tests.conftest import ROOT
from tests.drawing.conftest import write_tiny

PAGE = Path(str(resources.files("flaxgan"))) / "exporting" / "page"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")


def run_node(tmp_path, script, given):
    """What a module of JavaScript prints as JSON; it reads `given`."""
    (tmp_path / "given.json").write_text(json.dumps(given))
    start = (
        'import { readFileSync, writeFileSync } from "node:fs";\n'
        f"const given = JSON.parse(readFileSync({json.dumps(str(tmp_path / 'given.json'))}));\n"
    )
    file = tmp_path / "script.mjs"
    file.write_text(start + script.replace("PAGE", PAGE.as_uri()))
    done = subprocess.run([NODE, "--no-warnings", file], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.fixture
def runtime(monkeypatch):
    """Stands for onnxruntime-web, which is not downloaded here."""
    monkeypatch.setattr(npm, "runtime_files", lambda names, archive: dict.fromkeys(names, b"code"))


def test_the_command(tiny_file, tmp_path, runtime, capsys):
    site = tmp_path / "site"
    export.main(["--checkpoint", str(tiny_file), "--format", "web", str(site)])
    said = capsys.readouterr().out
    config = json.loads((site / "model" / "config.json").read_text())
    assert config["text"] == {"kind": "bytes", "maxTokens": 24}
    first = ["index.html", "style.css", *(path.name for path in PAGE.glob("*.js"))]
    first += ["model/config.json", "runtime/ort.wasm.min.mjs", "runtime/ort-wasm-simd-threaded.mjs"]
    first += [
        "runtime/ort-wasm-simd-threaded.wasm.gz",
        *(f"model/{x}.gz" for x in config["needed"]),
    ]
    assert set(config["needed"]) == {"text.onnx", "text.bin", "images.onnx", "images.bin"}
    size = sum((site / name).stat().st_size for name in first)
    assert f"{size:,} bytes are loaded before the first picture" in said
    assert "largest difference to the Flax model: " in said
    assert "{{" not in (site / "offline.js").read_text()
    assert (
        gzip.decompress((site / "runtime/ort-wasm-simd-threaded.wasm.gz").read_bytes()) == b"code"
    )
    with pytest.raises(UserError, match="site is not empty"):
        export.main(["--checkpoint", str(tiny_file), "--format", "web", str(site)])
    words = ["--format", "web", "--languages", "en,fr", str(tmp_path / "b")]
    with pytest.raises(UserError, match="--languages must be of en, zh, not en,fr"):
        export.main(["--checkpoint", str(tiny_file), *words])


def test_a_changed_model_has_another_cache(tmp_path, tiny_file, runtime):
    """Else a browser would draw with old files."""
    names = []
    for dtype in ("float16", "float32"):
        folder = tmp_path / str(len(names))
        web.to_web(load_sampler(tiny_file), folder, ("en",), dtype)
        names.append((folder / "offline.js").read_text())
    assert names[0] != names[1]


def test_a_text_encoder_without_a_tokenizer_here(tiny_file):
    sampler = load_sampler(tiny_file)
    text = dataclasses.replace(sampler.config.text, encoder="minilm")
    config = dataclasses.replace(sampler.config, text=text)
    with pytest.raises(UserError, match=r"no tokenizer for text\.encoder minilm; it has for e5"):
        web.model_files(dataclasses.replace(sampler, config=config), ("en",), "float16")


def test_the_first_rows_are_words_of_the_languages():
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [
        ("a", -1.0),
        ("\u2581house", -9.0),
        ("\u2581gewesen", -5.0),
        ("é", -2.0),
        ("红", -3.0),
    ]
    assert web.chosen_rows(pieces, ("en",)) == ([0, 1, 2, 3, 4, 5, 6], 7)
    assert web.chosen_rows(pieces, ("en", "zh"))[0] == [0, 1, 2, 3, 4, 5, 6, 8]


@needs_node
def test_noise_is_that_of_jax(tmp_path):
    cases = [[0, 0], [0, 7], [5, 1], [2**32 - 1, 31]]
    script = """
        import { noise } from "PAGE/noise.js";
        console.log(JSON.stringify(given.map(([seed, k]) => Array.from(noise(seed, k, 65)))));
    """
    found = run_node(tmp_path, script, cases)
    for (seed, index), vector in zip(cases, found, strict=True):
        expected = np.asarray(noise(np.array([index]), 65, np.uint32(seed)))[0]
        np.testing.assert_allclose(vector, expected, atol=1e-6)


@needs_node
def test_weights_are_unpacked_exactly(tmp_path):
    """Packed, half and whole ones, with a runtime that keeps what it is given."""
    import onnx
    from onnx import numpy_helper

    draw = np.random.default_rng(0)
    scale = draw.normal(size=(5, 2)).astype(np.float16)
    nibbles = draw.integers(0, 256, (5, 2, 16), dtype=np.uint8)
    nibbles[..., 0] &= 0xF0  # the largest of a block is nibble 0
    arrays = [
        np.ascontiguousarray(e5.unpack(e5.QuantisedTable(scale, nibbles))),
        draw.normal(size=(7, 60)).astype(np.float16).astype(np.float32),
        draw.normal(size=(3, 100)).astype(np.float32),
    ]
    graph = onnx.helper.make_graph(
        [], "g", [], [], [numpy_helper.from_array(x, f"x{i}") for i, x in enumerate(arrays)]
    )
    data, weights, about = web.without_weights(onnx.helper.make_model(graph).SerializeToString())
    assert [kind for kind, *_ in about] == ["q4", "f2", "f4"]
    assert len(weights) == 5 * 2 * 18 + 2 * 420 + 4 * 300
    (tmp_path / "images.bin").write_bytes(weights)
    (tmp_path / "images.onnx").write_bytes(data)
    script = """
        import { Generator } from "PAGE/generator.js";
        const create = (graph, { externalData }) => {
          writeFileSync(`${given.folder}/out`, externalData[0].data);
          return { path: externalData[0].path };
        };
        const config = { weights: { "images.onnx": given.about } };
        const read = async (name) => new Uint8Array(readFileSync(`${given.folder}/${name}`));
        const made = await Generator.load({ InferenceSession: { create } }, config, read);
        console.log(JSON.stringify(made.images));
    """
    found = run_node(tmp_path, script, {"folder": str(tmp_path), "about": about})
    assert found == {"path": "weights"}
    whole = np.frombuffer((tmp_path / "out").read_bytes(), np.float32)
    np.testing.assert_array_equal(whole, np.concatenate([x.ravel() for x in arrays]))


ODD = [
    "",
    "  two   spaces ",
    "½ ﬁve",
    "全角　ＡＢＣ，红色。",
    "a\tb\nc",
    "红" * 60,
    "x\U0001f600y é",
]


@needs_node
def test_tokens_are_those_of_python(tmp_path):
    """Of 50 prompts and some odd ones; of all pieces, and where some are not there."""
    pytest.importorskip("tokenizers")
    from flaxgan.config import TextConfig
    from flaxgan.text import build_text_encoder

    lines = (ROOT / "docs" / "handwritten_prompts.jsonl").read_text().splitlines()
    prompts = [json.loads(line)["prompt"] for line in lines] + ODD
    encoder = build_text_encoder(TextConfig(encoder="words", max_tokens=24))
    tokens, mask = encoder.tokenize(prompts)
    expected = [row[keep].tolist() for row, keep in zip(tokens, mask, strict=True)]
    file = e5.read(e5.find_file(None), layers=0)
    pieces = file.pieces.entries(np.arange(len(file.pieces.scores)))
    ids, first = web.chosen_rows(pieces, ("en", "zh"))
    given = {
        "prompts": prompts,
        "first": first,
        "data": {
            "pieces": [pieces[i][0] for i in ids],
            "scores": [pieces[i][1] for i in ids],
            "unkScore": min(score for _, score in pieces) - web.UNKNOWN_PENALTY,
            "replacements": {chr(code): text for code, text in file.replacements.items()},
            "special": {"bos": 0, "eos": 2, "unk": 3},
            "prefix": "",
            "maxTokens": 24,
        },
    }
    script = """
        import { Unigram } from "PAGE/tokenizer.js";
        const one = new Unigram(given.data);
        const few = given.prompts.map((x) => one.encode(x, (place) => place < given.first));
        console.log(JSON.stringify([given.prompts.map((x) => one.encode(x)), few]));
    """
    found, few = run_node(tmp_path, script, given)
    in_python = [[ids[place] for place in row] for row in found]
    outside = {prompts.index(x) for x in prompts if "\U0001f600" in x}  # neither en nor zh
    for number, (prompt, a, b) in enumerate(zip(prompts, in_python, expected, strict=True)):
        if number not in outside:
            assert a == b, prompt
    assert all(place < first for row in few for place in row)
    assert any(a != b for a, b in zip(found, few, strict=True))


@needs_node
def test_bytes_are_those_of_python(tmp_path):
    from flaxgan.text.learned import BytesEncoder

    prompts = ["a red dot", "", "红" * 20, "é\ud800b"]
    tokens, mask = BytesEncoder(24, 16).tokenize(prompts)
    script = """
        import { Bytes } from "PAGE/tokenizer.js";
        console.log(JSON.stringify(given.map((x) => new Bytes({ maxTokens: 24 }).encode(x))));
    """
    found = run_node(tmp_path, script, prompts)
    assert found == [row[keep].tolist() for row, keep in zip(tokens, mask, strict=True)]


def tarball(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@pytest.fixture
def published(monkeypatch, tmp_path):
    data = tarball({"package/dist/a.mjs": b"code", "package/../../evil": b"never written"})
    monkeypatch.setattr(npm, "SHA512", base64.b64encode(hashlib.sha512(data).digest()).decode())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return data


def test_the_runtime_is_downloaded_once(published, monkeypatch):
    import urllib.request

    asked = []

    def answer(address, timeout):
        asked.append(address)
        return io.BytesIO(published)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    monkeypatch.setenv("npm_config_registry", "https://example.org/npm")
    for _ in range(2):
        assert npm.runtime_files(["a.mjs"]) == {"a.mjs": b"code"}
    assert asked == [f"https://example.org/npm/onnxruntime-web/-/{npm.FILE}"]
    (path,) = npm.cache_dir("npm").iterdir()
    path.write_bytes(b"damaged")  # is not trusted
    npm.runtime_files(["a.mjs"])
    assert len(asked) == 2


def test_another_archive_is_refused(published, tmp_path, monkeypatch):
    import urllib.request

    good, bad = tmp_path / "good.tgz", tmp_path / "bad.tgz"
    good.write_bytes(published)
    bad.write_bytes(published + b"x")
    assert npm.runtime_files(["a.mjs"], good) == {"a.mjs": b"code"}
    with pytest.raises(UserError, match=r"bad\.tgz is not onnxruntime-web.* its sha512 differs"):
        npm.runtime_files(["a.mjs"], bad)
    with pytest.raises(UserError, match="cannot read"):
        npm.runtime_files(["a.mjs"], tmp_path / "none.tgz")
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **b: io.BytesIO(b"<html>"))
    with pytest.raises(UserError, match="its sha512 differs"):
        npm.runtime_files(["a.mjs"])


def test_without_a_network(published, monkeypatch):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    with pytest.raises(UserError, match=r"cannot download .*npm pack onnxruntime-web@.*--runtime"):
        npm.runtime_files(["a.mjs"])
    monkeypatch.setenv("npm_config_registry", "file:///etc")
    with pytest.raises(UserError, match="must be an address of http"):
        npm.runtime_files(["a.mjs"])


def test_the_registry_is_that_of_npm(monkeypatch, tmp_path):
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert npm.registry() == npm.REGISTRY
    (tmp_path / ".npmrc").write_text("//x:_authToken=1\nregistry = https://example.org/a\n")
    assert npm.registry() == "https://example.org/a/"


@pytest.mark.slow
def test_the_page_in_a_browser(tmp_path):
    """Typing draws what Python draws. Needs playwright, Chromium, and the archive of npm pack."""
    api = pytest.importorskip("playwright.sync_api")
    chromium, archive = shutil.which("chromium"), os.environ.get("FLAXGAN_ONNXRUNTIME_WEB")
    if not chromium or not archive:
        pytest.skip("needs chromium, and FLAXGAN_ONNXRUNTIME_WEB=onnxruntime-web-1.30.0.tgz")
    import functools
    import http.server
    import threading
    import time

    sampler = load_sampler(write_tiny(tmp_path, discriminator=False))
    web.to_web(sampler, tmp_path / "site", ("en",), "float32", Path(archive))
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "site")
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pixels = """[...document.querySelectorAll("canvas")].map((canvas) => Array.from(
        canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data))"""
    try:
        with api.sync_playwright() as player:
            browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page()
            errors = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            for prompt in ("a red dot", "红色"):
                page.fill("#prompt", prompt)
                start = time.monotonic()
                while page.evaluate("document.getElementById('gallery').dataset.prompt") != prompt:
                    assert time.monotonic() - start < 60, page.inner_text("#state")
                    time.sleep(0.02)
                found = np.array(page.evaluate(pixels)).reshape(8, 16, 16, 4)
                expected = sampler(prompt, num=8)
                np.testing.assert_allclose(found[..., :3], expected.astype(int), atol=2)
            assert not errors
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
