"""``python -m modhifi_graph``: the command line."""

from modhifi_graph.cli import main

if __name__ == "__main__":
    main()
