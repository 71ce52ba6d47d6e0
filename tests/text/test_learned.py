"""Bytes, and the transformer that is learned over them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flaxgan.text.conditioning import Text
from flaxgan.text.learned import byte_tokenize
from flaxgan.text.transformer import TextTransformer


def test_bytes_of_utf8():
    tokens, mask = byte_tokenize(["ab", "é", "圆", ""], 5)
    np.testing.assert_array_equal(
        tokens, [[97, 98, 0, 0, 0], [195, 169, 0, 0, 0], [229, 156, 134, 0, 0], [0] * 5]
    )
    np.testing.assert_array_equal(mask.sum(axis=1), [2, 2, 3, 1])


def test_a_cut_may_fall_into_a_character():
    tokens, mask = byte_tokenize(["圆圆"], 4)
    np.testing.assert_array_equal(tokens, [[229, 156, 134, 229]])
    assert mask.all()


def test_it_learns_which_word_stands_first():
    """Word order, in two alphabets, which a bag of bytes does not hold: the gradient gets there."""
    captions = ["red on blue", "blue on red", "红在蓝上", "蓝在红上"]
    tokens, mask = byte_tokenize(captions, 16)
    labels = jnp.array([0, 1, 0, 1])
    module = TextTransformer(dim=16, depth=1, max_tokens=16, vocabulary=256)
    text = Text(tokens=tokens, mask=mask)
    init = functools.partial(module.init, method="features")
    variables = jax.jit(init)(jax.random.key(1), text)
    tx = optax.adam(1e-2)

    def loss(variables):
        sentence = module.apply(variables, text, method="features").sentence
        return optax.softmax_cross_entropy_with_integer_labels(sentence[:, :2], labels).mean()

    @jax.jit
    def update(variables, opt_state):
        value, grads = jax.value_and_grad(loss)(variables)
        updates, opt_state = tx.update(grads, opt_state)
        return optax.apply_updates(variables, updates), opt_state, value, grads

    opt_state = tx.init(variables)
    _, _, first, grads = update(variables, opt_state)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        # a bias of attention keys moves all scores alike: softmax does not see it
        if "['key']['bias']" not in jax.tree_util.keystr(path):
            assert np.abs(grad).max() > 0, path
    for _ in range(60):
        variables, opt_state, last, _ = update(variables, opt_state)
    assert first > 0.5
    assert last < 0.05
