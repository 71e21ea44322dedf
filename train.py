"""Train networks anywhere between lazy and rich; `python train.py --help` lists the experiments."""

from ntkscale.faces.train import main

if __name__ == "__main__":
    raise SystemExit(main())
