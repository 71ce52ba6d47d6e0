"""Which of two captions a discriminator prefers, head by head."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from flaxgan.data.avatars import sample_example
from flaxgan.drawing.reranking import Matcher
from flaxgan.evaluate.networks.attribute_net import load_attribute_classifier
from flaxgan.text.conditioning import Text, text_features
from tools.score_editing import change_one
from tools.score_matching import preferences


class Brightness(nn.Module):
    """Embeds a picture as its brightness; its logit likes captions that are far from it."""

    def image_features(self, images):
        return images.mean(axis=(1, 2, 3))[:, None]

    def encode_text(self, text):
        return text_features(None, text)

    def embed_image(self, features):
        return features

    def embed_text(self, words):
        return words.sentence

    def logits(self, features, words):
        return jnp.abs(features - words.sentence)[:, 0]


def test_each_head_is_asked_with_both_captions():
    matcher = Matcher(Brightness(), {}, None)
    images = np.stack([np.full((4, 4, 3), level, np.uint8) for level in (0, 255) * 40])
    told, wrong = (Text(sentence_emb=np.array([[-x], [x]] * 40, np.float32)) for x in (1.0, -1.0))
    found = preferences(matcher, images, told, wrong)
    np.testing.assert_allclose(found["matching head"], np.full(80, 2.0), atol=1e-6)
    np.testing.assert_allclose(found["logit"], np.full(80, -2.0), atol=1e-6)


def test_one_named_attribute_is_exchanged():
    classifier = load_attribute_classifier(32)
    change = next(filter(None, (change_one(index, classifier) for index in range(20))))
    attributes, captions = sample_example(
        "test", next(index for index in range(20) if change_one(index, classifier))
    )
    assert change.before in captions
    assert change.after != change.before
    assert change.value != attributes[change.attribute]
