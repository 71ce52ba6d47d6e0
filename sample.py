"""Draws pictures: python sample.py --prompt "a woman with long pink hair" --num 8 --out out.png."""

from flaxgan.times import part

with part("imports"):
    from flaxgan.commands import cli, sample

if __name__ == "__main__":
    cli.run(sample.main)
