"""A trained generator as one object: prompts in, pictures out."""

import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from flaxgan.config import Config
from flaxgan.data.pictures import Fit, Unreadable, load
from flaxgan.drawing.drawer import Drawer, noise
from flaxgan.drawing.editing import Editor, Inversion
from flaxgan.drawing.filling import Margins, as_hole, as_list, check_size, paste, shrink
from flaxgan.drawing.inversion import Search
from flaxgan.drawing.reranking import Matcher, load_matcher
from flaxgan.drawing.walks import (
    avoid_text,
    emphasise,
    key_frames,
    mix_texts,
    new_tokens,
    slerp,
)
from flaxgan.errors import UserError
from flaxgan.images import to_float, to_uint8
from flaxgan.models.given_pictures import enlarges, inpaints
from flaxgan.models.inpainter import with_hole
from flaxgan.models.latents import generator_text
from flaxgan.text.conditioning import Text, TextFeatures, TextStats, standardise
from flaxgan.times import part
from flaxgan.training.state import Params

MOST_PIXELS = 1_048_576  # of a picture that is enlarged
PIXELS_AT_ONCE = 65_536  # of a batch of them: 16 times 64 x 64
ROWS_AT_ONCE = 256  # pictures of a film whose text is made at once
SEARCH = Search()
EMPHASIS, MOST_EMPHASIS = 4.0, 16.0  # of new words in an edit
AVOID_STRENGTH, MOST_AVOID_STRENGTH = 1.5, 8.0  # by default; beyond, little is left of a prompt


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A trained generator with its text encoder: prompts in, pictures out.

    `flaxgan.load` makes one. It draws on all devices of this process.

    Attributes:
      config: of the training run.
      generator: the module.
      params: averaged parameters.
      text_encoder: None for an unconditional generator.
      text_stats: see `TrainState`.
      checkpoint: the folder or the exported file that it was read from.
      step: of training, at which it was saved.
      meta: JSON saved with the checkpoint.
      source: where it was downloaded from, "hub:user/name@commit"; "": it was not.
    """

    config: Config
    generator: nn.Module
    params: Params
    text_encoder: Any
    text_stats: TextStats | None
    checkpoint: Path
    step: int
    meta: dict[str, Any]
    source: str = ""
    # number of devices -> a drawer for them, and the parameters that are there
    _drawers: dict[int, tuple[Drawer, Params]] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def images_seen(self) -> int:
        """Real images that it was trained on, counted anew in every epoch."""
        return self.step * self.config.train.batch_size

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        num: int = 1,
        seed: int = 0,
        batch_size: int = 16,
        best_of: int = 1,
        truncation: float = 1.0,
        avoid: str | Sequence[str] | None = None,
        avoid_strength: float = AVOID_STRENGTH,
    ) -> np.ndarray:
        """Draws `num` pictures of each prompt; picture k of every prompt has the same noise.

        Args:
          prompts: one, or any number of them; an unconditional generator does not read them.
          num: pictures of each prompt, at least 1.
          seed: of the noise, in [0, 2^32).
          batch_size: pictures drawn at once, at least 1; rounded up to a multiple of the devices.
          best_of: pictures drawn for each that is kept, the one that fits its prompt best in the
            eyes of the discriminator: see `flaxgan.drawing.reranking`. Candidate i of picture k
            has noise k + i num, so that the first is what is drawn with 1.
          truncation: in [0, 1], how far pictures may be from the typical one of their prompt: see
            `flaxgan.models.latents.draw_truncated`.
          avoid: what not to draw, one text for all prompts or one for each: see
            `flaxgan.drawing.walks.avoid_text`; None: nothing.
          avoid_strength: in [0, MOST_AVOID_STRENGTH], of `avoid`.

        Returns:
          `[num, h, w, c]` uint8 for one string, `[len(prompts), num, h, w, c]` for a sequence.

        Raises:
          UserError: no prompt, one that is no string, a number out of range, or nothing to choose
            with: no discriminator beside the generator, or one without a matching head.
        """
        num = _whole("num", num, 1)
        seed = _whole("seed", seed, 0, 2**32)
        batch_size = _whole("batch_size", batch_size, 1)
        best_of = _whole("best_of", best_of, 1)
        truncation = _within("truncation", truncation, 1.0)
        avoid_strength = _within("avoid_strength", avoid_strength, MOST_AVOID_STRENGTH)
        rows = _as_list(prompts)
        self._check_draws()
        matcher = self.matcher if best_of > 1 else None  # before the work begins
        prompted = text = None if self.text_encoder is None else self.encode(rows)
        if avoid is not None:
            text = self._avoiding(rows, avoid, avoid_strength)
        candidates = np.arange(num)[:, None] + num * np.arange(best_of)  # [num, best_of]
        drawn = self.batches(
            np.tile(candidates.reshape(-1), len(rows)),
            _repeat(text, candidates.size),
            seed=seed,
            batch_size=batch_size,
            truncation=None if truncation == 1.0 else truncation,
        )
        images = np.concatenate(list(drawn))
        images = images.reshape(len(rows), candidates.size, *images.shape[1:])
        if matcher is not None:
            scores = matcher.scores(images, prompted).reshape(len(rows), num, best_of)
            best = scores.argmax(axis=-1) + best_of * np.arange(num)
            images = np.take_along_axis(images, best[..., None, None, None], axis=1)
        return images[0] if isinstance(prompts, str) else images

    def interpolate(
        self,
        prompts: Sequence[str],
        *,
        frames: int = 60,
        num: int = 1,
        seed: int = 0,
        loop: bool = False,
        fixed_noise: bool = False,
        batch_size: int = 16,
    ) -> np.ndarray:
        """Draws films that walk from prompt to prompt, and from noise to noise.

        Between prompts the features of the generator's own text encoder are mixed linearly
        (`flaxgan.drawing.walks.mix_texts`), and noises go round the sphere (`slerp`). The frames
        that show a prompt are evenly spaced, as far as they can be; in walk n the one of prompt j
        is picture j num + n that a call with this prompt and seed draws, exactly.

        Args:
          prompts: at least 2; an unconditional generator does not read them.
          frames: of each film, at least as many as prompts.
          num: walks, each between noises of its own.
          seed: of the noise, in [0, 2^32).
          loop: whether the walk goes on to the first prompt, just before which it ends.
          fixed_noise: only words change: walk n has noise n throughout.
          batch_size: pictures drawn at once.

        Returns:
          `[frames, num, h, w, c]` uint8.

        Raises:
          UserError: fewer than two prompts, one that is no string, or a number out of range.
        """
        rows = _as_list(prompts)
        if len(rows) < 2:
            raise UserError("a walk needs at least two prompts")
        frames = _whole("frames", frames, 2)
        if frames < len(rows):
            raise UserError(
                f"frames must be at least as many as prompts, {len(rows)}, not {frames}"
            )
        num = _whole("num", num, 1)
        seed = _whole("seed", seed, 0, 2**32)
        batch_size = _whole("batch_size", batch_size, 1)
        self._check_draws()
        options = {"seed": seed, "batch_size": batch_size}
        text = None if self.text_encoder is None else self.encode(rows)
        indices = np.tile(np.arange(num), len(rows)) + (
            0 if fixed_noise else np.repeat(num * np.arange(len(rows)), num)
        )
        stops = np.concatenate(list(self.batches(indices, _repeat(text, num), **options)))
        stops = stops.reshape(len(rows), num, *stops.shape[1:])
        film = np.empty((frames, *stops.shape[1:]), np.uint8)
        keys = key_frames(len(rows), frames, loop=loop)
        film[keys[: len(rows)]] = stops

        z = np.asarray(noise(indices, self.config.model.z_dim, seed)).reshape(len(rows), num, -1)
        features = None if text is None else self.text_features(text)
        for leg, (start, end) in enumerate(itertools.pairwise(keys)):
            here, there = leg, (leg + 1) % len(rows)
            between = np.arange(start + 1, end)
            at_once = max(1, ROWS_AT_ONCE // num)
            for first in range(0, len(between), at_once):
                # the last part is as long as the others, and drawn over: one shape is compiled
                first = max(0, min(first, len(between) - at_once))
                shown = between[first : first + at_once]
                t = (shown - start) / (end - start)
                words = features and mix_texts(
                    *(jax.tree.map(lambda x, i=i: x[i : i + 1], features) for i in (here, there)), t
                )
                noises = slerp(z[here], z[there], t[:, None])
                drawn = self.batches(
                    noises.reshape(len(t) * num, -1), _repeat(words, num), **options
                )
                film[shown] = np.concatenate(list(drawn)).reshape(len(t), *film.shape[1:])
        return film

    @functools.cached_property
    def matcher(self) -> Matcher:
        """Compares pictures with prompts, as the discriminator does.

        Raises:
          UserError: there is no discriminator beside the generator, or it compares nothing.
        """
        return load_matcher(self.checkpoint, self.config, self.meta, self.text_stats)

    def text_features(self, text: Text) -> TextFeatures:
        """Text of `encode` as the generator's own text encoder sees it, `[n, …]` NumPy arrays."""
        features = _text_features(self.params, text, self.text_stats, generator=self.generator)
        return jax.tree.map(np.asarray, features)

    def _avoiding(
        self, prompts: list[str], avoid: str | Sequence[str], strength: float
    ) -> TextFeatures:
        """Features of prompts, away from those of other texts, one for all or one for each."""
        if self.text_encoder is None:
            raise UserError(f"{self.config.name} reads no prompt, so it can avoid nothing")
        others = _as_list(avoid)
        if isinstance(avoid, str):
            others = others * len(prompts)
        if len(others) != len(prompts):
            raise UserError(
                f"{len(prompts)} prompts need {len(prompts)} texts to avoid, or one for all, not "
                f"{len(others)}"
            )
        beside = [", ".join(filter(None, pair)) for pair in zip(prompts, others, strict=True)]
        text, away = (self.text_features(self.encode(x)) for x in (prompts, beside))
        return avoid_text(text, away, strength)

    def _check_draws(self) -> None:
        if self.inpaints:
            raise UserError(
                f"{self.config.name} fills holes of pictures, and draws none: use flaxgan inpaint, "
                "or Sampler.inpaint"
            )
        if self.enlarges:
            raise UserError(
                f"{self.config.name} enlarges pictures, and draws none: use flaxgan upsample, or "
                "Sampler.upsample"
            )

    @property
    def enlarges(self) -> bool:
        """Whether it makes pictures from smaller ones: see `upsample`."""
        return enlarges(self.generator)

    @property
    def times(self) -> int:
        """How many times as wide and high `upsample` makes a picture."""
        return self.config.model.patch if self.enlarges else 1

    def upsample(
        self,
        images: np.ndarray,
        prompts: str | Sequence[str] = "",
        *,
        seed: int = 0,
        batch_size: int = 16,
    ) -> np.ndarray:
        """Enlarges pictures, which may have any size, `times` times.

        Args:
          images: `[n, h, w, c]` uint8, or one, `[h, w, c]`.
          prompts: what they show: one text for all, or one for each. "": nothing is said.
          seed: of the noise, in [0, 2^32).
          batch_size: pictures enlarged at once, at least 1; less where they are large.

        Returns:
          `[n, times h, times w, c]` uint8, or of one picture `[times h, times w, c]`.

        Raises:
          UserError: this generator enlarges nothing, or was never trained without a prompt and
            gets none; pictures of another kind, of more than MOST_PIXELS, or not as many as
            prompts; or a number out of range.
        """
        if not self.enlarges:
            raise UserError(
                f"{self.config.name} draws pictures, and enlarges none: load an upsampler, such as "
                "avatars.upsampler"
            )
        seed = _whole("seed", seed, 0, 2**32)
        batch_size = _whole("batch_size", batch_size, 1)
        images = np.asarray(images)
        if images.ndim == 3:
            return self.upsample(images[None], prompts, seed=seed, batch_size=batch_size)[0]
        n, h, w = self._checked(images)
        text = self._prompts_of(prompts, n)
        small = (text or Text()).replace(picture=np.asarray(to_float(images)))
        at_once = max(1, min(batch_size, PIXELS_AT_ONCE // (h * w)))
        drawn = self.batches(np.arange(n), small, seed=seed, batch_size=at_once)
        return np.concatenate(list(drawn))

    @property
    def inpaints(self) -> bool:
        """Whether it fills holes of pictures: see `inpaint`."""
        return inpaints(self.generator)

    def inpaint(
        self,
        pictures: np.ndarray | Sequence[np.ndarray],
        masks: np.ndarray | Sequence[np.ndarray],
        prompts: str | Sequence[str] = "",
        *,
        num: int = 1,
        seed: int = 0,
        batch_size: int = 16,
    ) -> Any:
        """Redraws what masks cover, by prompts; all around stays as it is, to the bit.

        Pictures may have any size: they are worked on at the generator's (`filling.shrink`), and
        what is drawn is enlarged to theirs.

        Args:
          pictures: `[n, h, w, c]` uint8, or n arrays of any sizes, or one `[h, w, c]`.
          masks: `[n, h, w]`, or n arrays, or one `[h, w]` for all; bool, or uint8 where 128 and
            more is redrawn. A mask that covers all of a picture leaves the prompt alone.
          prompts: what the whole picture shall show, one text for all, or one for each.
          num: results of each picture; result k of every picture has the same noise.
          seed: of the noise, in [0, 2^32).
          batch_size: pictures at once.

        Returns:
          `[n, num, h, w, c]` uint8, `[num, h, w, c]` for one picture, a list of these for pictures
          of several sizes.

        Raises:
          UserError: this generator fills no holes, or was never trained without a prompt and gets
            none; a mask of another size or one that covers nothing; arrays of another kind, or not
            as many as pictures; or a number out of range.
        """
        self.check_inpaints()
        num = _whole("num", num, 1)
        seed = _whole("seed", seed, 0, 2**32)
        batch_size = _whole("batch_size", batch_size, 1)
        single = isinstance(pictures, np.ndarray) and pictures.ndim == 3
        rows = [self._checked_picture(x) for x in ([pictures] if single else pictures)]
        if not rows:
            raise UserError("no picture: give at least one")
        many = as_list(masks, len(rows), 2, "masks")
        holes = [as_hole(mask, row) for mask, row in zip(many, rows, strict=True)]
        drawn = self._fill(rows, holes, prompts, num, seed, batch_size)
        results = [
            np.stack([paste(row, hole, image) for image in images])
            for row, hole, images in zip(rows, holes, drawn, strict=True)
        ]
        if single:
            return results[0]
        alike = len({result.shape for result in results}) == 1
        return np.stack(results) if alike else results

    def outpaint(
        self,
        pictures: np.ndarray | Sequence[np.ndarray],
        prompts: str | Sequence[str] = "",
        *,
        left: int = 0,
        top: int = 0,
        right: int = 0,
        bottom: int = 0,
        num: int = 1,
        seed: int = 0,
        batch_size: int = 16,
    ) -> Any:
        """Continues pictures beyond their sides: `inpaint` of what is added around them.

        Args:
          pictures, prompts, num, seed, batch_size: see `inpaint`.
          left, top, right, bottom: pixels that are added, at least 0, not all 0.

        Returns:
          As `inpaint`, of the larger canvas.

        Raises:
          UserError: see `inpaint`; also where nothing is added.
        """
        sides = {"left": left, "top": top, "right": right, "bottom": bottom}
        margins = Margins(**{name: _whole(name, value, 0) for name, value in sides.items()})
        if margins == Margins():
            raise UserError("nothing is added: left, top, right or bottom must be above 0")
        single = isinstance(pictures, np.ndarray) and pictures.ndim == 3
        rows = [self._checked_picture(x) for x in ([pictures] if single else pictures)]
        for row in rows:
            margins.check_size(row)
        results = self.inpaint(
            [margins.widen(row) for row in rows],
            [margins.hole(row) for row in rows],
            prompts,
            num=num,
            seed=seed,
            batch_size=batch_size,
        )
        return results[0] if single else results

    def check_inpaints(self) -> None:
        """Raises UserError where it fills no holes."""
        if not self.inpaints:
            raise UserError(
                f"{self.config.name} fills no holes of pictures: load an inpainter, such as "
                "avatars.inpainter"
            )

    def _fill(
        self,
        pictures: list[np.ndarray],
        holes: list[np.ndarray],
        prompts: str | Sequence[str],
        num: int,
        seed: int,
        batch_size: int,
    ) -> np.ndarray:
        """`[n, num, side, side, c]` uint8: pictures without their holes at the own size."""
        side = self.config.data.resolution
        text = self._prompts_of(prompts, len(pictures))
        small = [shrink(x, hole, side) for x, hole in zip(pictures, holes, strict=True)]
        images, missing = (np.stack(rows) for rows in zip(*small, strict=True))
        given = with_hole(to_float(images), missing[..., None].astype(np.float32))
        text = (text or Text()).replace(picture=np.asarray(given))
        indices = np.tile(np.arange(num), len(pictures))
        drawn = self.batches(indices, _repeat(text, num), seed=seed, batch_size=batch_size)
        images = np.concatenate(list(drawn))
        return images.reshape(len(pictures), num, *images.shape[1:])

    def _checked_picture(self, picture: np.ndarray) -> np.ndarray:
        channels = self.config.data.channels
        picture = np.asarray(picture)
        kind = picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[-1] == channels
        if not kind or not picture.size:
            raise UserError(
                f"a picture must be uint8 of shape [h, w, {channels}], not {picture.dtype} of "
                f"shape {list(picture.shape)}"
            )
        check_size(*picture.shape[:2])
        return picture

    def _checked(self, images: np.ndarray) -> tuple[int, int, int]:
        """Number, height and width of pictures that can be enlarged."""
        channels = self.config.data.channels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != channels:
            raise UserError(
                f"images must be uint8 of shape [n, h, w, {channels}], not {images.dtype} of shape "
                f"{list(images.shape)}"
            )
        n, h, w, _ = images.shape
        if not images.size:
            raise UserError(f"images must hold pixels; their shape is {list(images.shape)}")
        if h * w > MOST_PIXELS:
            raise UserError(
                f"a picture of {w} x {h} pixels is too large to enlarge {self.times} times: at "
                f"most {MOST_PIXELS:,} pixels"
            )
        return n, h, w

    def _prompts_of(self, prompts: str | Sequence[str], count: int) -> Text | None:
        """The text of `count` pictures; None where the generator reads none."""
        rows = _for_each(prompts, count)
        if self.text_encoder is None:
            return None
        if "" in rows and not self.config.data.caption_dropout:
            raise UserError(
                f"{self.config.name} was not trained without prompts: say what the picture shows, "
                "or train it with --data.caption-dropout 0.2"
            )
        return self.encode(rows)

    def invert(
        self,
        pictures: np.ndarray | Sequence[np.ndarray],
        prompts: str | Sequence[str] | None = None,
        *,
        seed: int = 0,
        batch_size: int = 16,
        search: Search = SEARCH,
        advance: Callable[[int], None] | None = None,
    ) -> Inversion:
        """Looks for noise, offsets of w, and where it is not known text, that draw pictures.

        Args:
          pictures: `[n, h, w, c]` uint8, or n arrays of any sizes, or one `[h, w, c]`; the centre
            square is brought to the generator's size.
          prompts: what they show: one text for all, or one for each. None: it is not known; then
            vectors in its place are sought too.
          seed: of the noises that are tried, in [0, 2^32).
          batch_size: pictures at once.
          search: how hard.
          advance: see `inversion.invert`; None: nothing is called.

        Returns:
          `Inversion`, for `vary` and `edit`; its `distance` says how well it went.

        Raises:
          UserError: a generator with neither w nor text, or one that enlarges; arrays that are no
            pictures, or not as many as prompts; or a number out of range.
        """
        editor = self._editor()
        seed = _whole("seed", seed, 0, 2**32)
        batch_size = _whole("batch_size", batch_size, 1)
        rows = self.as_pictures(pictures)
        text = None
        if self.text_encoder is not None:
            known = [""] * len(rows) if prompts is None else _for_each(prompts, len(rows))
            text = self.text_features(self.encode(known))
        return editor.invert(
            rows,
            text,
            free_text=prompts is None,
            seed=seed,
            batch_size=batch_size,
            search=search,
            advance=advance,
        )

    def vary(
        self,
        pictures: np.ndarray | Sequence[np.ndarray] | Inversion,
        prompts: str | Sequence[str] | None = None,
        *,
        num: int = 8,
        strength: float = 0.5,
        residual: float = 1.0,
        seed: int = 0,
        batch_size: int = 16,
    ) -> np.ndarray:
        """Draws variations of pictures: noise goes from what was found to others.

        Args:
          pictures, prompts: see `invert`; or what it found, which is not sought again.
          num: variations of each picture.
          strength: in [0, 1]. 0: the picture; 1: other pictures of its text. Noise goes
            strength^2 of the way.
          residual: in [0, 1]: how much of what the inversion could not reproduce is added back
            where nothing changes, times 1 - strength^2: see `editing.add_residual`. With 0,
            strength 0 is the reconstruction.
          seed: of the noises, in [0, 2^32).
          batch_size: pictures at once.

        Returns:
          `[n, num, h, w, c]` uint8; `[num, h, w, c]` for one picture `[h, w, c]`.

        Raises:
          UserError: see `invert`.
        """
        editor = self._editor()
        num = _whole("num", num, 1)
        seed = _whole("seed", seed, 0, 2**32)
        batch_size = _whole("batch_size", batch_size, 1)
        strength = _within("strength", strength, 1.0)
        residual = _within("residual", residual, 1.0)
        found = self._inverted(pictures, prompts, seed, batch_size)
        drawn = editor.vary(
            found, num, strength=strength, residual=residual, seed=seed, batch=batch_size
        )
        return _without_axis(np.asarray(to_uint8(drawn)), pictures)

    def edit(
        self,
        pictures: np.ndarray | Sequence[np.ndarray] | Inversion,
        before: str | Sequence[str],
        after: str | Sequence[str],
        *,
        strength: float = 1.0,
        steps: int = 1,
        residual: float = 1.0,
        emphasis: float = EMPHASIS,
        seed: int = 0,
        batch_size: int = 16,
    ) -> np.ndarray:
        """Exchanges the captions of pictures: what noise and offsets of w draw stays.

        Args:
          pictures: see `invert`; or what it found with `before`.
          before: what they show, one text for all, or one for each.
          after: what they shall show, likewise.
          strength: in [0, 1], how far from one caption to the other.
          steps: pictures of each, from the first caption's to that of `strength`, at equal
            distances; 1: only the last.
          residual: as in `vary`, whatever the strength.
          emphasis: in [0, MOST_EMPHASIS], how much the tokens of `after` that are new weigh in
            attention: see `walks.emphasise`; 1: as the others.
          seed: of the noises that are tried, in [0, 2^32).
          batch_size: pictures at once.

        Returns:
          `[n, steps, h, w, c]` uint8; `[steps, h, w, c]` for one picture `[h, w, c]`.

        Raises:
          UserError: see `invert`; also a generator that reads no text.
        """
        editor = self._editor()
        if self.text_encoder is None:
            raise UserError(f"{self.config.name} reads no prompt, so words edit nothing")
        strength = _within("strength", strength, 1.0)
        residual = _within("residual", residual, 1.0)
        emphasis = _within("emphasis", emphasis, MOST_EMPHASIS)
        steps = _whole("steps", steps, 1)
        seed = _whole("seed", seed, 0, 2**32)
        batch_size = _whole("batch_size", batch_size, 1)
        shown = pictures if isinstance(pictures, Inversion) else self.as_pictures(pictures)
        before, after = (_for_each(x, len(shown)) for x in (before, after))
        found = self._inverted(shown, before, seed, batch_size)
        text = self.text_features(self.encode(after))
        chosen = new_tokens(*(Text(None, *self.text_encoder.tokenize(x)) for x in (before, after)))
        text = emphasise(text, chosen, emphasis)
        strengths = np.linspace(0.0, strength, steps) if steps > 1 else np.array([strength])
        drawn = editor.edit(found, text, strengths, residual=residual, batch=batch_size)
        return _without_axis(np.asarray(to_uint8(drawn)), pictures)

    def as_pictures(
        self, pictures: np.ndarray | Sequence[np.ndarray], fit: Fit = "crop"
    ) -> np.ndarray:
        """Arrays of pictures of any size to the generator's, `[n, h, w, c]` uint8.

        Args:
          pictures: see `invert`.
          fit: see `flaxgan.data.pictures.load`.

        Raises:
          UserError: there is none, or one is no picture.
        """
        side, channels = self.config.data.resolution, self.config.data.channels
        single = isinstance(pictures, np.ndarray) and pictures.ndim == 3
        try:
            rows = [load(x, side, channels, fit=fit) for x in ([pictures] if single else pictures)]
        except (Unreadable, TypeError) as error:
            raise UserError(f"pictures must be uint8 [h, w, {channels}]: {error}") from error
        if not rows:
            raise UserError("no picture: give at least one")
        return np.stack(rows)

    def check_inverts(self) -> None:
        """Raises UserError where pictures cannot be inverted."""
        self._check_draws()
        if self.text_encoder is None and not hasattr(self.generator, "to_w"):
            raise UserError(
                f"{self.config.name} cannot invert pictures: the family "
                f"{self.config.model.family} without text has nothing but noise to fit them with"
            )

    def _editor(self) -> Editor:
        self.check_inverts()
        model = self.config.model
        return Editor(self.generator, self.params, model.z_dim, model.w_dim)

    def _inverted(self, pictures: Any, prompts: Any, seed: int, batch_size: int) -> Inversion:
        if isinstance(pictures, Inversion):
            return pictures
        return self.invert(pictures, prompts, seed=seed, batch_size=batch_size)

    def batches(
        self,
        indices: np.ndarray,
        text: Text | TextFeatures | None,
        *,
        seed: int = 0,
        batch_size: int = 16,
        truncation: float | None = None,
    ) -> Iterator[np.ndarray]:
        """Draws one picture for each index, in order.

        Args:
          indices: `[n]` int, which noise vectors of the seed: the same (seed, index) is the same
            noise; or `[n, z]` float, the vectors.
          text: of `encode` or `text_features`, `[n, …]`; None for an unconditional generator.
          seed: of the noise.
          batch_size: pictures at once, rounded up to a multiple of the devices.
          truncation: see `__call__`; None: there is none.

        Yields:
          `[<= batch_size, h, w, c]` uint8.
        """
        devices = jax.local_devices()
        if len(indices) < len(devices):
            devices = devices[:1]  # too few pictures to give each device one
        if len(devices) not in self._drawers:
            drawer = Drawer(self.generator, self.config.model.z_dim, self.text_stats, devices)
            params, text_stats = drawer.place(self.params)
            drawer = dataclasses.replace(drawer, text_stats=text_stats)
            self._drawers[len(devices)] = drawer, params
        drawer, params = self._drawers[len(devices)]
        yield from drawer.batches(params, indices, text, batch_size, seed, truncation)

    def encode(self, prompts: Sequence[str]) -> Text:
        """The prompts as the generator's text input, one row each."""
        with part("  encode prompts"):
            return encode_text(self.text_encoder, prompts)


@functools.partial(jax.jit, static_argnames="generator")
def _text_features(
    params: Params, text: Text, text_stats: TextStats | None, *, generator: nn.Module
) -> TextFeatures | None:
    return generator_text(generator, params, standardise(text, text_stats))


def _repeat(text: Any, times: int) -> Any:
    """Each row of text, or of its features, so often."""
    return jax.tree.map(lambda x: np.repeat(np.asarray(x), times, axis=0), text)


def encode_text(encoder: Any, captions: Sequence[str]) -> Text:
    """Tokens for a learned encoder, sentence vectors for a frozen one.

    Args:
      encoder: of `flaxgan.text.build_text_encoder`.
      captions: any number.
    """
    from flaxgan.text.encoder import jit_encode

    tokens, mask = encoder.tokenize(list(captions))
    if encoder.learned:
        return encoder.look_up(Text(tokens=tokens, mask=mask))
    return Text(sentence_emb=jit_encode(encoder)(encoder.params, tokens, mask))


def _as_list(prompts: Any) -> list[str]:
    """One prompt or several as a list.

    Raises:
      UserError: there is none, or one is no string.
    """
    rows = [prompts] if isinstance(prompts, str) else prompts
    if not isinstance(rows, Sequence | np.ndarray) or isinstance(rows, bytes):
        raise UserError(f"prompts must be a string or a list of strings, not {prompts!r:.80}")
    rows = list(rows)
    if not rows:
        raise UserError("no prompt: give at least one")
    for row in rows:
        if not isinstance(row, str):
            raise UserError(f"a prompt must be a string, not {row!r:.80}")
    return rows


def _for_each(prompts: str | Sequence[str], count: int) -> list[str]:
    """One prompt for each of `count` pictures.

    Raises:
      UserError: there are more or fewer, or one is no string.
    """
    rows = _as_list(prompts) * (count if isinstance(prompts, str) else 1)
    if len(rows) != count:
        raise UserError(f"{count} pictures need {count} prompts, or one for all, not {len(rows)}")
    return rows


def _without_axis(images: np.ndarray, pictures: Any) -> np.ndarray:
    """Of one picture that was no list, what was drawn without the first axis."""
    return images[0] if isinstance(pictures, np.ndarray) and pictures.ndim == 3 else images


def _whole(name: str, value: Any, low: int, end: int | None = None) -> int:
    """A whole number in [low, end).

    Raises:
      UserError: it is none, or out of range.
    """
    limits = f"at least {low}" if end is None else f"in [{low}, {end})"
    try:
        number = operator.index(value)
    except TypeError as error:
        raise UserError(f"{name} must be a whole number, {limits}, not {value!r:.80}") from error
    if number < low or (end is not None and number >= end):
        raise UserError(f"{name} must be {limits}, not {value}")
    return number


def _within(name: str, value: Any, most: float) -> float:
    """A number in [0, most].

    Raises:
      UserError: it is none, or out of range.
    """
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be a number, not {value!r:.80}") from error
    if not 0.0 <= number <= most:
        raise UserError(f"{name} must be in [0, {most:g}], not {value}")
    return number
