"""Models on a stand-in for the hub: exported, pushed, loaded by name and by commit."""

import dataclasses
import json
import sys

import numpy as np
import pytest

import flaxgan
from flaxgan.commands import export, push, sample
from flaxgan.commands.main import run_command
from flaxgan.drawing.grids import read_png_text
from flaxgan.drawing.loading import load_sampler
from flaxgan.errors import UserError
from flaxgan.saving import hub
from tests.drawing.conftest import write_tiny
from tests.exporting.hub_server import Hub

huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def server(monkeypatch, tmp_path):
    found = Hub()
    monkeypatch.setenv("HF_ENDPOINT", found.url)
    monkeypatch.setenv("HF_TOKEN", found.token)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The generator's file, and a folder made from it."""
    file = write_tiny(tmp_path_factory.mktemp("tiny"), name="a_user's model")
    folder = tmp_path_factory.mktemp("hub") / "model"
    words = ["--dtype", "float32", "--prompt", "a: red dot", "--license", "mit", "--discriminator"]
    export.main(["--checkpoint", str(file), "--format", "hub", *words, str(folder)])
    return file, folder


def test_the_folder(files):
    _, folder = files
    names = {path.name for path in folder.iterdir()}
    weights = {"model.safetensors", "model.discriminator.safetensors"}
    assert names == {*weights, "config.json", "README.md", "preview.png"}
    assert json.loads((folder / "config.json").read_text())["config"]["model"]["family"] == "r3gan"
    assert read_png_text(folder / "preview.png")["prompt"] == "a: red dot"
    start, metadata, card = (folder / "README.md").read_text().split("---\n", 2)
    assert start == ""
    found = {k: json.loads(v) for k, v in (x.split(": ", 1) for x in metadata.splitlines())}
    assert found["license"] == "mit"
    assert found["pipeline_tag"] == "text-to-image"
    assert "# a_user_s model" in card
    assert 'sampler("a: red dot", num=8)' in card
    with pytest.raises(UserError, match=r"model is not empty.*--overwrite"):
        export.main(["--checkpoint", str(files[0]), "--format", "hub", str(folder)])


def test_the_card_of_a_bundled_model(files):
    """The tiny one stands for it: to load a large one takes long."""
    from flaxgan.drawing.bundled import bundled_file
    from flaxgan.exporting.hub_folder import model_card

    sampler = dataclasses.replace(load_sampler(files[0]), checkpoint=bundled_file("emoji"))
    header = {**export.header_of(sampler), "metrics": {"emoji_r_precision": 0.36951}}
    card = model_card(sampler, header, ["red apple"], None)
    assert 'license: "apache-2.0"' in card
    assert "CC BY-SA 4.0" in card
    assert "- `emoji_r_precision`: 0.3695" in card
    assert "](../" not in card


def test_push_then_load_draws_the_same(files, server, tmp_path, capsys):
    file, folder = files
    push.main([str(folder), "me/dots"])
    first = server.repos["me/dots"][-1][0]
    assert capsys.readouterr().out == f"pushed {folder}: hub:me/dots@{first}\n"
    prompts = ["a red dot", "a blue one"]
    images = load_sampler(file)(prompts, num=2, best_of=2)
    sampler = flaxgan.load("hub:me/dots")
    np.testing.assert_array_equal(sampler(prompts, num=2, best_of=2), images)
    assert sampler.source == f"hub:me/dots@{first}"

    # what was there before is still there by its commit, also without a network
    server.commit("me/dots", {"model.safetensors": b"something else"})
    with pytest.raises(UserError, match="damaged"):
        flaxgan.load("hub:me/dots")
    server.requests.clear()
    out = tmp_path / "a.png"
    words = ["--prompt", "a red dot", "--num", "1", "--out", str(out)]
    sample.main(["--model", f"hub:me/dots@{first}", *words])
    assert f"drawing with hub:me/dots@{first}" in capsys.readouterr().out
    assert read_png_text(out)["checkpoint"] == f"hub:me/dots@{first}: a_user's model step 1"
    assert not [path for command, path in server.requests if command == "GET"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hub:me/none", "hub:me/none is not there, or private"),
        ("hub:me/empty", "hub:me/empty has no model.safetensors"),
        ("hub:me/empty@wrong", "hub:me/empty@wrong: there is no such revision"),
        ("hub:me/empty@", "a revision must follow"),
        ("hub:me", "is named user/name, not 'me'"),
        ("hub:../me", "Repo id must use"),
    ],
)
def test_names_that_lead_nowhere(name, words, server):
    server.commit("me/empty", {"README.md": b""})
    with pytest.raises(UserError, match=words):
        flaxgan.load(name)


def test_pushing_needs_a_model_and_a_token(files, server, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"has no model\.safetensors: make it with flaxgan export"):
        run_command(["push", str(tmp_path), "me/dots"])
    monkeypatch.setenv("HF_TOKEN", "a stranger's")
    with pytest.raises(UserError, match="the hub refuses this token"):
        push.main([str(files[1]), "me/dots"])
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UserError, match=r"no token .* set HF_TOKEN"):
        push.main([str(files[1]), "me/dots"])
    assert not server.repos


def test_without_a_network(files, server, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="hub:me/dots cannot be reached, and is not in the cache"):
        flaxgan.load("hub:me/dots")
    with pytest.raises(UserError, match="hub:me/dots cannot be reached"):
        push.main([str(files[1]), "me/dots"])


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r'pip install "flaxgan\[hub\]"'):
        hub.download("hub:me/dots")
