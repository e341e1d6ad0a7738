"""`python -m usmd` is `usmd`."""

from usmd.cli import main

if __name__ == "__main__":
    main()
