"""What a family of networks is to the rest of flaxgan."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from flaxgan.config.fields import Config, ModelConfig
from flaxgan.config.rule import Rule
from flaxgan.config.values import check_types
from flaxgan.errors import UserError


@dataclasses.dataclass(frozen=True)
class Family:
    """One family, in `flaxgan.models.FAMILIES`.

    Attributes:
      build: (config, text encoders of G and of D) to (generator, discriminator), which keep the
        protocol of `flaxgan.models`. The encoders are modules that are learned with the network, or
        None for frozen sentence vectors or no text.
      fields: of the model section that it reads, beside SHARED_MODEL_FIELDS; the others must keep
        their defaults.
      rules: that its fields must fulfil.
      sizes: named sets of fields, for `flaxgan.models.variants`.
      options: dataclass of further options with defaults, for a family from outside the package:
        `--model.options depth=3` arrives in `read_options`.
      grow: (parameters by path, config there, config here) to parameters for a larger resolution
        where the family knows them; None: those that have a place there are taken as they are.
      adopt: name of another family -> what makes its parameters those of this one, as `grow`.
    """

    build: Callable[
        [Config, tuple[nn.Module | None, nn.Module | None]], tuple[nn.Module, nn.Module]
    ]
    fields: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()
    sizes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    options: type | None = None
    grow: Callable[[Mapping[str, Any], Config, Config], Mapping[str, Any]] | None = None
    adopt: Mapping[str, Callable[[Mapping[str, Any], Config, Config], Mapping[str, Any]]] = (
        dataclasses.field(default_factory=dict)
    )

    def read_options(self, config: ModelConfig) -> Any:
        """An instance of `options` with what `config.options` says; None without options.

        Raises:
          UserError: an option that the family does not have, or a value of another type.
        """
        if self.options is None:
            if config.options:
                raise UserError(f"model.options: the {config.family} family has none")
            return None
        fields = {field.name: field for field in dataclasses.fields(self.options)}
        values: dict[str, Any] = {}
        for text in config.options:
            name, _, value = text.partition("=")
            if name not in fields:
                raise UserError(
                    f"model.options must be among {', '.join(fields)} for {config.family}, "
                    f"not {name!r}"
                )
            values[name] = _parsed(value, type(fields[name].default))
        try:
            return check_types(self.options(**values), self.options, "")
        except ValueError as error:
            raise UserError(f"model.options: {error}") from error


def common(config: Config) -> dict[str, Any]:
    """Attributes that all networks have, but for the MLP also `remat`."""
    return {
        "resolution": config.data.resolution,
        "channels": config.data.channels,
        "dtype": jnp.dtype(config.model.dtype),
    }


def _parsed(text: str, kind: type) -> Any:
    """The value of an option; text that is no such value stays text, and is refused as such."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return kind(text)
    except ValueError:
        return text
