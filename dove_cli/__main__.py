"""Entry point of `python -m dove_cli`, and so of `torchrun ... -m dove_cli train ...`."""

from dove_cli.main import run

if __name__ == "__main__":
    run()
