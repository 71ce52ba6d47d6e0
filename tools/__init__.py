"""For those who maintain flaxgan; not part of the installed package."""
