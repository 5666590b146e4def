"""python -m fkp VERB ...: the same as `fkp VERB ...`."""

from fkp.cli import main

if __name__ == "__main__":
    main()
