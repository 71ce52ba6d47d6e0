"""`python -m flaxgan`: the same as the command `flaxgan`."""

from flaxgan.commands.main import main

if __name__ == "__main__":
    main()
