"""The one check of a config: every rule that needs nothing but the config.

Rules of one member of a table (a model family, a text encoder, a metric) live with that member.
What needs more than the config, such as the number of devices, is checked where that is known.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator
from typing import Any

from flaxgan.config.fields import SHARED_MODEL_FIELDS, Config, ModelConfig
from flaxgan.config.rule import Rule, above, at_least, at_most, one_of, one_of_its_type, within
from flaxgan.errors import UserError
from flaxgan.registry import OWNERS, table_of

# a config can come out of somebody else's checkpoint: no network of it may take for ever to build
MOST_BLOCKS, WIDEST, LARGEST_SIDE, MOST_LAYERS = 1024, 2**16, 8192, 256
LONGEST_KIMG = 1e9  # steps are counted in int32
NEED_CAPTIONS = (
    "loss.mismatch_weight",
    "loss.mismatch_fake_weight",
    "loss.g_mismatch_weight",
    "loss.contrastive_d_weight",
    "loss.contrastive_g_weight",
)


def check(config: Config, *sections: str) -> None:
    """Raises a UserError that names the first field that is wrong, and what it may be.

    Args:
      config: once flags and automatic settings have settled it.
      *sections: "loss", "model" …, or single fields, that are checked; none: everything.
    """
    for field in OWNERS:
        if _wanted(field, sections) and field != "data.name":  # any TFDS data set has a name
            _check_name(config, field)
    for rule in (*RULES, *_members_rules(config, sections)):
        if _wanted(rule.field, sections) and (problem := rule.error(config)) is not None:
            raise UserError(problem)
    if _wanted("model.options", sections):
        table_of("model.family")[config.model.family].read_options(config.model)


def _wanted(field: str, sections: tuple[str, ...]) -> bool:
    return not sections or any(f"{field}.".startswith(f"{name}.") for name in sections)


def _check_name(config: Config, field: str) -> None:
    table, value = table_of(field), operator.attrgetter(field)(config)
    for name in value if isinstance(value, tuple) else (value,):
        try:
            table[name]
        except UserError as error:  # a table that two fields share is named after one of them
            raise UserError(str(error).replace(table.field, field, 1)) from error


def _members_rules(config: Config, sections: tuple[str, ...]) -> Iterator[Rule]:
    """Rules of the members that a config chooses; a table that is not needed is not imported."""
    if _wanted("model.family", sections):
        yield from _unread_fields(config)
        yield from table_of("model.family")[config.model.family].rules
    if _wanted("text.encoder", sections):
        yield from table_of("text.encoder")[config.text.encoder].rules
    if _wanted("eval.metrics", sections):
        for name in config.eval.metrics:
            yield from table_of("eval.metrics")[name].rules


def _unread_fields(config: Config) -> Iterator[Rule]:
    """A field of another family that somebody has set is not silently ignored."""
    families = table_of("model.family")
    for field in dataclasses.fields(ModelConfig):
        name, family = field.name, config.model.family
        if name not in SHARED_MODEL_FIELDS | families[family].fields:
            readers = [other for other, member in families.items() if name in member.fields]
            yield Rule(
                f"model.{name}",
                lambda value, _, default=field.default: value == default,
                f"model.{name} is not read by the {family} family ({', '.join(readers)} read it): "
                f"leave it at {field.default!r}, or choose another --model.family",
            )


def _conditional(config: Config) -> bool:
    return config.text.encoder != "none"


def _contrastive(config: Config) -> bool:
    return max(config.loss.contrastive_d_weight, config.loss.contrastive_g_weight) > 0


def _learned_text(config: Config) -> bool:
    return table_of("text.encoder")[config.text.encoder].module is not None


def _swappable_words(config: Config) -> bool:
    return _learned_text(config)


def _template_needs_a_place(templates: tuple[str, ...], _: Any) -> bool:
    return bool(templates) and all("{}" in template for template in templates)


# (field, rule, message), in the order in which they are checked
RULES: tuple[Rule, ...] = (
    # data
    *at_least(4, "data.resolution"),
    *at_most(LARGEST_SIDE, "data.resolution"),
    *one_of((1, 3), "data.channels"),
    *one_of_its_type("data.fit", "data.horizontal_flip"),
    Rule(
        "data.caption_templates",
        _template_needs_a_place,
        'data.caption_templates must hold "{}", the place of the name of the class or folder',
    ),
    *at_least(0, "data.max_captions", "data.in_memory_mb", "data.num_workers"),
    Rule(
        "data.caption_dropout",
        lambda share, _: 0 <= share < 1,
        "must be in [0, 1)",
    ),
    Rule(
        "data.caption_dropout",
        lambda share, config: not share or _conditional(config),
        "data.caption_dropout needs captions: set it to 0 with text.encoder none",
    ),
    # text
    Rule(
        "text.encoder",
        lambda _, config: not _conditional(config) or bool(config.data.caption_key),
        "text.encoder needs captions: set data.caption_key, or text.encoder to none",
    ),
    *at_least(1, "text.max_tokens", "text.batch_size", "text.dim", "text.depth"),
    *at_most(WIDEST, "text.max_tokens", "text.batch_size", "text.dim"),
    *at_most(MOST_LAYERS, "text.depth"),
    Rule(
        "text.direct",
        lambda direct, config: not direct or config.text.encoder in ("words", "e5_tokens"),
        lambda _, config: (
            f"text.direct needs text.encoder words or e5_tokens, not {config.text.encoder}"
        ),
    ),
    # model
    *one_of_its_type("model.output", "model.dtype"),
    Rule(
        "model.frozen_features",
        lambda on, config: (
            not on or config.data.resolution < 64 or config.data.resolution % 16 == 0
        ),
        lambda _, config: (
            "model.frozen_features needs data.resolution below 64 or a multiple of 16, not "
            f"{config.data.resolution}"
        ),
    ),
    *at_least(1, "model.z_dim", "model.g_channels", "model.d_channels", "model.patch"),
    *at_least(1, "model.w_dim", "model.g_blocks", "model.d_blocks"),
    *at_least(0, "model.embed_dim", "model.token_match", "model.group_width"),
    *at_most(WIDEST, "model.z_dim", "model.g_channels", "model.d_channels", "model.patch"),
    *at_most(WIDEST, "model.w_dim", "model.embed_dim", "model.token_match", "model.group_width"),
    *at_most(MOST_BLOCKS, "model.g_blocks", "model.d_blocks"),
    *above(0, "model.expansion"),
    Rule(
        "model.token_match",
        lambda side, config: not side or _learned_text(config),
        lambda _, config: (
            "model.token_match looks for words, and needs a learned text.encoder (words or bytes), "
            f"not {config.text.encoder}"
        ),
    ),
    # loss
    *(
        Rule(
            field,
            lambda weight, config: weight <= 0 or _conditional(config),
            f"{field} needs captions: set it to 0 when text.encoder is none",
        )
        for field in NEED_CAPTIONS
    ),
    *within(0, 1, "loss.mismatch_weight", "loss.mismatch_fake_weight"),
    Rule(
        "loss.mismatch_weight",
        lambda weight, config: weight + config.loss.mismatch_fake_weight <= 1,
        lambda weight, config: (
            "loss.mismatch_weight and loss.mismatch_fake_weight are shares: their sum must be at "
            f"most 1, not {weight + config.loss.mismatch_fake_weight}"
        ),
    ),
    *at_least(1, "loss.penalty_every_steps"),
    *at_least(0, "loss.contrastive_negatives", "loss.contrastive_swaps"),
    *(
        Rule(
            field,
            lambda count, config: not count or _contrastive(config),
            f"{field} needs loss.contrastive_d_weight or contrastive_g_weight > 0",
        )
        for field in ("loss.contrastive_negatives", "loss.contrastive_swaps")
    ),
    Rule(
        "text.encoder",
        lambda _, config: not config.loss.contrastive_swaps or _swappable_words(config),
        lambda _, config: (
            "loss.contrastive_swaps changes words, and needs text.encoder e5_tokens, words or "
            f"bytes, not {config.text.encoder}"
        ),
    ),
    Rule(
        "model.embed_dim",
        lambda size, config: size != 0 or not _contrastive(config),
        "loss.contrastive_d_weight and contrastive_g_weight need a space to compare in: set "
        "model.embed_dim",
    ),
    *above(0, "loss.fd_eps"),
    *at_least(0, "loss.frozen_weight", "loss.frozen_gamma"),
    *at_least(0, "loss.imle_weight", "loss.imle_weight_end", "loss.imle_decay_kimg"),
    *within(1, 64, "loss.imle_noises"),
    *at_least(0, "loss.g_mismatch_weight", "loss.contrastive_d_weight"),
    *at_least(0, "loss.contrastive_g_weight", "loss.ma_gp_weight", "loss.ma_gp_power"),
    *at_least(0, "loss.gamma", "loss.gamma_end", "loss.gamma_decay_kimg"),
    # augment
    *within(0, 1, "augment.p", "augment.p_end", "augment.ada_target"),
    Rule(
        "augment.ada_target",
        lambda target, config: (
            not target or bool(config.augment.policies and config.augment.ada_kimg > 0)
        ),
        "augment.ada_target needs augment.policies, and augment.ada_kimg > 0",
    ),
    # optimisers
    *(
        rule
        for name in ("g_opt", "d_opt")
        for rule in (
            *at_least(0, f"{name}.lr", f"{name}.lr_end"),
            *at_least(0, f"{name}.decay_kimg", f"{name}.warmup_kimg"),
            *(
                Rule(f"{name}.{beta}", lambda value, _: 0 <= value < 1, "must be in [0, 1)")
                for beta in ("b1", "b2")
            ),
        )
    ),
    # train
    *one_of_its_type("train.mode"),
    Rule("train.seed", lambda seed, _: 0 <= seed < 2**32, "must be in [0, 2^32)"),
    *above(0, "train.total_kimg", "train.grid_every_kimg", "train.save_every_kimg"),
    *at_most(LONGEST_KIMG, "train.total_kimg"),
    *at_least(1, "train.batch_size", "train.accumulate_steps", "train.log_every_steps"),
    *at_least(1, "train.grid_rows", "train.grid_cols", "train.keep_last"),
    *at_least(1, "train.max_skips_in_row"),
    *at_least(0, "train.ema_halflife_kimg", "train.ema_slow_halflife_kimg", "train.ema_rampup"),
    *at_least(0, "train.shard_above", "train.max_rollbacks", "train.stall_minutes"),
    *at_least(0, "train.freeze_d_blocks", "train.alone_kimg", "train.d_alone_kimg"),
    Rule(
        "train.d_alone_kimg",
        lambda kimg, config: kimg == 0 or config.loss.contrastive_d_weight > 0,
        "train.d_alone_kimg needs loss.contrastive_d_weight above 0, by which D learns alone",
    ),
    Rule(
        "train.alone_kimg",
        lambda kimg, config: kimg == 0 or config.loss.imle_weight > 0,
        "train.alone_kimg needs loss.imle_weight above 0, by which G learns alone",
    ),
    # eval
    Rule(
        "eval.metrics",
        lambda names, _: bool(names),
        lambda _, config: (
            f"eval.metrics names no metric; there are: {', '.join(table_of('eval.metrics'))}"
        ),
    ),
    *at_least(2, "eval.num_images"),
    *at_least(1, "eval.batch_size", "eval.prdc_k"),
    *one_of_its_type("eval.inception_resize"),
    Rule("eval.seed", lambda seed, _: 0 <= seed < 2**32, "must be in [0, 2^32)"),
)
