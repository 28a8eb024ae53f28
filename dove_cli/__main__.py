"""`python -m dove_cli`, which torchrun can start: `torchrun -m dove_cli train ...`."""

from dove_cli.main import run

if __name__ == "__main__":
    run()
