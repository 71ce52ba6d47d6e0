"""`python -m flaxgan.evaluate`: scores a checkpoint, or any folder of pictures."""

from flaxgan import cli

if __name__ == "__main__":
    cli.prepare_process(0)
    from flaxgan.evaluate.command import main

    cli.run(main)
