"""Faults made by hand, each of which the default tests have to catch: python -m tools.mutants.

Each fault is made in a copy of the tree, and the tests that are named beside it run there: enough
to see that it is caught, in seconds. Without faults they have to pass. A line that has changed
since needs its row in FAULTS brought up to date.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "runs", "*.egg-info")
PASSED, FAILED = 0, 1  # exit codes of pytest; others say that it could not run


class Fault(NamedTuple):
    """One fault.

    Attributes:
      name: for --only.
      file: that it is in.
      old: what stands there, exactly once.
      new: what is put in its place.
      tests: arguments of pytest: the tests that have to fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


LOSSES = "flaxgan/losses/"
TRAINING = "flaxgan/training/"
SAVING = "flaxgan/saving/"
DATA = "flaxgan/data/"
EVALUATE = "flaxgan/evaluate/"
RUN = "flaxgan/run/"
STEP_TESTS = "tests/training/test_step.py -k "
OBJECTIVE_TESTS = "tests/training/test_objective.py"
FAULTS = (
    # walks and choices
    Fault(
        "slerp as a straight line",
        "flaxgan/drawing/walks.py",
        "on_a_line = sine < 1e-6",
        "on_a_line = sine < 1e6",
        "tests/drawing/test_walks.py -k constant_speed",
    ),
    Fault(
        "tokens of the other text weigh 1 at once",
        "flaxgan/drawing/walks.py",
        "(1 - t) * a.mask + t * b.mask",
        "1.0 * (a.mask | b.mask) + 0 * t",
        "tests/drawing/test_walks.py -k mixed_linearly",
    ),
    Fault(
        "the worst of several",
        "flaxgan/drawing/sampler.py",
        "scores.argmax(axis=-1)",
        "scores.argmin(axis=-1)",
        "tests/drawing/test_reranking.py -k argmax",
    ),
    Fault(
        "towards what is to be avoided",
        "flaxgan/drawing/walks.py",
        "strength * (f - beside.sentence)",
        "strength * (beside.sentence - f)",
        "tests/drawing/test_walks.py -k moved_away",
    ),
    Fault(
        "truncation towards zero",
        "flaxgan/models/latents.py",
        "mean + truncation * (to_w(z) - mean)",
        "truncation * to_w(z)",
        "tests/models/test_latents.py -k drawn_to_its_mean",
    ),
    Fault(
        "weights of tokens are not read",
        "flaxgan/models/attention.py",
        "jnp.log(jnp.maximum(keep, jnp.finfo(scores.dtype).tiny))",
        "0.0 * keep",
        "tests/models/test_attention.py -k weigh",
    ),
    # losses
    Fault(
        "hinge pushes fakes up",
        LOSSES + "hinge.py",
        "relu(1.0 + fake)",
        "relu(1.0 - fake)",
        "tests/losses/test_adversarial.py",
    ),
    Fault(
        "rpgan: G plays for D",
        LOSSES + "rpgan.py",
        "softplus(-(fake - real))",
        "softplus(-(real - fake))",
        "tests/losses/test_adversarial.py",
    ),
    Fault(
        "matching loss upside down",
        LOSSES + "adversarial.py",
        "softplus(mismatched_fake_logits - fake_logits)",
        "softplus(fake_logits - mismatched_fake_logits)",
        "tests/losses/test_adversarial.py",
    ),
    Fault(
        "fakes of wrong captions count twice",
        LOSSES + "adversarial.py",
        "1.0 - mismatch_weight - mismatch_fake_weight",
        "1.0 - mismatch_weight",
        "tests/losses/test_adversarial.py",
    ),
    Fault(
        "equal captions are wrong choices",
        LOSSES + "contrastive.py",
        "(ids == text_ids[:, None]) | (ids < 0)",
        "(ids < 0)",
        "tests/losses/test_contrastive.py",
    ),
    Fault(
        "a caption looks for itself",
        LOSSES + "contrastive.py",
        "text_emb @ images[:, :e].T",
        "text_emb @ texts[:, :e].T",
        "tests/losses/test_contrastive.py",
    ),
    Fault(
        "R1 of twice the weight",
        LOSSES + "penalties.py",
        "return 0.5 * gamma * squared, logits, aux",
        "return gamma * squared, logits, aux",
        "tests/losses/test_penalties.py",
    ),
    Fault(
        "a penalty on features that forgets how many places there are",
        LOSSES + "penalties.py",
        "roots = [math.sqrt(f.shape[1] * f.shape[2]) for f in features]",
        "roots = [1.0 for f in features]",
        "tests/models/test_frozen.py",
    ),
    Fault(
        "G alone, with D as well",
        "flaxgan/training/step.py",
        '        if alone == "g":\n',
        "        if False:\n",
        "tests/training/test_step.py",
    ),
    Fault(
        "D's maps under the names of other maps, in a start at another resolution",
        "flaxgan/run/transfer.py",
        "    return kept | moved\n",
        "    return dict(tensors)\n",
        "tests/run/test_transfer.py",
    ),
    Fault(
        "patches enlarged, and D sees their sum",
        "flaxgan/models/r3gan.py",
        "x.reshape(h, w, -1, out) / times**2",
        "x.reshape(h, w, -1, out)",
        "tests/models/test_r3gan.py",
    ),
    Fault(
        "prompts of avatars in which a mustache is a beard",
        "flaxgan/data/avatar_prompts.py",
        '_BEARDS = ("BEARD_LIGHT", "BEARD_MAGESTIC"',
        '_BEARDS = ("MOUSTACHE_FANCY", "BEARD_LIGHT", "BEARD_MAGESTIC"',
        "tests/data/test_avatar_prompts.py",
    ),
    Fault(
        "half of the penalty's gradient",
        LOSSES + "penalties.py",
        "constant + 2.0 * (along_g - constant)",
        "constant + 1.0 * (along_g - constant)",
        "tests/losses/test_penalties.py",
    ),
    Fault(
        "MA-GP without the sentence",
        LOSSES + "penalties.py",
        "_squared_gradient(d_fn, (images, sentence))",
        "_squared_gradient(lambda x: d_fn(x, sentence), (images,))",
        "tests/losses/test_penalties.py",
    ),
    # objective and step
    Fault(
        "no penalty on fakes",
        TRAINING + "objective.py",
        "penalty = real_penalty + fake_penalty",
        "penalty = real_penalty",
        STEP_TESTS + "formulas",
    ),
    Fault(
        "reals and fakes are augmented differently",
        TRAINING + "objective.py",
        'keys(f"augment_{name[0]}")',
        'keys(f"augment_{name}")',
        STEP_TESTS + "how_sure",
    ),
    Fault(
        "gradients are not averaged",
        "flaxgan/collectives.py",
        "else jax.lax.pmean(tree, axis_name)",
        "else tree",
        STEP_TESTS + "copy_each",
    ),
    Fault(
        "every replica has the first one's noise",
        "flaxgan/collectives.py",
        "jax.lax.axis_index(axis_name) * local_batch + local",
        "0 * jax.lax.axis_index(axis_name) + local",
        STEP_TESTS + "or_on_history",
    ),
    Fault(
        "the average follows the wrong one",
        TRAINING + "step.py",
        "new + decay * (ema - new)",
        "ema + decay * (new - ema)",
        STEP_TESTS + "averaged_generators",
    ),
    Fault(
        "updates that are not finite are made",
        TRAINING + "step.py",
        "jnp.where(finite, a, b), new, old)",
        "jnp.where(True, a, b), new, old)",
        STEP_TESTS + "not_finite",
    ),
    Fault(
        "G plays against the old D",
        TRAINING + "step.py",
        "of_g(g_whole, placement.whole(d_params))",
        "of_g(g_whole, d_whole)",
        STEP_TESTS + "formulas",
    ),
    Fault(
        "the learning rate stays after a rollback",
        TRAINING + "step.py",
        "lambda x: lr_scale * x, updates",
        "lambda x: x, updates",
        STEP_TESTS + "scale",
    ),
    Fault(
        "a lazy penalty of the usual weight",
        TRAINING + "step.py",
        "float(self.objective.loss.penalty_every_steps) if",
        "1.0 if",
        STEP_TESTS + "lazy",
    ),
    Fault(
        "parts are added, not averaged",
        TRAINING + "accumulation.py",
        "lambda x: x / count, total",
        "lambda x: x, total",
        STEP_TESTS + "accumulated",
    ),
    Fault(
        "good updates count as bad ones",
        TRAINING + "state.py",
        "bad = 1 - finite.astype(jnp.int32)",
        "bad = finite.astype(jnp.int32)",
        STEP_TESTS + "not_finite",
    ),
    # random numbers, augmentation, optimisers, devices
    Fault(
        "the same noise in every step",
        "flaxgan/rng.py",
        "jax.random.fold_in(stream(key, name), step)",
        "stream(key, name)",
        "tests/test_rng.py",
    ),
    Fault(
        "streams of names of one length are one",
        "flaxgan/rng.py",
        "zlib.crc32(name.encode()))",
        "len(name))",
        "tests/test_rng.py",
    ),
    Fault(
        "p is how often nothing is done",
        TRAINING + "augment.py",
        "jnp.where(u[3] < p, changed, image)",
        "jnp.where(u[3] < p, image, changed)",
        "tests/training/test_augment.py",
    ),
    Fault(
        "ADA the other way round",
        TRAINING + "augment.py",
        "jnp.sign(real_sign_mean - target)",
        "jnp.sign(target - real_sign_mean)",
        "tests/training/test_augment.py -k update or adaptive or p_",
    ),
    Fault(
        "translation of one axis only",
        TRAINING + "augment.py",
        "jnp.arange(w) + right",
        "jnp.arange(w) + down",
        "tests/training/test_augment.py -k translation",
    ),
    Fault(
        "the cosine rises",
        TRAINING + "optim.py",
        "(1.0 + jnp.cos(jnp.pi * progress))",
        "(1.0 - jnp.cos(jnp.pi * progress))",
        "tests/training/test_optim.py",
    ),
    Fault(
        "the random start is never forgotten",
        TRAINING + "optim.py",
        "jnp.minimum(halflife, rampup",
        "jnp.maximum(halflife, rampup",
        "tests/training/test_optim.py",
    ),
    Fault(
        "frozen parts are trained, the others not",
        TRAINING + "optim.py",
        'return "fixed" if any(',
        'return "fixed" if not any(',
        "tests/training/test_optim.py",
    ),
    Fault(
        "nothing is spread over the devices",
        TRAINING + "parallel.py",
        "if count == 1 or x.size <= shard_above or not axes:",
        "if count >= 1 or x.size <= shard_above or not axes:",
        STEP_TESTS + "spread",
    ),
    Fault(
        "the first batch is lost",
        TRAINING + "parallel.py",
        "        yield current",
        "        yield ahead",
        "tests/training/test_parallel.py",
    ),
    # what is saved
    Fault(
        "digests are not compared",
        SAVING + "restore.py",
        "if expected.get(name) != actual[name]]",
        "if name not in expected]",
        "tests/saving/test_checkpoint.py",
    ),
    Fault(
        "the meta's checksum is not compared",
        SAVING + "meta.py",
        'meta["crc32"] != checksum(meta):',
        "not checksum(meta):",
        "tests/saving/test_checkpoint.py",
    ),
    Fault(
        "claims of shapes are believed",
        SAVING + "restore.py",
        "if claimed > MOST_COMPRESSED * there + LEAST_REFUSED:",
        "if claimed < 0:",
        "tests/robustness/test_security.py -k allocated",
    ),
    Fault(
        "digests do not see the place of a word",
        SAVING + "digests.py",
        "    places ^= words",
        "    places = words.copy()",
        "tests/saving/test_digests.py",
    ),
    Fault(
        "digests of shards depend on how they are cut",
        SAVING + "digests.py",
        "starts = [[part.start or 0 for part in shard.index] for shard in shards]",
        "starts = [[0 for part in shard.index] for shard in shards]",
        "tests/saving/test_digests.py",
    ),
    Fault(
        "a generator's values are not checked",
        SAVING + "generator_file.py",
        'if _checksum(tensors) != header.get("crc32") or not named_right:',
        "if not named_right:",
        "tests/saving/test_generator_file.py",
    ),
    Fault(
        "a generator that is not finite is exported",
        SAVING + "generator_file.py",
        "if not np.isfinite(array).all():",
        "if not array.size:",
        "tests/saving/test_generator_file.py",
    ),
    Fault(
        "another experiment may go on in the folder",
        SAVING + "workdir.py",
        '        "train.total_kimg",',
        '        "train.total_kimg",\n        "g_opt.lr",',
        "tests/saving/test_workdir.py tests/run/test_loop.py -k workdir",
    ),
    # runs
    Fault(
        "weights that hardly fit are taken",
        RUN + "transfer.py",
        "if (there != here and adopt is None) or 2 * g_taken.count < g_taken.total:",
        "if there != here and adopt is None:",
        "tests/run/test_transfer.py",
    ),
    Fault(
        "the average starts from the last generator",
        RUN + "transfer.py",
        '"ema_params": take(state.ema_params, source.average)[0],',
        '"ema_params": take(state.ema_params, source.generator)[0],',
        "tests/run/test_transfer.py",
    ),
    Fault(
        "the second rollback changes nothing",
        RUN + "rollback.py",
        "FACTOR ** len(self._done)",
        "FACTOR ** min(1, len(self._done))",
        "tests/run/test_rollback.py",
    ),
    Fault(
        "one rollback too many",
        RUN + "rollback.py",
        "if len(self._done) < self._options.max_rollbacks:",
        "if len(self._done) <= self._options.max_rollbacks:",
        "tests/run/test_rollback.py",
    ),
    Fault(
        "warnings flicker",
        RUN + "watchdogs.py",
        "if measure < rule.ends:",
        "if measure < rule.begins:",
        "tests/run/test_watchdogs.py",
    ),
    Fault(
        "collapse upside down",
        RUN + "watchdogs.py",
        'v["real_diversity"] / max(v["fake_diversity"], 1e-9)',
        'v["fake_diversity"] / max(v["real_diversity"], 1e-9)',
        "tests/run/test_watchdogs.py",
    ),
    Fault(
        "the stall alarm goes on after a step",
        RUN + "stall_alarm.py",
        "        self._beats += 1",
        "        self._beats += 0",
        "tests/run/test_stall_alarm.py",
    ),
    Fault(
        "a flag does not win over a rule",
        RUN + "auto_settings.py",
        "        if name in config.auto:\n            value, why",
        "        if True:\n            value, why",
        "tests/run/test_auto_settings.py",
    ),
    # data
    Fault(
        "processes get the same part of a batch",
        DATA + "pipeline.py",
        "(step * self.process_count + self.process_index) * self.size",
        "step * self.process_count * self.size",
        "tests/data/test_pipeline.py",
    ),
    Fault(
        "every epoch has the same order",
        DATA + "pipeline.py",
        "self._order(int(epoch))[offsets[here]]",
        "self._order(0)[offsets[here]]",
        "tests/data/test_pipeline.py",
    ),
    Fault(
        "wrong captions of the same words",
        DATA + "pipeline.py",
        "same = self._words[others] == self._words[captions][:, None]",
        "same = others == captions[:, None]",
        "tests/data/test_pipeline.py",
    ),
    Fault(
        "pictures stand on their heads",
        DATA + "pipeline.py",
        "images[flips, :, ::-1]",
        "images[flips, ::-1]",
        "tests/data/test_pipeline.py",
    ),
    Fault(
        "always the first captions",
        DATA + "captions.py",
        "(captions[start:] + captions[:start])[:max_captions]",
        "captions[:max_captions]",
        "tests/data/test_captions.py",
    ),
    Fault(
        "the empty caption has an id of its own",
        DATA + "captions.py",
        '    numbers[""] = EMPTY_ID',
        "    pass",
        "tests/data/test_captions.py tests/data/test_pipeline.py tests/data/test_source.py",
    ),
    Fault(
        "own pictures: metadata leads outside",
        DATA + "own_pictures/names.py",
        'return path if path.startswith(os.path.join(folder, "")) else None',
        "return path",
        "tests/data/own_pictures/test_layouts.py -k metadata",
    ),
    Fault(
        "a gradient on CPU is a reversed convolution",
        "flaxgan/models/layers.py",
        'if jax.default_backend() != "cpu":',
        "if True:",
        "tests/models/test_layers.py",
    ),
    Fault(
        "own pictures: numbers become captions",
        DATA + "own_pictures/layouts/folder_names.py",
        "2 * len(numbers) >= len(folders)",
        "False",
        "tests/data/own_pictures/test_folder_layouts.py",
    ),
    Fault(
        "own pictures: a bare name is found in any folder",
        DATA + "own_pictures/folder.py",
        "return best[0] if len(best) == 1 else None",
        "return best[0] if best else None",
        "tests/data/own_pictures/test_folder_layouts.py",
    ),
    Fault(
        "own pictures: masks are trained on",
        DATA + "own_pictures/image_folder.py",
        'paired_pictures(found) if options.captions != "folders" else {}',
        "{}",
        "tests/data/own_pictures/test_folder_layouts.py",
    ),
    Fault(
        "own pictures: repeats are not honoured",
        DATA + "pipeline.py",
        "if self._expected is None:",
        "if True:",
        "tests/data/own_pictures/test_folder_layouts.py -k weights",
    ),
    Fault(
        "own pictures: rows of Arrow files are of the shard before",
        DATA + "own_pictures/arrow.py",
        "start = max(number - first, 0)",
        "start = 0",
        "tests/data/own_pictures/test_archives.py",
    ),
    Fault(
        "captions that are cut look distinct",
        "flaxgan/run/data_report.py",
        "left = len(np.unique(np.concatenate([tokens, mask], axis=1), axis=0))",
        "left = len(sample)",
        "tests/run/test_data_report.py",
    ),
    Fault(
        "own pictures: tar members of one name mix",
        DATA + "own_pictures/webdataset.py",
        'base.partition(".")',
        'base.rpartition(".")',
        "tests/data/own_pictures/test_layouts.py -k tar",
    ),
    Fault(
        "own pictures: UTF-8 with a mark",
        "flaxgan/clean_text.py",
        'else "utf-8-sig")',
        'else "utf-8")',
        "tests/data/own_pictures/test_corpus.py",
    ),
    Fault(
        "photos lie on their side",
        DATA + "pictures.py",
        "    6: Image.Transpose.ROTATE_270,",
        "    6: Image.Transpose.ROTATE_90,",
        "tests/data/test_pictures.py",
    ),
    # text
    Fault(
        "a word is swapped for itself",
        "flaxgan/text/swaps.py",
        "at = np.where(at < own_start, at, at + own_stop - own_start)",
        "at = np.where(at < own_start, at, at)",
        "tests/text/test_swaps.py",
    ),
    Fault(
        "captions are cut by letters",
        "flaxgan/text/learned.py",
        "caption.encode()[:max_tokens]",
        'caption[:max_tokens].encode("utf-8", "replace")[: max_tokens - 1]',
        "tests/text/test_learned.py",
    ),
    Fault(
        "cut captions lose their end token",
        "flaxgan/text/learned.py",
        "[*ids[: self.max_tokens - 1], ids[-1]]",
        "ids[: self.max_tokens]",
        "tests/text/test_encoder.py -k words",
    ),
    Fault(
        "sentence vectors are not centred",
        "flaxgan/text/conditioning.py",
        "(vectors.astype(jnp.float32) - stats.mean) / stats.sd",
        "vectors.astype(jnp.float32) / stats.sd",
        "tests/text/test_conditioning.py",
    ),
    Fault(
        "rows of the table are of another caption",
        "flaxgan/text/in_context.py",
        "rows[inverse.reshape(-1)]",
        "rows[inverse.reshape(-1)[::-1]]",
        "tests/text/test_in_context.py",
    ),
    Fault(
        "the farthest fake is pulled",
        LOSSES + "imle.py",
        "jnp.argmin(distances, axis=0)",
        "jnp.argmax(distances, axis=0)",
        "tests/losses/test_imle.py",
    ),
    Fault(
        "the nearest fake does not learn",
        TRAINING + "objective.py",
        "imle.multiscale_l1(self.draw_images(g_params, z, batch), real)",
        "imle.multiscale_l1(self.draw_images(constants, z, batch), real)",
        OBJECTIVE_TESTS + " -k nearest",
    ),
    # enlarging
    Fault(
        "small pictures are not means",
        "flaxgan/models/low_pictures.py",
        "times, c).mean(axis=(2, 4))",
        "times, c)[:, :, 0, :, 0]",
        "tests/models/test_upsampler.py -k means",
    ),
    Fault(
        "small pictures have no faults in training",
        TRAINING + "step.py",
        'with_picture(generator, texts["text"], real, draw.keys("shrink"))',
        'with_picture(generator, texts["text"], real)',
        "tests/run/test_upsampler_run.py -k key_for_each",
    ),
    Fault(
        "D does not see the small picture",
        TRAINING + "objective.py",
        "() if text is None or text.picture is None else (text.picture,)",
        "()",
        "tests/training/test_step.py -k upsample",
    ),
    # holes
    Fault(
        "what is in a hole shines through",
        "flaxgan/models/inpainter.py",
        "jnp.concatenate([images * (1.0 - holes), holes], axis=-1)",
        "jnp.concatenate([images, holes], axis=-1)",
        "tests/models/test_inpainter.py -k lose",
    ),
    Fault(
        "the picture is drawn outside of the hole too",
        "flaxgan/models/inpainter.py",
        "jnp.where(picture[..., -1:] > 0, drawn, picture[..., :-1])",
        "drawn",
        "tests/models/test_inpainter.py -k bit",
    ),
    Fault(
        "D does not see the hole",
        "flaxgan/models/inpainter.py",
        "space_to_depth(picture[..., -1:], self.patch)",
        "space_to_depth(0 * picture[..., -1:], self.patch)",
        "tests/models/test_inpainter.py -k where_the_hole",
    ),
    Fault(
        "half-masked pixels count as known",
        "flaxgan/drawing/filling.py",
        "missing = share < WHOLE",
        "missing = share < 0.5",
        "tests/run/test_inpainter_run.py -k square_of_known",
    ),
    Fault(
        "PSNR of another base",
        EVALUATE + "psnr_evaluator.py",
        "10.0 * np.log10(255.0**2",
        "20.0 * np.log10(255.0**2",
        "tests/evaluate/test_psnr_evaluator.py",
    ),
    # evaluate
    Fault(
        "Fréchet distance of another norm",
        EVALUATE + "frechet.py",
        'np.linalg.norm(cross, ord="nuc")',
        'np.linalg.norm(cross, ord="fro")',
        "tests/evaluate/test_frechet.py",
    ),
    Fault(
        "KID is biased",
        EVALUATE + "kernel.py",
        "/ (len(z) * (len(z) - 1))",
        "/ len(z) ** 2",
        "tests/evaluate/test_kernel.py",
    ),
    Fault(
        "precision and recall of other neighbours",
        EVALUATE + "manifold.py",
        "radii[rows] = squared[:, k]",
        "radii[rows] = squared[:, k - 1]",
        "tests/evaluate/test_manifold.py",
    ),
    Fault(
        "recall looks into the wrong balls",
        EVALUATE + "manifold.py",
        "np.count_nonzero((squared < fake_radii).any(axis=1))",
        "np.count_nonzero(inside.any(axis=1))",
        "tests/evaluate/test_manifold.py",
    ),
    Fault(
        "binding counts beards of the hair's colour",
        EVALUATE + "attribute_accuracy.py",
        "where &= asked.truth[:, i] != asked.truth[:, j]",
        "where &= asked.truth[:, i] >= 0",
        "tests/evaluate/test_attribute_accuracy.py",
    ),
    Fault(
        "repeats of what captions name",
        EVALUATE + "attribute_accuracy.py",
        "name: float(equal[~asked.named[:, k], k].mean())",
        "name: float(equal[:, k].mean())",
        "tests/evaluate/test_attribute_accuracy.py",
    ),
    Fault(
        "pictures are shrunk without antialiasing",
        EVALUATE + "resize.py",
        "matrix = _windowed(at, size_in, max(scale, 1.0), _triangle)",
        "matrix = _windowed(at, size_in, 1.0, _triangle)",
        "tests/evaluate/test_resize.py",
    ),
    Fault(
        "splits of stacked digits share source digits",
        DATA + "stacked_digits.py",
        "% TEST_EVERY == TEST_EVERY - 1) == wanted",
        "% TEST_EVERY == TEST_EVERY - 1) >= wanted",
        "tests/data/test_stacked_digits.py",
    ),
    Fault(
        "every colour has the same digit",
        DATA + "stacked_digits.py",
        "digits = random[:, : len(CHANNELS)]",
        "digits = random[:, [0, 0, 0]]",
        "tests/data/test_stacked_digits.py",
    ),
    Fault(
        "modes that nobody drew do not count against evenness",
        EVALUATE + "mode_evaluator.py",
        "np.log(p * len(counts))",
        "np.log(p * len(p))",
        "tests/evaluate/test_mode_evaluator.py",
    ),
    Fault(
        "colours of digits are mixed up",
        EVALUATE + "networks/digit_net.py",
        "jnp.moveaxis(x, -1, 1)",
        "jnp.moveaxis(x, -1, 0)",
        "tests/evaluate/networks/test_digit_net.py",
    ),
    # config and drawing
    Fault(
        "NaN in a config",
        "flaxgan/config/values.py",
        "isinstance(value, float) and not math.isnan(value)",
        "isinstance(value, float)",
        "tests/config/test_config.py tests/robustness/test_security.py -k config",
    ),
    Fault(
        "--flag=value loses its value",
        "flaxgan/config/flags.py",
        'value = word.split("=", 1)[1]',
        'value = word.split("=", 1)[0]',
        "tests/config/test_config.py",
    ),
    Fault(
        "every seed draws the same pictures",
        "flaxgan/drawing/drawer.py",
        'rng.stream(jax.random.key(seed), "sample")',
        'rng.stream(jax.random.key(0), "sample")',
        "tests/drawing/test_sampler.py",
    ),
    Fault(
        "grids are transposed",
        "flaxgan/drawing/grids.py",
        "(i % columns * w, i // columns * h)",
        "(i // columns * w, i % columns * h)",
        "tests/drawing/test_grids.py",
    ),
    Fault(
        "pictures are darker",
        "flaxgan/images.py",
        "jnp.round((images + 1.0) * 127.5)",
        "jnp.floor((images + 1.0) * 127.5)",
        "tests/test_images.py",
    ),
    Fault(
        "half written files stay",
        "flaxgan/atomic_write.py",
        "        os.unlink(temporary)",
        "        pass",
        "tests/test_atomic_write.py",
    ),
)


