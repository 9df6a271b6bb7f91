"""``python -m resvox`` is ``resvox``."""

from resvox.cli import main

if __name__ == "__main__":
    main()
