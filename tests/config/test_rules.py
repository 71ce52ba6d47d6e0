"""The one check of a config: a row for every rule, and what it says."""

import pytest

from flaxgan.config import Config, check, set_field
from flaxgan.config.rules import RULES
from flaxgan.errors import UserError

NONE = {"text.encoder": "none", "loss.mismatch_weight": 0.0}
WORDS = {"text.encoder": "words", "loss.contrastive_d_weight": 1.0, "model.embed_dim": 8}
# (fields, the line)
BROKEN = [
    ({"data.resolution": 3}, "data.resolution must be >= 4, not 3"),
    ({"data.resolution": 16384}, "data.resolution must be at most 8192, not 16384"),
    ({"data.channels": 4}, "data.channels must be one of 1, 3, not 4"),
    ({"data.fit": "squeeze"}, "data.fit must be one of crop, pad, not squeeze"),
    ({"data.horizontal_flip": "no"}, "data.horizontal_flip must be one of auto, on, off, not no"),
    ({"data.caption_templates": ()}, 'data.caption_templates must hold "{}", the place of'),
    ({"data.caption_templates": ("{}", "a")}, 'data.caption_templates must hold "{}", the place'),
    ({"data.max_captions": -1}, "data.max_captions must be >= 0, not -1"),
    ({"data.in_memory_mb": -1}, "data.in_memory_mb must be >= 0, not -1"),
    ({"data.num_workers": -1}, "data.num_workers must be >= 0, not -1"),
    ({"data.caption_dropout": 1.0}, "data.caption_dropout must be in [0, 1), not 1.0"),
    ({**NONE, "data.caption_dropout": 0.1}, "data.caption_dropout needs captions: set it to 0"),
    ({"data.caption_key": ""}, "text.encoder needs captions: set data.caption_key, or"),
    *(
        ({f"text.{name}": 0}, f"text.{name} must be >= 1, not 0")
        for name in ("max_tokens", "batch_size", "dim", "depth")
    ),
    *(
        ({f"text.{name}": 70000}, f"text.{name} must be at most 65536, not 70000")
        for name in ("max_tokens", "batch_size", "dim")
    ),
    ({"text.direct": True}, "text.direct needs text.encoder words or e5_tokens, not e5"),
    ({"text.encoder": "e5_tokens", "text.layers": 13}, "text.layers must be in [1, 12], not 13"),
    ({"text.depth": 300}, "text.depth must be at most 256, not 300"),
    ({"text.max_tokens": 7}, "text.max_tokens must be in [8, 512], not 7"),
    ({**WORDS, "text.dim": 24}, "text.dim must be a multiple of 16, not 24"),
    ({"model.output": "relu"}, "model.output must be one of tanh, linear, not relu"),
    ({"model.dtype": "float16"}, "model.dtype must be one of float32, bfloat16, not float16"),
    *(
        ({f"model.{name}": 0}, f"model.{name} must be >= 1, not 0")
        for name in ("z_dim", "g_channels", "d_channels", "patch", "w_dim", "g_blocks", "d_blocks")
    ),
    *(
        ({f"model.{name}": -1}, f"model.{name} must be >= 0, not -1")
        for name in ("embed_dim", "token_match", "group_width")
    ),
    *(
        ({f"model.{name}": 70000}, f"model.{name} must be at most 65536, not 70000")
        for name in (
            *("z_dim", "g_channels", "d_channels", "patch", "w_dim", "embed_dim"),
            *("token_match", "group_width"),
        )
    ),
    ({"model.g_blocks": 2000}, "model.g_blocks must be at most 1024, not 2000"),
    ({"model.d_blocks": 2000}, "model.d_blocks must be at most 1024, not 2000"),
    ({"model.expansion": 0.0}, "model.expansion must be > 0, not 0.0"),
    ({"model.token_match": 4}, "model.token_match looks for words, and needs a learned"),
    (
        {"model.patch": 4},
        "model.patch is not read by the dfgan family (r3gan, gat, upsampler, inpainter read it): "
        "leave",
    ),
    (
        {"text.encoder": "none"},
        "loss.mismatch_weight needs captions: set it to 0 when text.encoder is none",
    ),
    *(
        ({**NONE, f"loss.{name}": 0.5}, f"loss.{name} needs captions: set it to 0 when")
        for name in (
            *("mismatch_fake_weight", "g_mismatch_weight"),
            *("contrastive_d_weight", "contrastive_g_weight"),
        )
    ),
    ({"loss.mismatch_weight": 1.5}, "loss.mismatch_weight must be in [0, 1], not 1.5"),
    ({"loss.mismatch_fake_weight": -1.0}, "loss.mismatch_fake_weight must be in [0, 1], not -1.0"),
    (
        {"loss.mismatch_fake_weight": 0.75},
        "loss.mismatch_weight and loss.mismatch_fake_weight are shares: their sum must be at most "
        "1, not 1.25",
    ),
    ({"loss.penalty_every_steps": 0}, "loss.penalty_every_steps must be >= 1, not 0"),
    ({"loss.contrastive_negatives": -1}, "loss.contrastive_negatives must be >= 0, not -1"),
    ({"loss.contrastive_swaps": -1}, "loss.contrastive_swaps must be >= 0, not -1"),
    ({"loss.contrastive_negatives": 1}, "loss.contrastive_negatives needs loss.contrastive_d"),
    (
        {"text.encoder": "words", "loss.contrastive_swaps": 1},
        "loss.contrastive_swaps needs loss.contrastive_d_weight or contrastive_g_weight > 0",
    ),
    (
        {**WORDS, "text.encoder": "e5", "loss.contrastive_swaps": 1},
        "loss.contrastive_swaps changes words, and needs text.encoder e5_tokens, words or bytes, ",
    ),
    (
        {"model.family": "mlp", "model.frozen_features": True, "data.resolution": 72},
        "model.frozen_features needs data.resolution below 64 or a multiple of 16, not 72",
    ),
    ({"train.d_alone_kimg": -1.0}, "train.d_alone_kimg must be >= 0, not -1.0"),
    ({"train.d_alone_kimg": 5.0}, "train.d_alone_kimg needs loss.contrastive_d_weight above 0"),
    ({"train.alone_kimg": -1.0}, "train.alone_kimg must be >= 0, not -1.0"),
    ({"train.alone_kimg": 5.0}, "train.alone_kimg needs loss.imle_weight above 0, by which G"),
    ({"loss.imle_noises": 0}, "loss.imle_noises must be in [1, 64], not 0"),
    ({"loss.contrastive_d_weight": 1.0}, "loss.contrastive_d_weight and contrastive_g_weight"),
    ({"loss.fd_eps": 0.0}, "loss.fd_eps must be > 0, not 0.0"),
    *(
        ({f"loss.{name}": -1.0}, f"loss.{name} must be >= 0, not -1.0")
        for name in (
            *("g_mismatch_weight", "contrastive_d_weight", "contrastive_g_weight", "gamma"),
            *("ma_gp_weight", "ma_gp_power", "gamma_end", "gamma_decay_kimg"),
            *("imle_weight", "imle_weight_end", "imle_decay_kimg"),
            *("frozen_weight", "frozen_gamma"),
        )
    ),
    *(
        ({f"augment.{name}": 1.5}, f"augment.{name} must be in [0, 1], not 1.5")
        for name in ("p", "p_end", "ada_target")
    ),
    ({"augment.ada_target": 0.6}, "augment.ada_target needs augment.policies, and augment.ada"),
    *(
        ({f"{opt}.{name}": -1.0}, f"{opt}.{name} must be >= 0, not -1.0")
        for opt in ("g_opt", "d_opt")
        for name in ("lr", "lr_end", "decay_kimg", "warmup_kimg")
    ),
    *(
        ({f"{opt}.{name}": 1.0}, f"{opt}.{name} must be in [0, 1), not 1.0")
        for opt in ("g_opt", "d_opt")
        for name in ("b1", "b2")
    ),
    ({"train.seed": -1}, "train.seed must be in [0, 2^32), not -1"),
    ({"train.seed": 2**32}, "train.seed must be in [0, 2^32), not 4294967296"),
    ({"train.mode": "pmpa"}, "train.mode must be one of pmap, shard_map, jit, not pmpa"),
    *(
        ({f"train.{name}": 0.0}, f"train.{name} must be > 0, not 0.0")
        for name in ("total_kimg", "grid_every_kimg", "save_every_kimg")
    ),
    ({"train.total_kimg": 1e10}, "train.total_kimg must be at most 1e+09, not 10000000000.0"),
    *(
        ({f"train.{name}": 0}, f"train.{name} must be >= 1, not 0")
        for name in (
            *("batch_size", "accumulate_steps", "log_every_steps", "grid_rows", "grid_cols"),
            *("keep_last", "max_skips_in_row"),
        )
    ),
    *(
        ({f"train.{name}": -1}, f"train.{name} must be >= 0, not -1")
        for name in (
            *("ema_halflife_kimg", "ema_slow_halflife_kimg", "ema_rampup", "shard_above"),
            *("max_rollbacks", "stall_minutes", "freeze_d_blocks"),
        )
    ),
    ({"eval.metrics": ()}, "eval.metrics names no metric; there are: fd_pixels8, fd_efflite0"),
    ({"eval.metrics": ("emoji_retrieval",)}, "emoji_retrieval is for the data set emoji, not av"),
    ({"eval.metrics": ("attributes",)}, "attributes need a generator trained with data.horizon"),
    (
        {"eval.metrics": ("attributes",), "data.path": "my_pictures"},
        "attributes are known for the data set avatars in RGB only",
    ),
    ({"eval.metrics": ("modes",)}, "modes are counted for the data set stacked_digits in RGB at"),
    (
        {"eval.metrics": ("modes",), "data.name": "stacked_digits/tiny"},  # at 64 pixels
        "modes are counted for the data set stacked_digits in RGB at 32 pixels only",
    ),
    (
        {
            "eval.metrics": ("modes",),
            "data.name": "stacked_digits",
            "data.resolution": 32,
            "data.horizontal_flip": "on",
        },
        "modes need a generator trained with data.horizontal_flip off: a mirrored digit is none",
    ),
    *(
        ({"eval.metrics": (name,)}, f"these metrics need the {what}: --{field} PATH (in training:")
        for name, field, what in (
            ("fid", "inception", "file pt_inception-2015-12-05-6726825d.pth"),
            ("kid", "inception", "file pt_inception-2015-12-05-6726825d.pth"),
            ("prdc", "inception", "file pt_inception-2015-12-05-6726825d.pth"),
            ("fd_dinov2", "dinov2", "folder of a DINOv2 model"),
            ("kid_dinov2", "dinov2", "folder of a DINOv2 model"),
            ("prdc_dinov2", "dinov2", "folder of a DINOv2 model"),
            ("clip", "clip", "folder of a CLIP model"),
            ("cmmd", "clip", "folder of a CLIP model"),
        )
    ),
    ({"eval.num_images": 1}, "eval.num_images must be >= 2, not 1"),
    ({"eval.batch_size": 0}, "eval.batch_size must be >= 1, not 0"),
    ({"eval.prdc_k": 0}, "eval.prdc_k must be >= 1, not 0"),
    ({"eval.seed": -1}, "eval.seed must be in [0, 2^32), not -1"),
    (
        {"eval.inception_resize": "nearest"},
        "eval.inception_resize must be one of bilinear, tf1, bicubic_antialias, not nearest",
    ),
]


def config_with(fields):
    config = Config()
    for name, value in fields.items():
        config = set_field(config, name, value)
    return config


@pytest.mark.parametrize(("fields", "line"), BROKEN, ids=[repr(fields) for fields, _ in BROKEN])
def test_each_broken_rule_is_said_in_one_line(fields, line):
    with pytest.raises(UserError) as error:
        check(config_with(fields))
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_every_rule_has_a_row():
    broken = {fields[-1] for fields in map(list, (fields for fields, _ in BROKEN))}
    told = " ".join(line for _, line in BROKEN)
    silent = [rule.field for rule in RULES if rule.field not in broken and rule.field not in told]
    assert not silent
    configs = [config_with(fields) for fields, _ in BROKEN]
    for rule in RULES:
        assert any(rule.error(config) for config in configs), rule


def test_sections_are_checked_alone():
    config = config_with({"train.seed": -1, "loss.fd_eps": 0.0})
    check(config, "model", "data", "train.batch_size")
    with pytest.raises(UserError, match="train"):
        check(config, "train")
    with pytest.raises(UserError, match="loss"):
        check(config, "loss")
