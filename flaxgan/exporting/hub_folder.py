"""The files of a model on the Hugging Face Hub: weights, config, card and preview."""

import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import flaxgan
from flaxgan.drawing import grids
from flaxgan.drawing.bundled import bundled_name
from flaxgan.drawing.sampler import Sampler
from flaxgan.errors import UserError
from flaxgan.exporting.files import write_file

PREVIEWS = {
    "avatars": ("a bald man with a red beard and a blue hoodie", "长粉色头发的女人, 戴墨镜"),
    "emoji": ("waving hand emoji, medium skin tone, outlined OpenMoji style", "red apple"),
}
COLUMNS = 6  # pictures of each prompt in the preview


def preview_prompts(sampler: Sampler, prompts: Sequence[str]) -> list[str]:
    """The prompts of the preview: those of the user, or of a bundled model, or none.

    Raises:
      UserError: the generator has to be given one.
    """
    if sampler.text_encoder is None or sampler.enlarges:
        return [""]
    found = list(prompts or PREVIEWS.get(bundled_name(sampler.checkpoint) or "", ()))
    if not found and not sampler.config.data.caption_dropout:
        raise UserError('the preview needs prompts: give --prompt "…", any number of times')
    return found or [""]


def write_about(
    folder: Path, sampler: Sampler, header: dict[str, Any], prompts: list[str], licence: str | None
) -> None:
    """Writes all files of the folder but the weights.

    Args:
      folder: is made.
      sampler: the model.
      header: of the file of its weights: see `flaxgan.saving.generator_file`.
      prompts: of the preview.
      licence: as the hub names it; None: nothing is said.

    Raises:
      UserError: they cannot be written.
    """
    about = {**header, "config": json.loads(header["config"]), "library_name": "flaxgan"}
    text = json.dumps(about, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    write_file(folder / "config.json", text.encode())
    card = model_card(sampler, header, prompts, licence, preview=not sampler.enlarges)
    write_file(folder / "README.md", card.encode())
    if sampler.enlarges:
        return
    images = sampler(prompts, num=COLUMNS)
    shown = [prompt or grids.NO_PROMPT for prompt in prompts]
    picture = grids.grid_png(images, shown if sampler.text_encoder else None)
    labels = {"prompt": "\n".join(prompts), "seed": "0", "version": f"flaxgan {header['flaxgan']}"}
    try:
        grids.save_png(picture, folder / "preview.png", labels)
    except OSError as error:
        raise UserError(f"cannot write {folder / 'preview.png'}: {error.strerror}") from error


def model_card(
    sampler: Sampler,
    header: dict[str, Any],
    prompts: list[str],
    licence: str | None,
    *,
    preview: bool = True,
) -> str:
    """README.md: metadata in YAML, how to draw, how it was made, and a bundled model's card."""
    config = sampler.config
    name = bundled_name(sampler.checkpoint)
    task = "text-to-image" if sampler.text_encoder else "unconditional-image-generation"
    metadata = {
        "library_name": "flaxgan",
        "pipeline_tag": "image-to-image" if sampler.enlarges else task,
        "license": licence or (name and "apache-2.0"),
        "tags": ["flaxgan", "gan", "jax", "flax", task],
    }
    # JSON is YAML, and its strings need no thought about what YAML takes for a number
    lines = [f"{key}: {json.dumps(value)}" for key, value in metadata.items() if value]
    own = _own_card(name) if name else f"# {_plain(config.name)}\n"
    title, _, rest = own.partition("\n")
    prompt = json.dumps(prompts[0], ensure_ascii=False)
    call = "sampler.upsample(pictures)" if sampler.enlarges else f"sampler({prompt}, num=8)"
    data = _plain(config.data.path or config.data.name)
    facts = [
        f"- **Network**: {config.model.family}, {config.data.resolution} px, "
        f"{_count(sampler):,} parameters of the averaged generator",
        f"- **Text**: encoder {config.text.encoder}",
        f"- **Data**: {data}; {header['images_seen']:,} images seen in training",
        *(f"- `{key}`: {value:.4g}" for key, value in sorted(header["metrics"].items())),
    ]
    return "\n".join(
        [
            *("---", *lines, "---", "", title, ""),
            *(["![preview](preview.png)", ""] if preview else []),
            "```python",
            "import flaxgan",
            "",
            'sampler = flaxgan.load("hub:user/name")  # the name of this repository',
            f"images = {call}",
            "```",
            "",
            f"Made by flaxgan {flaxgan.__version__}. The file holds arrays and JSON, and no code.",
            "",
            *facts,
            rest.rstrip(),
            "",
        ]
    )


def _own_card(name: str) -> str:
    """The card of a bundled model; links to pages that are not beside it become plain text."""
    file = resources.files("flaxgan") / "weights" / f"{name}.md"
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", file.read_text(encoding="utf-8"))


def _plain(text: str) -> str:
    """A name as one line of Markdown."""
    return re.sub(r"[^\w ./-]", "_", text)


def _count(sampler: Sampler) -> int:
    import jax

    return sum(leaf.size for leaf in jax.tree.leaves(sampler.params))
