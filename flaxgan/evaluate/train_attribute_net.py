"""Moved: see `flaxgan.commands.moved`."""

from flaxgan.commands.moved import say_where

if __name__ == "__main__":
    say_where("flaxgan.evaluate.train_attribute_net")