def make(fault: Fault, root: Path) -> str | None:
    """Makes a fault in a tree; what is in the way, or None."""
    path = root / fault.file
    if not path.is_file():
        return f"there is no {fault.file}"
    text = path.read_text("utf-8")
    if (count := text.count(fault.old)) != 1:
        return f"{fault.file} holds {fault.old!r} {count} times, not once"
    path.write_text(text.replace(fault.old, fault.new), "utf-8")
    return None


def run_tests(root: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of pytest in a tree, in one process, until the first failure."""
    options = ["-n", "0", "-q", "-x", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def arguments(tests: str) -> list[str]:
    """Of pytest: whatever stands after -k is one expression."""
    files, _, expression = tests.partition(" -k ")
    return [*files.split(), *(["-k", expression] if expression else [])]


def judge(fault: Fault | None, tests: str, source: Path) -> tuple[str, str]:
    """Makes a fault, or none, in a copy of the tree, and runs tests there.

    Returns:
      "caught", "survived", or "unclear", where the fault could not be made or the tests not be run;
      and why.
    """
    with tempfile.TemporaryDirectory(prefix="flaxgan-mutant-") as folder:
        root = Path(folder) / "tree"
        shutil.copytree(source, root, ignore=LEFT_OUT)
        if fault is not None and (problem := make(fault, root)):
            return "unclear", problem
        code, output = run_tests(root, arguments(tests))
    if code == PASSED:
        return "survived", output
    if code == FAILED or code < 0:  # a process that dies is noticed too
        return "caught", output
    return "unclear", output


def main(argv: Sequence[str] | None = None, faults: Sequence[Fault] = FAULTS) -> int:
    """Prints one line for each fault; 1 unless all are caught by tests that pass without them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="NAME", action="append", help="faults of these names")
    parser.add_argument("--list", action="store_true", help="print the table, and run nothing")
    parser.add_argument("--skip-clean", action="store_true", help="do not run the tests without")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the tree")
    options = parser.parse_args(argv)
    unknown = set(options.only or ()) - {fault.name for fault in faults}
    if unknown:
        parser.error(f"there is no fault {sorted(unknown)[0]!r}; --list names them")
    chosen = [fault for fault in faults if not options.only or fault.name in options.only]
    if options.list:
        for fault in chosen:
            print(f"{fault.name}\n  {fault.file}: {fault.old!r} -> {fault.new!r}\n  {fault.tests}")
        return 0
    missed = []
    if not options.skip_clean:
        for tests in dict.fromkeys(fault.tests for fault in chosen):
            verdict, output = judge(None, tests, options.root)
            if verdict != "survived":
                print(f"without a fault, these do not pass: {tests}\n{output[-2000:]}", flush=True)
                missed.append(tests)
    caught = 0
    for fault in chosen:
        start = time.monotonic()
        verdict, output = judge(fault, fault.tests, options.root)
        caught += verdict == "caught"
        print(f"{verdict:<8}  {time.monotonic() - start:4.0f} s  {fault.name}", flush=True)
        if verdict == "unclear":
            print(output[-2000:], flush=True)
    print(f"{caught} of {len(chosen)} are caught")
    return 0 if caught == len(chosen) and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
