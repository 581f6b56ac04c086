"""`python -m ladd_data` is `ladd`."""

from ladd_data.cli import main

if __name__ == "__main__":
    main()
