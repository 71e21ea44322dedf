"""Judge finished runs against theory; `python analyze.py --help` says how."""

from ntkscale.faces.analyze import main

if __name__ == "__main__":
    raise SystemExit(main())
