"""`flaxgan evaluate`: scores a checkpoint, or any folder of pictures."""

from flaxgan.commands import cli

if __name__ == "__main__":
    cli.prepare_process(0)
    from flaxgan.commands.evaluate import main

    cli.run(main)
